"""The fenced blocks of a Markdown text, as CommonMark has them."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

_OPENING: Final = re.compile(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})(.*)")
_TICKS: Final = re.compile(r"`+")


class Block(msgspec.Struct, frozen=True):
    """What stands between two fences. `label` is the first word behind the upper one, lower case.

    `is_closed` is False where the text ends before the block does.
    """

    label: str
    content: str
    is_closed: bool = True


def blocks(text: str) -> tuple[Block, ...]:
    """Return the fenced blocks of a text, in order. Any indentation is taken, and taken away."""
    found: list[Block] = []
    fence, label, indent, inside = "", "", "", list[str]()
    for line in text.replace("\r\n", "\n").split("\n"):
        opening = None if fence else _OPENING.fullmatch(line)
        if opening is not None:
            fence, words = opening[1], opening[2].split()
            label = words[0].lower() if words else ""
            indent, inside = line[: opening.start(1)], []
        elif fence and _closes(line, fence):
            found.append(Block(label, "\n".join(inside)))
            fence = ""
        elif fence:
            inside.append(line.removeprefix(indent))
    if fence:
        found.append(Block(label, "\n".join(inside), is_closed=False))
    return tuple(found)


def labelled(found: Iterable[Block], *labels: str) -> tuple[Block, ...]:
    """Return the blocks with one of these labels; where there is none, all of them."""
    those = tuple(found)
    return tuple(block for block in those if block.label in labels) or those


def fenced(text: str) -> str:
    """Return `text` between fences longer than any run of backticks inside it."""
    longest = max(map(len, _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _closes(line: str, fence: str) -> bool:
    mark = line.strip()
    return len(mark) >= len(fence) and mark == fence[0] * len(mark)
