"""How the texts of several files become one: what a template includes, and what it extends.

`trim_blocks` removes the line end after a tag, so an `include` restores it: alone on its line it
gives the lines of its file, inside a line only their text.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, Self

import msgspec
from jinja2 import nodes

from poeflow.templates.scopes import Scope

End = Literal["inside", "line", "end"]
"""What follows an included text: the rest of its line, a line end unless the text has one or is
empty, or always a line end."""
_TAG_ENDS: Final = ("block_end", "comment_end", "raw_end")
_TAG_BEGINS: Final = ("block_begin", "variable_begin", "comment_begin", "raw_begin")
_BRANCHES: Final = ("else", "elif")

Tokens = Iterable[tuple[int, str, str]]


def included_text(text: str, end: End) -> str:
    """Return an included text with the line end it needs."""
    if end == "line":
        return text if not text or text.endswith("\n") else f"{text}\n"
    inside = text.removesuffix("\n")
    return f"{inside}\n" if end == "end" else inside


def line_ends(tokens: Tokens) -> dict[int, End]:
    """Return what follows each `include`, by the offset of the word."""
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

    `has_text` if it has more than tags, `is_trimmed` if the tag at its end removed the line end,
    `is_ended_by_include` if this tag is an include.
    """

    includes: list[tuple[int, int]] = []
    branch: int = 0
    has_text: bool = False
    is_trimmed: bool = False
    is_ended_by_include: bool = False


def _lines(tokens: Tokens) -> Iterator[_Line]:
    """Yield the lines of a template, each once it is known whether a tag removes its line end."""
    line, ended, tag = _Line(), _Line(), ""
    for offset, kind, value in tokens:
        if kind == "data" or kind in _TAG_BEGINS:
            if kind != "data" and "-" in value:
                ended.is_trimmed = False  # it removes the line end before it
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


ISOLATED: Final = Scope(
    inputs=frozenset(),
    steps=frozenset(),
    extra=frozenset(),
    is_isolated=True,
    stands="included",
)


class FileUse(msgspec.Struct, frozen=True, kw_only=True):
    """A literal file name or pattern at `offset`; `scope` has the names a template in it can use.

    `imported` are the names imported from it, with offsets. `is_optional` files may be missing.
    """

    kind: Literal["read", "glob", "include", "import", "extends"]
    path: str
    offset: int
    scope: Scope = ISOLATED
    is_optional: bool = False
    imported: tuple[tuple[str, int], ...] = ()


def parent_of(template: nodes.Template) -> nodes.Extends | None:
    """Return the tag by which a template extends another one, or None."""
    return next((node for node in template.body if isinstance(node, nodes.Extends)), None)


def first_text(node: nodes.Node) -> int | None:
    """Return the position of a text or expression that a node prints, None if it prints none."""
    for part in node.nodes if isinstance(node, nodes.Output) else ():
        if not isinstance(part, nodes.TemplateData):
            return part.lineno
        if part.data.strip():
            return part.lineno + len(part.data) - len(part.data.lstrip())
    return None


class PathIn(str):
    """A path with the `file` it is written in, which it is relative to."""

    __slots__ = ("file",)
    file: str

    def __new__(cls, path: str, file: str) -> Self:
        made = super().__new__(cls, path)
        made.file = file
        return made
