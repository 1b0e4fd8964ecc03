"""Styled lines for a terminal: measured in cells, cut, wrapped, aligned, with marks.

Styles are words that rich and click both know: a colour, `dim`, `bold`, or several of them.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, TextIO, TypeAlias

import msgspec

from poeflow.lazy_pattern import lazy_pattern
from poeflow.records import InstanceState
from poeflow.redact import visible

Piece: TypeAlias = tuple[str, str]
"""A text of one line without control characters, and its style."""
Line: TypeAlias = tuple[Piece, ...]
_WORD: Final = lazy_pattern(r" *[^ ]+| +\Z")
Work = Literal["waiting", "running", "done", "tolerated", "failed", "skipped", "stopped", "current"]
_PAIRS: Final = lazy_pattern("[\ud800-\udbff][\udc00-\udfff]")
_GAP: Final = "  "
_UTF8: Final = ("utf-8", "utf8")


def cells(line: Line) -> int:
    """Return how many cells of a terminal a line takes."""
    return sum(_cells(text) for text, _ in line)


def _is_plain(text: str) -> bool:
    """Whether each character takes one cell."""
    return text.isascii() and text.isprintable()


def _cells(text: str) -> int:
    if _is_plain(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def unstyled(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()


def padded(text: str, width: int) -> str:
    """Return `text` in exactly `width` cells, padded or cut."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def fitted(text: str, width: int, more: str) -> str:
    """Return `text` in exactly `width` cells, padded, or with `more` in place of its middle."""
    room = width - _cells(more)
    if room < 2 or len(text) * 2 <= width or _cells(text) <= width:
        return padded(text, width)
    end = end_of(text, room // 2)
    return padded(f"{padded(text, room - _cells(end)).rstrip()}{more}{end}", width)


def cropped(line: Line, width: int, more: str) -> Line:
    """Return a line cut to `width` cells, with `more` at its end if it was cut."""
    if sum(len(text) for text, _ in line) * 2 <= width or cells(line) <= width:
        return line
    pieces: list[Piece] = []
    room = max(width - _cells(more), 0)
    for text, style in line:
        size = _cells(text)
        if size > room:
            pieces.append((padded(text, room).rstrip() + more[:width], style))
            break
        pieces.append((text, style))
        room -= size
    return tuple(pieces)


def end_of(text: str, width: int) -> str:
    """Return the end of `text`, at most `width` cells of it."""
    if width <= 0:
        return ""
    end = text[-width:]
    while _cells(end) > width:
        end = end[1:]
    return end


def chopped(text: str, width: int) -> list[str]:
    """Return `text` cut into lines of at most `width` cells (at least two); at least one line."""
    from rich.cells import chop_cells

    return chop_cells(text, max(width, 2)) or [""]


def wrapped(text: str, width: int) -> Iterator[str]:
    """Yield `text` in lines of at most `width` cells, broken between words if possible."""
    line = ""
    for word in _WORD.findall(text):
        if _cells(line) + _cells(word) <= width:
            line += word
            continue
        if line:
            yield line
        *full, line = chopped(word.lstrip(" ") if line else word, width)
        yield from full
    yield line


def aligned(rows: Sequence[tuple[str, ...]], *, words: int) -> list[str]:
    """Return the rows as lines of cells; the first `words` columns are left-aligned."""
    return list(aligned_columns(list(zip(*rows, strict=True)), words=words))


def aligned_columns(columns: Sequence[Sequence[str]], *, words: int) -> Iterator[str]:
    """Do the same for the columns of a table; each line is made when it is asked for."""
    if all(_is_plain("".join(column)) for column in columns):
        longest = [max(map(len, column), default=0) for column in columns]
        forms = (f"{{:{'<' if at < words else '>'}{width}}}" for at, width in enumerate(longest))
        return map(str.rstrip, map(_GAP.join(forms).format, *columns)) if columns else iter(())
    widths = [max(map(_cells, column)) for column in columns]
    return (_line(row, widths, words) for row in zip(*columns, strict=True))


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """A set of mark characters, each one cell wide, and the encoding they need."""

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
        """Return the mark of a state, and its style."""
        mark, style = _LOOKS[state]
        return {"v": self.done, "x": self.failed, ".": self.waiting}.get(mark, mark), style

    def spin(self, now: float) -> str:
        """Return the mark of a running step at the time `now`."""
        return self.spinner[int(now * 10) % len(self.spinner)]

    def shown(self, text: str, *, with_joiners: bool = False) -> str:
        """Return `text` on one line, without control characters, in characters of the encoding."""
        safe = (
            visible(paired(text), with_joiners=with_joiners).replace("\n", " ").replace("\t", " ")
        )
        if self.encoding in _UTF8 or safe.isascii():
            return safe
        return safe.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def each_shown(self, texts: list[str]) -> list[str]:
        """Return what `shown` returns for each of many texts: most have nothing to replace."""
        whole = "".join(texts)
        is_plain = whole.isprintable() and (whole.isascii() or self.encoding in _UTF8)
        return texts if is_plain else [self.shown(text) for text in texts]


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
    """Return the marks that `stream` can show: ASCII if its encoding lacks one of the others."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    unicode = f"{UNICODE.done}{UNICODE.failed}{UNICODE.spinner}{UNICODE.bar}{UNICODE.more}"
    try:
        unicode.encode(encoding)
    except UnicodeEncodeError:
        return msgspec.structs.replace(ASCII, encoding=encoding)
    return UNICODE


def paired(text: str) -> str:
    """Return `text` with surrogate pairs joined, which a stream may have cut in two."""
    return _PAIRS.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _line(row: tuple[str, ...], widths: list[int], words: int) -> str:
    gaps = [" " * (width - _cells(cell)) for cell, width in zip(row, widths, strict=True)]
    left = (f"{cell}{gap}" for cell, gap in zip(row[:words], gaps, strict=False))
    right = (f"{gap}{cell}" for cell, gap in zip(row[words:], gaps[words:], strict=True))
    return _GAP.join([*left, *right]).rstrip()
