"""The filters of texts: shape, search, and patterns in RE2 syntax.

`filters` names them and counts their work, but for that of patterns, which is counted here.
"""

import hashlib
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from jinja2 import Environment, nodes, pass_environment
from jinja2.filters import FILTERS

from poeflow.flowfile.patterns import HINT, Pattern, PatternError, PatternMatch, compiled
from poeflow.lazy_pattern import lazy_pattern
from poeflow.templates.values import to_text
from poeflow.templates.work_budget import (
    OverBudgetError,
    WorkBudget,
    bounded,
    bounded_argument,
    check_scan,
    replaced_size,
)

MAX_WRAPPED: Final = 100_000
MIN_WIDTH: Final = 8
_WORD: Final = lazy_pattern(r"\w+")
_NO_SPACE: Final = lazy_pattern(r"\S+")


def indent(text: str, width: int | str = 4, *options: bool, **named: bool) -> str:
    bounded_argument(width, 1_000)
    size = len(width) if isinstance(width, str) else max(width, 0)
    bounded(len(text) + (len(text.splitlines()) + 1) * size)
    result: str = FILTERS["indent"](text, width, *options, **named)
    return result


@pass_environment
def truncate(environment: Environment, text: str, *options: Any, **named: Any) -> str:
    try:
        result: str = FILTERS["truncate"](environment, text, *options, **named)
    except AssertionError as error:
        raise ValueError(f"truncate: {error}") from None
    return result


