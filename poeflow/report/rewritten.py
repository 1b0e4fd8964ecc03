"""What changed in an answer, word by word: in colours, or with `[-removed-]` and `{+added+}`."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from rich.cells import cell_len

from poeflow.redact import visible
from poeflow.report.terminal.marks import Marks
from poeflow.report.terminal.text import Line, Piece, chopped
from poeflow.word_diff import Piece as Change
from poeflow.word_diff import word_diff

MAX_LINES: Final = 40
CONTEXT: Final = 8
"""How many words stay on either side of a change where a long stretch is the same."""
APART: Final = 3
"""How many words must be the same for what is before and after them to count as two changes."""
_WORDS: Final = re.compile(r"\s*\S+(?:\s+\Z)?")
_PARTS: Final = re.compile(r"\n| +|[^ \n]+")
_STYLES: Final = {"same": "", "removed": "red strike", "added": "green"}
_BRACKETS: Final = {"removed": ("[-", "-]"), "added": ("{+", "+}")}


def rewritten(
    old: str | None, new: str, *, width: int, is_colored: bool, marks: Marks
) -> tuple[list[Line], int]:
    """Return lines of at most `width` cells that tell a text from its old one, and how many more.

    A text without an old one is told as it is.
    """
    pieces: Sequence[Change] = (Change("same", _harmless(new)),)
    if old is not None:
        changes = word_diff(_harmless(old), _harmless(new))
        pieces = tuple(_folded(tuple(_gathered(changes)), marks.more))
    lines = _flowed(tuple(_styled(pieces, is_colored=is_colored)), width, marks)
    shown = list(islice(lines, MAX_LINES))
    return shown, sum(1 for _ in lines)


def _harmless(text: str) -> str:
    return visible(text.replace("\r\n", "\n")).expandtabs(4)


def _gathered(pieces: Sequence[Change]) -> Iterator[Change]:
    """Yield the pieces with changes joined that only a word or two keeps apart."""
    removed, added, between = "", "", ""
    for piece in pieces:
        if piece.kind == "same":
            between += piece.text
            continue
        if len(between.split()) >= APART or not (removed or added):
            yield from _change(removed, added)
            yield from (Change("same", text) for text in [between] if text)
            removed, added, between = "", "", ""
        is_removed = piece.kind == "removed"
        removed += between + piece.text * is_removed
        added += between + piece.text * (not is_removed)
        between = ""
    yield from _change(removed, added)
    yield from (Change("same", text) for text in [between] if text)


def _change(removed: str, added: str) -> Iterator[Change]:
    if removed:
        yield Change("removed", removed)
    if added:
        yield Change("added", added)


def _folded(pieces: Sequence[Change], more: str) -> Iterator[Change]:
    """Yield the pieces with a few words left of what stayed the same."""
    for index, piece in enumerate(pieces):
        words = _WORDS.findall(piece.text) if piece.kind == "same" else []
        head = CONTEXT if index > 0 else 0
        tail = CONTEXT if index < len(pieces) - 1 else 0
        if len(words) <= head + tail + CONTEXT:
            yield piece
            continue
        before, after = "".join(words[:head]), "".join(words[len(words) - tail :])
        shown = f"{before} {more} {after.lstrip()}"
        yield Change("same", shown if head else shown.lstrip())


def _styled(pieces: Sequence[Change], *, is_colored: bool) -> Iterator[Piece]:
    last = ""
    for piece in pieces:
        begin, end = ("", "") if is_colored else _BRACKETS.get(piece.kind, ("", ""))
        if is_colored and piece.kind == "added" and last and not last[-1].isspace():
            yield " ", ""
        yield f"{begin}{piece.text}{end}", _STYLES[piece.kind]
        last = piece.text if piece.kind == "removed" else ""


def _flowed(pieces: Sequence[Piece], width: int, marks: Marks) -> Iterator[Line]:
    """Yield the text in lines, broken between words where it can be."""
    line: list[Piece] = []
    room = width
    for text, style in pieces:
        for part in _PARTS.findall(text):
            if part == "\n" or (line and cell_len(part) > room):
                yield tuple(line)
                line, room = [], width
            if part == "\n" or (part.isspace() and not line and room < width):
                continue
            *full, last = chopped(marks.shown(part), width)
            yield from (((chunk, style),) for chunk in full)
            line.append((last, style))
            room -= cell_len(last)
    if line:
        yield tuple(line)
