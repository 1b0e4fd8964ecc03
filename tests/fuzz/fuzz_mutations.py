"""Inputs become other inputs: a line moved, a word put in, a piece of another, a bit turned."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

Change = Callable[[bytes, Random, Sequence[bytes], Sequence[bytes]], bytes]
_MOST_CHANGES: Final = 6
_LONGEST_PIECE: Final = 40
_LONGEST: Final = 32 * 1024
_MARKS: Final = b" \n\t,:;{}[]()\"'|.<>=&%/-"


def mutated(
    data: bytes, random: Random, words: Sequence[bytes], seeds: Sequence[bytes] = ()
) -> bytes:
    """Return `data` changed in a few places, by `words` and pieces of `seeds`."""
    longest = max(len(data), _LONGEST)
    for _ in range(random.randint(1, _MOST_CHANGES)):
        data = random.choice(_CHANGES)(data, random, words, seeds or (data,))[:longest]
    return data


def _put_in(data: bytes, random: Random, words: Sequence[bytes], _: Sequence[bytes]) -> bytes:
    at = _place(data, random)
    return data[:at] + random.choice(words) + data[at:]


def _replaced(data: bytes, random: Random, words: Sequence[bytes], _: Sequence[bytes]) -> bytes:
    """Put a word in the place of another."""
    start, end = _token(data, random)
    return data[:start] + random.choice(words) + data[end:]


def _removed(data: bytes, random: Random, _: Sequence[bytes], __: Sequence[bytes]) -> bytes:
    start, end = _token(data, random)
    return data[:start] + data[end:]


def _repeated(data: bytes, random: Random, _: Sequence[bytes], __: Sequence[bytes]) -> bytes:
    start, end = _piece(data, random)
    return data[:end] + data[start:end] * random.choice((1, 1, 2, 9, 300)) + data[end:]


def _blown_up(data: bytes, random: Random, words: Sequence[bytes], _: Sequence[bytes]) -> bytes:
    """Repeat a piece so often that what grows faster than its input shows."""
    start, end = _piece(data, random)
    piece = data[start:end] or random.choice(words)
    return data[:end] + piece * (random.choice((1_000, 8_000, _LONGEST)) // len(piece)) + data[end:]


def _line_moved(data: bytes, random: Random, _: Sequence[bytes], __: Sequence[bytes]) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    line = lines.pop(random.randrange(len(lines)))
    if random.random() < 0.7:
        lines.insert(random.randint(0, len(lines)), line)
    return b"".join(lines)


def _spliced(data: bytes, random: Random, _: Sequence[bytes], seeds: Sequence[bytes]) -> bytes:
    other = random.choice(seeds)
    start, end = _piece(other, random)
    at, behind = _piece(data, random)
    return data[:at] + other[start:end] + data[random.choice((at, behind)) :]


def _line_spliced(data: bytes, random: Random, _: Sequence[bytes], seeds: Sequence[bytes]) -> bytes:
    lines, others = data.splitlines(keepends=True), random.choice(seeds).splitlines(keepends=True)
    start = random.randint(0, len(others))
    at = random.randint(0, len(lines))
    return b"".join([*lines[:at], *others[start : start + random.randint(1, 5)], *lines[at:]])


def _bit_turned(data: bytes, random: Random, _: Sequence[bytes], __: Sequence[bytes]) -> bytes:
    if not data:
        return bytes([random.randrange(256)])
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _cut(data: bytes, random: Random, _: Sequence[bytes], __: Sequence[bytes]) -> bytes:
    return data[: _place(data, random)]


_CHANGES: Final[tuple[Change, ...]] = (
    *(_put_in, _put_in, _replaced, _replaced, _replaced, _removed, _repeated, _blown_up),
    *(_line_moved, _spliced, _line_spliced, _line_spliced, _bit_turned, _cut),
)


def _place(data: bytes, random: Random) -> int:
    """Return a place in `data`, mostly one where a token begins or ends."""
    at = random.randint(0, len(data))
    return at if random.random() < 0.3 else _token(data, random)[random.randrange(2)]


def _piece(data: bytes, random: Random) -> tuple[int, int]:
    start = _place(data, random)
    return start, min(len(data), start + random.randint(0, _LONGEST_PIECE))


def _token(data: bytes, random: Random) -> tuple[int, int]:
    """Return where a token begins and ends: what stands between marks, or one mark."""
    if not data:
        return 0, 0
    start = end = random.randrange(len(data))
    while start > 0 and data[start - 1] not in _MARKS and data[start] not in _MARKS:
        start -= 1
    while end < len(data) and data[end] not in _MARKS:
        end += 1
    return start, max(end, start + 1)
