"""Which recording answers a request: the rules, the nearest one if none does, and what differs.

Method, path, query and body decide. JSON is compared by value, so neither the order of keys nor
white space counts; no header counts.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Final

import msgspec
from msgspec import UNSET

from poeflow.cassettes.recordings import PlacedRecording, RecordedRequest
from poeflow.digest import Json, encode_json, sha256_of_json

RULES: Final = """\
A recording answers a request with the same method, path, query and body.
JSON bodies are compared by value: the order of keys, white space and 1 or 1.0 do not count.
The order of parameters in the query and the boundary of a form do not count.
No header counts, and keys are masked on both sides before they are compared.
The same request is answered by its recordings in the order of the file, then by the last again.
"""
_MAX_CHANGES: Final = 20
_MAX_LINES: Final = 12
_WIDTH: Final = 160
_COMPARED: Final = 200
"""Lines after the first difference that are compared one by one: the time grows fast with them."""
_BEFORE: Final = 40
"""Characters that are shown before the first difference in a long line."""


def request_identity(request: RecordedRequest) -> str:
    """Return the hash of what decides which recording answers."""
    body = (_plain(request.json),) if request.json is not UNSET else ()
    text = [one for one in (request.text, request.base64) if isinstance(one, str)]
    return sha256_of_json([request.method, request.path, body, text])


def _plain(value: Json) -> Json:
    """Return JSON with numbers as they are compared: 1.0 is 1."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case list():
            return [_plain(one) for one in value]
        case _:
            return value


class FoundRecording(msgspec.Struct, frozen=True):
    """The recording that answers: its number in the file, from 1, and whether it does so again."""

    number: int
    read: PlacedRecording
    is_again: bool = False


class Shelf:
    """The recordings of a cassette, and how often each was used."""

    def __init__(self, reads: Sequence[PlacedRecording]) -> None:
        self.reads = tuple(reads)
        self._numbers: dict[str, list[int]] = defaultdict(list)
        for number, read in enumerate(self.reads, start=1):
            self._numbers[request_identity(read.recording.request)].append(number)
        self._uses: Counter[str] = Counter()
        self._leaves: dict[int, dict[str, Json]] = {}

    def numbers(self, request: RecordedRequest) -> tuple[int, ...]:
        """Return the numbers of the recordings that answer a request, in their order."""
        return tuple(self._numbers.get(request_identity(request), ()))

    def take(self, request: RecordedRequest, *, again: bool) -> FoundRecording | None:
        """Return what answers this time; with `again` the last one also when all were used."""
        name = request_identity(request)
        numbers = self._numbers.get(name, ())
        used = self._uses[name]
        if not numbers or (used >= len(numbers) and not again):
            return None
        self._uses[name] += 1
        number = numbers[min(used, len(numbers) - 1)]
        return FoundRecording(number, self.reads[number - 1], is_again=used >= len(numbers))

    @property
    def unused(self) -> tuple[int, ...]:
        """The numbers of the recordings that answered nothing yet."""
        left = (numbers[self._uses[name] :] for name, numbers in self._numbers.items())
        return tuple(sorted(number for some in left for number in some))

    def nearest(self, request: RecordedRequest) -> int | None:
        """Return the number of the recording for this method and path that is most like it."""
        asked = _leaves(request)
        scores = [
            (_likeness(self._leaves_of(number), asked), -number)
            for number, one in enumerate((read.recording.request for read in self.reads), 1)
            if (one.method, _bare(one)) == (request.method, _bare(request))
        ]
        return -max(scores)[1] if scores else None

    def _leaves_of(self, number: int) -> dict[str, Json]:
        """Return the values in a recorded request, found once for all misses."""
        if number not in self._leaves:
            self._leaves[number] = _leaves(self.reads[number - 1].recording.request)
        return self._leaves[number]


def _bare(request: RecordedRequest) -> str:
    return request.path.partition("?")[0]


def request_differences(recorded: RecordedRequest, asked: RecordedRequest) -> list[str]:
    """Return lines that say what differs: a place, then what was recorded and what is asked."""
    old, new = _leaves(recorded), _leaves(asked)
    places = [place for place in {**old, **new} if not _is_same(old, new, place)]
    lines: list[str] = []
    for place in places[:_MAX_CHANGES]:
        lines += [place, *(f"  {line}" for line in _change(old, new, place))]
    more = len(places) - _MAX_CHANGES
    return [*lines, f"and {more} more places"] if more > 0 else lines


