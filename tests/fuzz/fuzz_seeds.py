"""What inputs are made from, by target: sound ones to begin with, and words to put into them.

`corpus/TARGET/*` are seeds as they are; `words/*.txt` has a word a line, with Python's escapes.
What a run or a library writes is made anew, so that it is always of today's form.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from fuzz_projects import FINGERPRINT, FLOW, house, sound_history, sound_lock

from poeflow.cassettes.recordings import (
    RecordedAnswer,
    RecordedExchange,
    RecordedRequest,
    chunk_of,
    events_in,
    recording_text,
)
from poeflow.digest import canonical, encode_json, sha256_of
from poeflow.flowfile.tables import ROW_SUFFIXES

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
_SCHEMAS: Final = {
    "cassette": "cassette.schema.json",
    "flow": "flow.schema.json",
    "lock": "lock.schema.json",
    "script": "simulator-script.schema.json",
    "shared": "project.schema.json",
}
"""Which bundled schema has the keys of a target's inputs."""
_WITHOUT_JSON: Final = frozenset({"flow", "template", "script", "shared", "inputs", "prompt_file"})
"""The targets whose inputs are not made of JSON."""


_LONG: Final = ("9" * 5_000, "[" * 1_200, '{"a":' * 1_200, "]" * 1_200, "}" * 1_200)
"""More digits than Python makes a number of, and more levels than it goes down."""


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """Return inputs that a target takes, or nearly takes."""
    files = (path.read_bytes() for path in sorted(HERE.glob(f"corpus/{target}/*")))
    made = _MADE.get(target, lambda: iter(()))
    return tuple(dict.fromkeys((*files, *made())))


@cache
def words(target: str) -> tuple[bytes, ...]:
    """Return what inputs of a target are made of."""
    found = [*_listed("common"), *_LONG, *_listed(target)]
    if target not in _WITHOUT_JSON:
        found += _listed("json")
    if target == "flow":
        found += _listed("template")
    if target in _SCHEMAS:
        text = (ROOT / "schemas" / _SCHEMAS[target]).read_text("utf-8")
        found += [f"{name}: " for name in re.findall(r'"([a-z_]{2,20})": \{', text)]
    return tuple(dict.fromkeys(word.encode("utf-8", "surrogatepass") for word in found if word))


def _listed(name: str) -> list[str]:
    path = HERE / "words" / f"{name}.txt"
    lines = path.read_text("ascii").split("\n") if path.exists() else []
    return [line.encode("ascii").decode("unicode_escape") for line in lines]


def _flows() -> Iterator[bytes]:
    yield FLOW.encode()
    for path in sorted((*ROOT.glob("flows/*.yaml"), *ROOT.glob("tests/cases/*/*.yaml"))):
        yield path.read_bytes()


def _templates() -> Iterator[bytes]:
    for path in sorted((*ROOT.glob("flows/prompts/**/*.md"), *ROOT.glob("tests/cases/**/*.md"))):
        yield path.read_bytes()


def _locks() -> Iterator[bytes]:
    """Yield the lock of a run, and what people and git make of one."""
    sound = sound_lock()
    middle = sound.index(b"\n", len(sound) // 2) + 1
    side = sound.splitlines(keepends=True)[2]
    marked = b"<<<<<<< HEAD\n" + side + b"=======\n" + side + b">>>>>>> other\n"
    yield sound
    yield sound[:middle] + marked + sound[middle:]
    yield b"<<<<<<< HEAD\n" + sound + b"=======\n" + sound + b">>>>>>> other\n"
    yield sound.replace(b'_lock": ', b'_lock": 99')
    yield sound.replace(b"each", b"gone")
    yield sound[:middle]


def _entries() -> Iterator[bytes]:
    whole = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    yield encode_json(
        {
            "format": 1,
            "fingerprint": FINGERPRINT,
            "sha256": sha256_of(canonical(whole)),
            "answer": whole,
            "request": {"model": "M"},
        }
    )
    yield encode_json(whole | {"usage": {"prompt_tokens": 3}, "object": "chat.completion"})


def _tables() -> Iterator[bytes]:
    import duckdb

    path = house("table").root / "rows.parquet"
    columns = "1 AS a, 'x' AS b, [1.5] AS c, DATE '2020-01-01' AS d, {'e': 'f'} AS g"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {columns}) TO '{path}' (FORMAT parquet)")
    yield bytes([ROW_SUFFIXES.index(".parquet")]) + path.read_bytes()


def _cassettes() -> Iterator[bytes]:
    """Yield a cassette with each form of a body, and half of one."""
    stream = b'data: {"n": 1}\n\nevent: a\ndata: []\n\n: ping\n\n\xff'
    asked = RecordedRequest(
        method="POST", path="/v1/chat/completions?a=1", type="application/json", json={"n": 1.5}
    )
    chunks = tuple(chunk_of(one, after=0.1) for one in events_in(stream))
    answers = (
        RecordedAnswer(status=200, headers={"content-type": "text/event-stream"}, stream=chunks),
        RecordedAnswer(status=429, headers={"retry-after": "1"}, json={"error": None}, after=2),
        RecordedAnswer(status=500, text="no", cut=True),
        RecordedAnswer(status=200, base64="/w=="),
    )
    texts = [recording_text(RecordedExchange(request=asked, response=answer)) for answer in answers]
    yield b"".join(texts)
    yield from texts
    yield texts[0] + texts[1][: len(texts[1]) // 2]
    yield b"[" * 900 + b"]" * 900


def _histories() -> Iterator[bytes]:
    yield sound_history()


_MADE: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "flow": _flows,
    "template": _templates,
    "lock": _locks,
    "entry": _entries,
    "table": _tables,
    "history": _histories,
    "cassette": _cassettes,
}
