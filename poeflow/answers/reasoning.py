"""The reasoning of a model, if its server left it at the beginning of the answer's text.

Servers of open models often send `<think>...</think>` before the answer instead of a field of
its own. A block counts only at the beginning: further down, such a tag is the answer's.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from poeflow.lazy_pattern import lazy_pattern

_TAG: Final = lazy_pattern(
    r"<(?P<close>/?)(?:[a-z]{1,20}:)?(?:think|thinking|thoughts?|reasoning)"
    r"(?:\s[^<>]{0,200})?(?P<empty>/?)>",
    re.ASCII | re.IGNORECASE,
)
_SPACE: Final = lazy_pattern(r"[\s\ufeff]*")
_BLANK_LINES: Final = lazy_pattern(r"(?:[ \t\r]*\n)*")
_END_OF_LINE: Final = lazy_pattern(r"[ \t\r]*\n")


class SplitAnswer(msgspec.Struct, frozen=True):
    """The text of an answer in two: its reasoning, and the answer proper.

    Without reasoning, `answer` is the whole text as it is.
    """

    reasoning: str
    answer: str


def split_reasoning(text: str) -> SplitAnswer:
    """Separate an answer's text from the blocks of reasoning at its beginning.

    A block without an end is all reasoning. One whose opening tag was part of the prompt ends with
    a closing tag at the end of a line. Takes linear time.
    """
    if "<" not in text:
        return SplitAnswer("", text)
    tags = list(_TAG.finditer(text))
    ends = _ends(tags)
    pieces: list[str] = []
    at, number = 0, 0
    while number < len(tags):
        first = tags[number]
        if not first["close"] and _space(text, at) == first.start():
            begin, last = first.end(), ends[number]
        elif first["close"] and _ends_unopened(text, first):
            begin, last = at, number
        else:
            break
        stop = len(text) if last is None else tags[last].start()
        pieces.append(text[begin : max(begin, stop)].strip())
        if last is None:
            return SplitAnswer(_joined(pieces), "")
        at, number = tags[last].end(), last + 1
    return SplitAnswer(_joined(pieces), text[_after(text, at) :] if at else text)


def _ends(tags: Sequence[re.Match[str]]) -> list[int | None]:
    """Return for each opening tag the one that ends it: its partner, else the next closing tag."""
    ends: list[int | None] = [None] * len(tags)
    opened: list[int] = []
    for number, tag in enumerate(tags):
        if tag["empty"]:
            ends[number] = number
        elif not tag["close"]:
            opened.append(number)
        elif opened:
            ends[opened.pop()] = number
    following: int | None = None
    for number in range(len(tags) - 1, -1, -1):
        if tags[number]["close"]:
            following = number
        elif ends[number] is None:
            ends[number] = following
    return ends


def _ends_unopened(text: str, tag: re.Match[str]) -> bool:
    """Whether a closing tag ends a line, and an answer follows."""
    line = _END_OF_LINE.match(text, tag.end())
    return line is not None and _space(text, line.end()) < len(text)


def _space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space is not None else at


def _after(text: str, at: int) -> int:
    """Return the offset of the answer after a tag, the rest of its line and blank lines skipped."""
    blank = _BLANK_LINES.match(text, at)
    if blank is not None and blank.end() > at:
        return blank.end()
    return at + len(text[at:]) - len(text[at:].lstrip(" \t"))


def _joined(pieces: Sequence[str]) -> str:
    return "\n\n".join(piece for piece in pieces if piece)
