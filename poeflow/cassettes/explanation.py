"""Says in words what a cassette holds, which recording answers a request, or why none does."""

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from poeflow.cassettes.matching import Shelf, request_differences
from poeflow.cassettes.recordings import PlacedRecording, RecordedAnswer, RecordedRequest
from poeflow.digest import Json
from poeflow.redact import visible

_TEXT: Final = 60
_PATHS: Final = 10


def listed(shelf: Shelf, name: str) -> Iterator[str]:
    """Yield a line for each recording: where it is, what was asked, what was answered."""
    for number, read in enumerate(shelf.reads, start=1):
        request = read.recording.request
        numbers = shelf.numbers(request)
        turn = f" ({numbers.index(number) + 1} of {len(numbers)})" if len(numbers) > 1 else ""
        words = " ".join(_words(request))
        answer = _answer(read.recording.response)
        yield f"{number}  {name}:{read.line}  {_named(request)}{turn}  {visible(words)}"
        yield f"   {answer}"


def answering(shelf: Shelf, asked: RecordedRequest, name: str) -> list[str]:
    """Return lines that say which recordings answer a request, and in which order; maybe none."""
    numbers = shelf.numbers(asked)
    if not numbers:
        return []
    reads = [(number, shelf.reads[number - 1]) for number in numbers]
    places = [f"recording {number} ({name}:{read.line})" for number, read in reads]
    first = f"{places[0]} answers it: {_answer(reads[0][1].recording.response)}"
    then = [
        f"asked again: {place}: {_answer(read.recording.response)}"
        for place, (_, read) in zip(places[1:], reads[1:], strict=True)
    ]
    return [first, *then, "after that: the last one each time"]


def why_not(shelf: Shelf, asked: RecordedRequest, name: str) -> list[str]:
    """Return lines that say why no recording answers, and what the nearest one has instead."""
    lines = [f"not recorded in {name}: {_named(asked)}"]
    number = shelf.nearest(asked)
    if number is None:
        return [*lines, f"recorded are: {_paths(shelf.reads)}"]
    nearest = shelf.reads[number - 1]
    place = f"recording {number} ({name}:{nearest.line})"
    return [
        *lines,
        f"the nearest is {place}; - is recorded, + is asked:",
        *(f"  {line}" for line in request_differences(nearest.recording.request, asked)),
    ]


def _paths(reads: tuple[PlacedRecording, ...]) -> str:
    requests = (read.recording.request for read in reads)
    known = sorted({_named(one).partition("?")[0] for one in requests})
    more = f" and {len(known) - _PATHS} more" if len(known) > _PATHS else ""
    return f"{', '.join(known[:_PATHS])}{more}" if known else "none"


def _named(request: RecordedRequest) -> str:
    """Return the method and the path of a request, as one line."""
    return visible(" ".join(f"{request.method} {request.path}".split()))


def _words(request: RecordedRequest) -> Iterator[str]:
    """Yield the model that was asked, and the beginning of the last text."""
    body = request.json if isinstance(request.json, dict) else {}
    if isinstance(body.get("model"), str):
        yield str(body["model"])
    asked = body.get("messages", body.get("input"))
    text = " ".join(_last_text(asked).split())
    if text:
        yield f'"{text}"' if len(text) <= _TEXT else f'"{text[:_TEXT]}..."'


def _last_text(value: Json) -> str:
    """Return the last text among messages or their parts."""
    match value:
        case str():
            return value
        case [*_, last]:
            return _last_text(last)
        case {"content": content}:
            return _last_text(content)
        case {"text": str(text)}:
            return text
        case _:
            return ""


def _answer(answer: RecordedAnswer) -> str:
    """Return what an answer is, such as `200, a stream of 12 chunks`."""
    if answer.stream is not UNSET:
        count = len(answer.stream)
        what = f"a stream of {count:,} chunk{'' if count == 1 else 's'}"
    elif answer.json is not UNSET:
        what = "JSON"
    else:
        what = f"{len(answer.data):,} bytes"
    return f"{answer.status}, {what}{', cut short' if answer.cut else ''}"
