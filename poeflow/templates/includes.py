"""How an included text meets the line that includes it.

`trim_blocks` takes the line end behind a tag, so an `include` decides about it: alone in its line
it stands for the lines of its file, inside a line for their text.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

End = Literal["inside", "line", "end"]
"""What follows an included text: the rest of its line, a line end unless it has one or is empty,
or a line end in any case."""
_TAG_ENDS: Final = ("block_end", "comment_end", "raw_end")
_TAG_BEGINS: Final = ("block_begin", "variable_begin", "comment_begin", "raw_begin")
_BRANCHES: Final = ("else", "elif")

Tokens = Iterable[tuple[int, str, str]]


def joined(text: str, end: End) -> str:
    """Return an included text with the line end it needs where it stands."""
    if end == "line":
        return text if not text or text.endswith("\n") else f"{text}\n"
    inside = text.removesuffix("\n")
    return f"{inside}\n" if end == "end" else inside


def line_ends(tokens: Tokens) -> dict[int, End]:
    """Return for each `include`, by the offset of the word, what follows it in its line."""
    ends: dict[int, End] = {}
    for line in _lines(tokens):
        for index, (offset, branch) in enumerate(line.includes):
            same = [other for other in line.includes if other[1] == branch]
            is_last = (offset, branch) == same[-1]
            is_own = line.is_ended_by_include and index == len(line.includes) - 1
            if not is_last or not line.is_trimmed:
                ends[offset] = "inside"
            elif line.has_text or len(same) > 1:
                ends[offset] = "end" if is_own or not line.has_text else "inside"
            else:
                ends[offset] = "line"
    return ends


class _Line(msgspec.Struct):
    """A line of a template: its includes, each with the branch of an `if` it is in.

    `has_text` tells that it holds more than tags, `is_trimmed` that the tag at its end took the
    line end away, `is_ended_by_include` that this tag is an include.
    """

    includes: list[tuple[int, int]] = []
    branch: int = 0
    has_text: bool = False
    is_trimmed: bool = False
    is_ended_by_include: bool = False


def _lines(tokens: Tokens) -> Iterator[_Line]:
    """Yield the lines of a template, each once it is known whether a tag takes its end away."""
    line, ended, tag = _Line(), _Line(), ""
    for offset, kind, value in tokens:
        if kind == "data" or kind in _TAG_BEGINS:
            if kind != "data" and "-" in value:
                ended.is_trimmed = False  # it takes the line end before it away
            yield ended
            ended, tag = _Line(), ""
        if kind == "data":
            first, newline, rest = value.partition("\n")
            line.has_text = line.has_text or bool(first.strip())
            if newline:
                yield line
                line = _Line(has_text=bool(rest.rpartition("\n")[2].strip()))
        elif kind == "variable_begin":
            line.has_text = True
        elif kind == "name" and not tag:
            tag = value
            line.branch += tag in _BRANCHES
            if tag == "include":
                line.includes.append((offset, line.branch))
        elif kind in _TAG_ENDS and value.endswith("\n"):
            line.is_trimmed = not value.startswith("-")
            line.is_ended_by_include = tag == "include"
            line, ended = _Line(), line
    yield ended
    yield line
