"""Regular expressions in RE2 syntax, which take linear time, and suggestions for misspelt words.

All patterns of users run here: in schemas, in `matches`, in templates, in the simulator's script.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nlargest
from itertools import islice
from typing import Any, Final

_MAX_CACHED: Final = 512
_MAX_LENGTH: Final = 10_000
_INNER_BYTES: Final = frozenset(bytes([number]) for number in range(0x80, 0xC0))
"""The bytes inside a character in UTF-8, where nothing begins."""
_LARGEST: Final = 350_000
"""About how many instructions RE2 makes before it refuses a pattern as too large."""
HINT: Final = "write it in RE2 syntax: no look-around, no back references"


class PatternError(ValueError):
    """The pattern cannot be used; `size` is how many instructions it took to find out."""

    def __init__(self, message: str, *, size: int = 0) -> None:
        super().__init__(message)
        self.size = size


class Pattern:
    """A compiled pattern."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    @property
    def size(self) -> int:
        """How many instructions it has, which measures the work of compiling it."""
        size: int = self._compiled.programsize
        return size

    def is_in(self, text: str) -> bool:
        """Return whether a part of `text` matches. Lone surrogates count as `?`."""
        return self._compiled.search(text.encode("utf-8", "replace")) is not None

    @property
    def groups(self) -> int:
        """How many groups it has."""
        count: int = self._compiled.groups
        return count

    def matches(self, text: str, searched: Callable[[int], None]) -> Iterator["PatternMatch"]:
        """Yield the matches in `text`; an empty one does not touch the one before it.

        `searched` is called before each search with how many bytes it may look at. Lone surrogates
        count as `?`.
        """
        data, position, last = text.encode("utf-8", "replace"), 0, -1
        while position <= len(data):
            searched(len(data) - position)
            found = self._compiled.search(data, position)
            if found is None:
                return
            start, end = found.span()
            position = end if end > start else end + 1
            is_inside = data[start : start + 1] in _INNER_BYTES
            if start == end and (start == last or is_inside):
                continue
            yield PatternMatch(data[max(last, 0) : start], found)
            last = end


class PatternMatch:
    """A match: the text `before` it, since the last one, and its groups; 0 is all of it."""

    __slots__ = ("before", "groups")

    def __init__(self, before: bytes, found: Any) -> None:
        self.before = before.decode("utf-8", "replace")
        self.groups = tuple(
            None if part is None else part.decode("utf-8", "replace")
            for part in (found.group(0), *found.groups())
        )


@functools.lru_cache(_MAX_CACHED)
def compiled(written: str) -> Pattern:
    """Compile a pattern. Raises `PatternError`."""
    import re2

    if len(written) > _MAX_LENGTH:
        raise PatternError(f"the pattern has {len(written):,} characters, at most {_MAX_LENGTH:,}")
    options = re2.Options()
    options.log_errors = False
    try:
        return Pattern(re2.compile(written.encode("utf-8", "replace"), options=options))
    except re2.error as error:
        reason = error.args[0]
        reason_text = (
            reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        )
        size = _LARGEST if "too large" in reason_text else 0
        raise PatternError(f"the pattern is not valid: {reason_text}", size=size) from None


MAX_OPTIONS: Final = 400
"""There is no suggestion from more words than these: a flow may need thousands of hints."""
MAX_COMPARED: Final = 100_000
"""How many pairs of words are compared to find misspellings among names that may be right."""
_LONGEST: Final = 40
_COMPARED: Final = 10
"""How many of the words with nearly the same letters are compared in full, which is slow."""
_SHOWN: Final = 12
_MIN_RATIO: Final = 0.6


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option that `word` is probably a misspelling of, or None."""
    known = {option.casefold(): option for option in islice(options, MAX_OPTIONS + 1)}
    if not 0 < len(known) <= MAX_OPTIONS or len(word) > _LONGEST:
        return None
    from difflib import SequenceMatcher

    matcher = SequenceMatcher()
    matcher.set_seq2(word.casefold())

    def alike(option: str) -> float:
        matcher.set_seq1(option)
        is_possible = matcher.real_quick_ratio() >= _MIN_RATIO
        return matcher.quick_ratio() if is_possible else 0.0

    def near(option: str) -> float:
        matcher.set_seq1(option)
        return matcher.ratio()

    possible = [(alike(option), option) for option in known if len(option) <= _LONGEST]
    compared = nlargest(_COMPARED, (pair for pair in possible if pair[0] >= _MIN_RATIO))
    ratio, match = max(((near(option), option) for _, option in compared), default=(0.0, ""))
    return known[match] if ratio >= _MIN_RATIO else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `did you mean "x"?`, or an empty string if no option is near."""
    match = nearest(word, options)
    return f'did you mean "{match}"?' if match is not None else ""


def one_of(word: str, options: Iterable[str]) -> str:
    """Return `did you mean "x"?`, else the list of options."""
    names = sorted(islice(options, MAX_OPTIONS + 1))
    if not names:
        return "there are none"
    if len(names) > MAX_OPTIONS:
        return f"it is not one of the {MAX_OPTIONS}+ known ones"
    more = ", ..." if len(names) > _SHOWN else ""
    return did_you_mean(word, names) or "known: " + ", ".join(names[:_SHOWN]) + more


_NONE: Final = {
    "fallback": "fallback: []",
    "tools": "tools: []",
    "provider": "provider: poe",
    "timeout": "timeout: 10m",
    "retry": "retry: {attempts: 4}",
    "stream": "stream: true",
    "cache": "cache: true",
    "repair": "repair: 0",
    "accept": "accept: []",
    "params": "params: {temperature: null}",
    "extra_body": "extra_body: {NAME: null}",
    **dict.fromkeys(("format", "schema", "one_of", "extract"), "format: text"),
}
"""What a step says to have nothing of what it would inherit, by the key."""


def empty_hint(path: Sequence[str | int]) -> str:
    """Return what to do about a key without a value, which does not undo what is inherited."""
    key = str(path[-1]) if path else ""
    none = _NONE.get(key) if path[:1] == ("steps",) else None
    if path[-1:] == ("system",) and "expect" not in path:
        none = "system: null"
    more = f"; write {none} to take nothing from an alias or defaults:" if none else ""
    return f"fill it, or remove the key{more}"