def wordwrap(
    text: str, width: int = 79, break_long_words: object = 1, wrapstring: str = "\n"
) -> str:
    """Wrap each line; unlike Jinja's it does not break at hyphens, which takes quadratic time.

    Raises `ValueError` and `OverBudgetError`.
    """
    if len(text) > MAX_WRAPPED:
        raise OverBudgetError(f"wordwrap takes at most {MAX_WRAPPED:,} characters")
    if width < MIN_WIDTH:
        raise ValueError(f"wordwrap needs a width of {MIN_WIDTH} or more")
    wrapper = textwrap.TextWrapper(
        width=width,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=bool(break_long_words),
        break_on_hyphens=False,
    )
    bounded(len(text) // width * len(wrapstring) * 2)
    lines = [wrapstring.join(wrapper.wrap(line)) for line in text.splitlines()]
    return wrapstring.join(lines)


def wordcount(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def replace(text: str, old: object, new: object, count: int | None = None) -> str:
    before, after = to_text(old), to_text(new)
    bounded(replaced_size(text, before, after))
    return text.replace(before, after, -1 if count is None else count)


def trimmed(budget: WorkBudget, text: str, chars: str | None = None) -> str:
    check_scan(text, chars or "", budget)
    return text.strip(chars)


def dedent(text: str) -> str:
    """Remove the margin that all lines share; lines of white space count as empty."""
    return textwrap.dedent(text)


def truncate_words(text: str, length: int, end: str = "...") -> str:
    """Return the first `length` words as they stand, with `end` if any are left out.

    Raises `ValueError`.
    """
    if length < 1:
        raise ValueError("truncate_words needs a length of 1 or more")
    last = 0
    for count, word in enumerate(_NO_SPACE.finditer(text)):
        if count == length:
            return text[:last] + to_text(end)
        last = word.end()
    return text


_SLUG_LENGTH: Final = 80
_UNSAFE_IN_SLUG: Final = lazy_pattern(r"[^A-Za-z0-9._-]+")
_RESERVED: Final = lazy_pattern(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def slug(value: object) -> str:
    """Make one safe path segment: letters, digits, `.`, `_`, `-`, at most 80 characters.

    If characters are dropped, six hex digits of the value's hash make the segment unique.
    """
    text = str(value) if isinstance(value, int | float) else value
    if not isinstance(text, str) or isinstance(value, bool):
        raise TypeError("slug takes a text or a number")
    marked = unicodedata.normalize("NFKD", text[:10_000]).encode("ascii", "ignore").decode()
    safe = _UNSAFE_IN_SLUG.sub("-", marked).strip("-.")
    if safe == text and 0 < len(safe) <= _SLUG_LENGTH and not _RESERVED.fullmatch(safe):
        return safe
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    start = safe[: _SLUG_LENGTH - 7].rstrip("-.")
    if not start or _RESERVED.fullmatch(start):
        start = f"x-{start}".rstrip("-")
    return f"{start[: _SLUG_LENGTH - 7]}-{digest}"


PATTERN_FILTERS: Final = frozenset({"regex_find", "regex_findall", "regex_replace"})
_COMPILING: Final = 5
"""The work of compiling an instruction of a pattern."""
_MATCH_WORK: Final = 20
"""The work of a match, besides that of searching for it."""
_STEEPEST: Final = 250
"""From this number of instructions on the work of a search grows in proportion to them."""
_GROUP: Final = lazy_pattern(r"\\(\d|\\)")
_ESCAPED: Final = lazy_pattern(r"[\x00-\x08]")
"""What `\\b` and `\\1` are in a text of a template, unless the backslash is doubled."""


def pattern_filters(budget: Callable[[], WorkBudget]) -> dict[str, Callable[..., Any]]:
    """Return the filters that take a pattern; `budget` returns that of the current rendering.

    Their work is in proportion to the text, for each match. They raise `ValueError`.
    """

    def matches(text: str, written: object) -> tuple[Pattern, Iterator[PatternMatch]]:
        current = budget()
        pattern = template_pattern(to_text(written), current.work)
        each = _search_work(pattern)
        return pattern, pattern.matches(
            text, lambda size: current.work(_MATCH_WORK + size * each // 500)
        )

    def regex_find(text: str, pattern: object) -> Any:
        _, found = matches(text, pattern)
        return next(map(_value, found), None)

    def regex_findall(text: str, pattern: object) -> Iterator[Any]:
        _, found = matches(text, pattern)
        return map(_value, found)

    def regex_replace(text: str, pattern: object, new: object, count: int = 0) -> str:
        known, found = matches(text, pattern)
        pieces = replacement(to_text(new), known)
        made, size, end = list[str](), 0, 0
        for index, match in enumerate(found):
            if count and index == count:
                break
            part = match.before + "".join(
                piece if isinstance(piece, str) else match.groups[piece] or "" for piece in pieces
            )
            size = bounded(size + len(part))
            end += len(match.before) + len(match.groups[0] or "")
            made.append(part)
        bounded(size + len(text) - end)
        return "".join(made) + text[end:]

    return {
        "regex_find": regex_find,
        "regex_findall": regex_findall,
        "regex_replace": regex_replace,
    }


def _search_work(pattern: Pattern) -> int:
    """Return the work of searching 500 bytes, which grows with the square of the pattern's size.

    For some patterns RE2 gives up its fast automaton: then each byte takes each instruction. The
    rest of the text counts anew for each match, as finding its end may take a look at it all.
    """
    return 10 + min(pattern.size, _STEEPEST) * pattern.size // 10


def template_pattern(written: str, work: Callable[[int], None]) -> Pattern:
    """Compile a pattern that a template gives; `work` counts it. Raises `ValueError`."""
    if _ESCAPED.search(written):
        raise ValueError(r"the pattern holds a control character; write \\b, two backslashes")
    try:
        pattern = compiled(written)
    except PatternError as error:
        work(error.size * _COMPILING)
        raise ValueError(f"{error}; {HINT}") from None
    work(pattern.size * _COMPILING)
    return pattern


def pattern_fault(
    arguments: Sequence[nodes.Expr], work: Callable[[int], None]
) -> tuple[int, str, str] | None:
    """Return what is wrong with a pattern, and a replacement, that are written literally.

    That is the offset, a message and a hint.
    """
    offset = 0
    try:
        for index, part in enumerate(arguments):
            if isinstance(part, nodes.Const):
                offset, written = part.lineno - 1, str(part.value)
                if index == 0:
                    pattern = template_pattern(written, work)
                else:
                    replacement(written, pattern)
    except OverBudgetError:
        return None
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        return offset, message, hint
    return None


def replacement(written: str, pattern: Pattern) -> list[str | int]:
    """Return a replacement as texts and numbers of groups. Raises `ValueError`."""
    if _ESCAPED.search(written):
        raise ValueError(r"the replacement holds a control character; write \\1, two backslashes")
    pieces: list[str | int] = []
    for index, piece in enumerate(_GROUP.split(written)):
        is_number = index % 2 == 1 and piece != "\\"
        if is_number and int(piece) > pattern.groups:
            raise ValueError(f"the pattern has no group {piece}, only {pattern.groups}")
        pieces.append(int(piece) if is_number else piece)
    return pieces


def _value(match: PatternMatch) -> Any:
    """Return what a match is in a template: its text, its only group, or its groups as a list."""
    whole, *groups = match.groups
    return whole if not groups else groups[0] if len(groups) == 1 else groups
