"""Fuzz by hand: `python tests/fuzz/atheris_run.py TARGET[,TARGET]...|all SECONDS [SEED]`.

Each fault is told once, and its input is written to the current folder. An input that takes over
8 seconds is a fault; one that takes half a minute, or 400 MB, ends the session. Needs
`pip install atheris`, which is no dependency of anything.
"""

import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import atheris

sys.path.append(str(Path(__file__).parents[1]))  # for what the other tests share, too
with atheris.instrument_imports(include=["poeflow", "jinja2", "jsonschema", "referencing"]):
    from fuzz_mutations import mutated
    from fuzz_projects import removed
    from fuzz_seeds import seeds, words
    from fuzz_targets import MAX_INPUT, TARGETS, tried

SLOW: Final = 8.0
HANGING: Final = 30
MEGABYTES: Final = 400
_OURS: Final = 0.7
_FROM_A_SEED: Final = 0.4


class Session:
    """Tries inputs until its time is over, and keeps one of every fault.

    The first byte of an input chooses among the targets.
    """

    def __init__(self, targets: Sequence[str], seconds: float, ended: Callable[[], None]) -> None:
        self._targets = targets
        self._ended = ended
        self._began = time.monotonic()
        self._seconds = seconds
        self._counts: Counter[str] = Counter()
        self._slowest = 0.0
        self._faults: set[str] = set()

    def __call__(self, whole: bytes) -> None:
        began = time.monotonic()
        if began - self._began > self._seconds:
            self._end()
        target, data = self._parted(whole)
        self._counts[target] += 1
        try:
            tried(TARGETS[target], data)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is a fault
            frame = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{type(error).__name__} {frame.filename}:{frame.lineno}"
            self._found(name, target, data, error)
        took = time.monotonic() - began
        self._slowest = max(self._slowest, took)
        if took > SLOW:
            self._found(f"slow {target}", target, data, TimeoutError(f"it took {took:.1f} s"))

    def mutate(self, whole: bytes, longest: int, seed: int) -> bytes:
        """Change an input by libFuzzer's means or by ours, which know the words.

        Now and then it is a seed of any target, so that none is left out.
        """
        random = Random(seed)
        target, data = self._parted(whole)
        if random.random() < _FROM_A_SEED:
            target = random.choice(self._targets)
            data = random.choice(seeds(target))
        if random.random() < _OURS:
            data = mutated(data, random, words(target), seeds(target))
        else:
            data = atheris.Mutate(data, longest - 1)
        return bytes([self._targets.index(target)]) + data[: longest - 1]

    def _parted(self, whole: bytes) -> tuple[str, bytes]:
        number = whole[0] if whole else 0
        return self._targets[number % len(self._targets)], whole[1:]

    def _found(self, name: str, target: str, data: bytes, error: BaseException) -> None:
        if name in self._faults:
            return
        self._faults.add(name)
        path = Path(f"fault-{target}-{sha256(data).hexdigest()[:8]}")
        path.write_bytes(data)
        traceback.print_exception(error, limit=-6)
        self._say(f"fault {len(self._faults)}: {name}: {path}")

    def _say(self, line: str) -> None:
        print(line, flush=True)  # noqa: T201 - a tool to run by hand

    def _end(self) -> None:
        """Say what was done, and leave: libFuzzer would not come back from it."""
        for target, count in self._counts.items():
            self._say(f"{target}: {count:,}")
        told = f"{self._counts.total():,} inputs in {self._seconds:.0f} s"
        self._say(f"{told}, slowest {self._slowest:.2f} s, faults {len(self._faults)}")
        self._ended()
        removed()
        os._exit(1 if self._faults else 0)


def _prepared(folder: Path, targets: Sequence[str]) -> list[str]:
    """Write what a session begins with; return the options that name it."""
    corpus, dictionary = folder / "corpus", folder / "words.dict"
    corpus.mkdir()
    for number, target in enumerate(targets):
        for index, seed in enumerate(seeds(target)):
            (corpus / f"{target}-{index}").write_bytes(bytes([number]) + seed)
    found = dict.fromkeys(word for target in targets for word in words(target))
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in found)
    dictionary.write_text("".join(f'"{word}"\n' for word in escaped), "ascii")
    return [f"-dict={dictionary}", str(corpus)]


def main(named: str, seconds: str, seed: str = "1") -> None:
    """Fuzz the targets named for so many seconds; exit 1 where a fault was found."""
    targets = [*TARGETS] if named == "all" else named.split(",")
    if unknown := [name for name in targets if name not in TARGETS]:
        sys.exit(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options = [
            f"-timeout={HANGING}",
            f"-rss_limit_mb={MEGABYTES}",
            f"-max_len={MAX_INPUT}",
            f"-seed={seed}",
            "-verbosity=0",
            *_prepared(folder, targets),
        ]
        session = Session(targets, float(seconds), stack.close)
        atheris.Setup([sys.argv[0], *options], session, custom_mutator=session.mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
