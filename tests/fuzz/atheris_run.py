"""Fuzz one target by hand: `python tests/fuzz/atheris_run.py TARGET SECONDS [SEED]`.

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
from hashlib import sha256
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["poeflow", "jinja2", "jsonschema", "referencing"]):
    from fuzz_mutations import mutated
    from fuzz_seeds import seeds, words
    from fuzz_targets import MAX_INPUT, TARGETS, tried

SLOW = 8.0
HANGING = 30
MEGABYTES = 400
_OURS = 0.7


class Session:
    """Tries inputs until its time is over, and keeps one input of every fault."""

    def __init__(self, target: str, seconds: float) -> None:
        self._target = target
        self._began = time.monotonic()
        self._seconds = seconds
        self._count = 0
        self._slowest = 0.0
        self._faults: set[str] = set()

    def __call__(self, data: bytes) -> None:
        began = time.monotonic()
        if began - self._began > self._seconds:
            self._end()
        self._count += 1
        try:
            tried(TARGETS[self._target], data)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is a fault
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self._found(f"{type(error).__name__} {frame.filename}:{frame.lineno}", data, error)
        took = time.monotonic() - began
        self._slowest = max(self._slowest, took)
        if took > SLOW:
            self._found("slow", data, TimeoutError(f"it took {took:.1f} s"))

    def mutate(self, data: bytes, longest: int, seed: int) -> bytes:
        """Change an input by libFuzzer's means or by ours, which know the words."""
        random = Random(seed)
        if random.random() < _OURS:
            return mutated(data, random, words(self._target), seeds(self._target))[:longest]
        changed: bytes = atheris.Mutate(data, longest)
        return changed

    def _found(self, name: str, data: bytes, error: BaseException) -> None:
        if name in self._faults:
            return
        self._faults.add(name)
        path = Path(f"fault-{self._target}-{sha256(data).hexdigest()[:8]}")
        path.write_bytes(data)
        traceback.print_exception(error, limit=-6)
        self._say(f"fault {len(self._faults)} of {self._target}, {path}: {name}")

    def _say(self, line: str) -> None:
        print(line, flush=True)  # noqa: T201 - a tool to run by hand

    def _end(self) -> None:
        """Say what was done, and leave: libFuzzer would not come back from it."""
        told = f"{self._target}: {self._count:,} inputs in {self._seconds:.0f} s"
        self._say(f"{told}, slowest {self._slowest:.2f} s, faults {len(self._faults)}")
        os._exit(1 if self._faults else 0)


def _prepared(folder: Path, target: str) -> list[str]:
    """Write what a session begins with; return the options that name it."""
    corpus, dictionary = folder / "corpus", folder / "words.dict"
    corpus.mkdir()
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in words(target))
    dictionary.write_text("".join(f'"{word}"\n' for word in escaped), "ascii")
    return [f"-dict={dictionary}", str(corpus)]


def main(target: str, seconds: str, seed: str = "1") -> None:
    """Fuzz `target` for so many seconds; exit 1 where a fault was found."""
    if target not in TARGETS:
        sys.exit(f"there is no target {target}; there are {', '.join(TARGETS)}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options = [
            f"-timeout={HANGING}",
            f"-rss_limit_mb={MEGABYTES}",
            f"-max_len={MAX_INPUT}",
            f"-seed={seed}",
            "-verbosity=0",
            *_prepared(folder, target),
        ]
        session = Session(target, float(seconds))
        atheris.Setup([sys.argv[0], *options], session, custom_mutator=session.mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
