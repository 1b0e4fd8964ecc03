"""Word diff of two texts; lines are compared first, so that long texts are fast."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import Final, Literal

import msgspec

from poeflow.lazy_pattern import lazy_pattern

PieceKind = Literal["same", "removed", "added"]
MAX_WORDS: Final = 4000
"""Changed parts with more words than this are compared by lines: difflib is quadratic."""
MAX_LINES: Final = 2000
"""If more lines than this differ between the common begin and end, all count as changed."""
_WORDS: Final = lazy_pattern(r"\n|[^\S\n]+|\w+|[^\w\s]")


class Piece(msgspec.Struct, frozen=True):
    """A piece of text. The `same` and `removed` pieces joined are exactly the old text."""

    kind: PieceKind
    text: str


def word_diff(old: str, new: str) -> tuple[Piece, ...]:
    """Return the pieces of both texts in order; adjacent pieces of one kind are joined.

    `same` and `removed` together give `old`, `same` and `added` give `new`.
    """
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    head = _alike(before, after)
    tail = _alike(before[head:][::-1], after[head:][::-1])
    pieces = (
        Piece("same", "".join(before[:head])),
        *_lines(before[head : len(before) - tail], after[head : len(after) - tail]),
        Piece("same", "".join(before[len(before) - tail :])),
    )
    joined = groupby((piece for piece in pieces if piece.text), key=lambda piece: piece.kind)
    return tuple(Piece(kind, "".join(piece.text for piece in run)) for kind, run in joined)


def _alike(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many lines at the beginning are equal."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(old), len(new)))


def _lines(old: Sequence[str], new: Sequence[str]) -> Iterator[Piece]:
    if len(old) + len(new) > MAX_LINES:
        yield from (Piece("removed", "".join(old)), Piece("added", "".join(new)))
        return
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        before, after = "".join(old[a:b]), "".join(new[c:d])
        if tag == "replace":
            yield from _words(before, after)
        elif tag == "equal":
            yield Piece("same", before)
        else:
            yield from (Piece("removed", before), Piece("added", after))


def _words(before: str, after: str) -> Iterator[Piece]:
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if len(old) + len(new) > MAX_WORDS:
        yield from (Piece("removed", before), Piece("added", after))
        return
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield Piece("same", "".join(old[a:b]))
        else:
            yield from (Piece("removed", "".join(old[a:b])), Piece("added", "".join(new[c:d])))
