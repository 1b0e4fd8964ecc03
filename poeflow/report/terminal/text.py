"""Styled lines of a terminal: measured in cells, cut, wrapped, aligned in tables, with marks.

Styles are the words rich and click both know: a colour, `dim`, `bold`, or several of them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TextIO, TypeAlias

from rich.cells import cell_len, chop_cells, set_cell_size

from poeflow.records import InstanceState
from poeflow.redact import visible

Piece: TypeAlias = tuple[str, str]
"""A text that is harmless and on one line, and its style."""
Line: TypeAlias = tuple[Piece, ...]

_WORD: Final = re.compile(r" *[^ ]+| +\Z")


def cells(line: Line) -> int:
    """Return how many cells of a terminal a line takes."""
    return sum(cell_len(text) for text, _ in line)


def plain(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()


def padded(text: str, width: int) -> str:
    """Return `text` in exactly `width` cells, cut where it is longer."""
    return set_cell_size(text, width)


def cropped(line: Line, width: int, more: str) -> Line:
    """Return as much of a line as fits `width` cells, with `more` at its end where it was cut."""
    if sum(len(text) for text, _ in line) * 2 <= width or cells(line) <= width:
        return line
    kept: list[Piece] = []
    room = max(width - cell_len(more), 0)
    for text, style in line:
        size = cell_len(text)
        if size > room:
            kept.append((set_cell_size(text, room).rstrip() + more[:width], style))
            break
        kept.append((text, style))
        room -= size
    return tuple(kept)


def ending(text: str, width: int) -> str:
    """Return the end of `text`, at most `width` cells of it."""
    if width <= 0:
        return ""
    end = text[-width:]
    while cell_len(end) > width:
        end = end[1:]
    return end


def chopped(text: str, width: int) -> list[str]:
    """Return `text` cut into lines of at most `width` cells, and of at least two: one at least."""
    return chop_cells(text, max(width, 2)) or [""]


def wrapped(text: str, width: int) -> Iterator[str]:
    """Yield `text` in lines of at most `width` cells, broken between words where it can be."""
    line = ""
    for word in _WORD.findall(text):
        if cell_len(line) + cell_len(word) <= width:
            line += word
            continue
        if line:
            yield line
        *full, line = chopped(word.lstrip(" ") if line else word, width)
        yield from full
    yield line


Work = Literal["waiting", "running", "done", "tolerated", "failed", "skipped", "stopped", "current"]

_PAIRS: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The characters of one look, each one cell wide, and the encoding they are shown in."""

    done: str
    failed: str
    waiting: str
    spinner: str
    bar: str
    groove: str
    wall: str
    more: str
    encoding: str = "utf-8"

    def of(self, state: Work | InstanceState) -> tuple[str, str]:
        """Return the mark of what stands so, and its style."""
        mark, style = _LOOKS[state]
        return {"v": self.done, "x": self.failed, ".": self.waiting}.get(mark, mark), style

    def spin(self, now: float) -> str:
        """Return the mark of what works at the time `now`."""
        return self.spinner[int(now * 10) % len(self.spinner)]

    def shown(self, text: str) -> str:
        """Return `text` harmless, on one line, in characters the stream can show."""
        safe = visible(paired(text)).replace("\n", " ").replace("\t", " ")
        if self.encoding in ("utf-8", "utf8") or safe.isascii():
            return safe
        return safe.encode(self.encoding, "backslashreplace").decode(self.encoding)


UNICODE: Final = Marks(
    done="✓",
    failed="✗",
    waiting="·",
    spinner="⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
    bar="━",
    groove="─",
    wall="│",
    more="…",
)
ASCII: Final = Marks(
    done="*",
    failed="x",
    waiting=".",
    spinner="|/-\\",
    bar="#",
    groove="-",
    wall="|",
    more="~",
    encoding="ascii",
)
_LOOKS: Final[dict[Work | InstanceState, tuple[str, str]]] = {
    "waiting": (".", "dim"),
    "running": (".", "cyan"),
    "done": ("v", "green"),
    "tolerated": ("!", "yellow"),
    "failed": ("x", "red"),
    "skipped": ("-", "dim"),
    "stopped": ("!", "yellow"),
    "current": ("v", "dim"),
    "fresh": ("v", "dim"),
    "new": ("+", "green"),
    "stale": ("~", "yellow"),
    "missing": ("!", "yellow"),
    "edited": ("!", "magenta"),
    "needed": ("~", "cyan"),
    "orphaned": ("!", "magenta"),
    "unknown": ("?", "dim"),
}


def marks_for(stream: TextIO) -> Marks:
    """Return the marks `stream` can show, by its encoding: ASCII where one is not in it."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    unicode = f"{UNICODE.done}{UNICODE.failed}{UNICODE.spinner}{UNICODE.bar}{UNICODE.more}"
    try:
        unicode.encode(encoding)
    except UnicodeEncodeError:
        return replace(ASCII, encoding=encoding)
    return UNICODE


def paired(text: str) -> str:
    """Return `text` with the halves of surrogate pairs joined, as when a stream was cut in one."""
    return _PAIRS.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


_GAP: Final = "  "


def aligned(rows: Sequence[tuple[str, ...]], *, words: int) -> list[str]:
    """Return a line for each row, cells as wide as their column; `words` columns hold words."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths, words) for row in rows]


def _line(row: tuple[str, ...], widths: list[int], words: int) -> str:
    left = (cell.ljust(width) for cell, width in zip(row[:words], widths, strict=False))
    right = (cell.rjust(width) for cell, width in zip(row[words:], widths[words:], strict=True))
    return _GAP.join([*left, *right]).rstrip()