def _is_same(old: Mapping[str, Json], new: Mapping[str, Json], place: str) -> bool:
    """Return whether both have the same value there; true is not 1."""
    is_there = place in old and place in new
    return is_there and encode_json(old[place]) == encode_json(new[place])


def _change(old: Mapping[str, Json], new: Mapping[str, Json], place: str) -> Iterator[str]:
    before, after = (_lines(leaves, place) for leaves in (old, new))
    removed, added = _changed(before, after)
    for sign, lines, others in (("-", removed, added), ("+", added, removed)):
        for at, line in enumerate(lines[:_MAX_LINES]):
            yield f"{sign} {_cut(line, others[at] if at < len(others) else '')}"
        if len(lines) > _MAX_LINES:
            yield f"{sign} and {len(lines) - _MAX_LINES} more lines"
    if not removed and not added:
        yield "only the ends of lines differ"


def _lines(leaves: Mapping[str, Json], place: str) -> list[str]:
    """Return a value in lines: texts as they are, nothing for a value that is not there."""
    if place not in leaves:
        return []
    value = leaves[place]
    if isinstance(value, str) and "\n" in value:
        return value.splitlines()
    return [encode_json(value).decode()]


def _changed(before: list[str], after: list[str]) -> tuple[list[str], list[str]]:
    """Return the lines that are only in the first, and those that are only in the second."""
    begin = _same_lines(before, after)
    before, after = before[begin:], after[begin:]
    end = _same_lines(before[::-1], after[::-1])
    before, after = before[: len(before) - end], after[: len(after) - end]
    near, near_new = before[:_COMPARED], after[:_COMPARED]
    steps = SequenceMatcher(None, near, near_new).get_opcodes()
    changes = [step for step in steps if step[0] != "equal"]
    removed = [line for _, a, b, _, _ in changes for line in near[a:b]]
    added = [line for _, _, _, c, d in changes for line in near_new[c:d]]
    return removed + before[_COMPARED:], added + after[_COMPARED:]


def _same_lines(one: list[str], other: list[str]) -> int:
    """Return how many lines at the beginning are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _cut(line: str, other: str) -> str:
    """Return a line shortened to where it differs from the other one."""
    if len(line) <= _WIDTH:
        return line
    begin = max(0, _common(line, other) - _BEFORE)
    begin = min(begin, len(line) - _WIDTH)
    dots = "..." if begin else ""
    return f"{dots}{line[begin : begin + _WIDTH]}{'...' if begin + _WIDTH < len(line) else ''}"


def _leaves(request: RecordedRequest) -> dict[str, Json]:
    """Return the values in a request by their places."""
    found: dict[str, Json] = {"method": request.method, "path": request.path}
    if request.json is not UNSET:
        found.update(_within(_plain(request.json), ""))
    body = next((one for one in (request.text, request.base64) if isinstance(one, str)), None)
    return found if body is None else {**found, "body": body}


def _within(value: Json, place: str) -> Iterator[tuple[str, Json]]:
    match value:
        case dict() if value:
            for name, one in value.items():
                yield from _within(one, f"{place}.{name}" if place else name)
        case list() if value:
            for at, one in enumerate(value):
                yield from _within(one, f"{place}[{at}]")
        case _:
            yield (place or "body", value)


def _likeness(one: Mapping[str, Json], other: Mapping[str, Json]) -> float:
    """Return how alike two requests are, from 0 to 1."""
    places = one.keys() | other.keys()
    return sum(_alike(one.get(place), other.get(place)) for place in places) / len(places)


def _alike(one: Json, other: Json) -> float:
    if one == other:
        return 1.0
    if not isinstance(one, str) or not isinstance(other, str):
        return 0.0
    begin = _common(one, other)
    end = _common(one[begin:][::-1], other[begin:][::-1])
    return (begin + end) / max(len(one), len(other))


def _common(one: str, other: str) -> int:
    """Return how many characters at the beginning are the same."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
