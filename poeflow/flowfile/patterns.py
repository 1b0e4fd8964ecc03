"""Regular expressions in RE2's syntax, linear in the text, and the nearest known word to another.

Every pattern a user writes runs here: in a schema, in `matches`, in the simulator's script.
"""

import functools
from collections.abc import Iterable
from heapq import nlargest
from itertools import islice
from typing import Any, Final

_MAX_KEPT: Final = 512
_MAX_LENGTH: Final = 10_000
_LARGEST: Final = 350_000
"""About how many instructions RE2 makes before it gives a pattern up as too large."""
HINT: Final = "write it in RE2 syntax: no look-around, no back references"


class PatternError(ValueError):
    """The pattern cannot be used; the message says why, `size` what it took to see it."""

    def __init__(self, message: str, *, size: int = 0) -> None:
        super().__init__(message)
        self.size = size


class Pattern:
    """A compiled pattern."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    @property
    def size(self) -> int:
        """How many instructions it has, which is what compiling it takes."""
        size: int = self._compiled.programsize
        return size

    def is_in(self, text: str) -> bool:
        """Whether a part of `text` matches. Halves of characters count as `?`."""
        return self._compiled.search(text.encode("utf-8", "replace")) is not None


@functools.lru_cache(_MAX_KEPT)
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
        told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        size = _LARGEST if "too large" in told else 0
        raise PatternError(f"the pattern is not valid: {told}", size=size) from None


MAX_OPTIONS: Final = 400
"""Among more words than these none is looked for: a flow may ask for thousands of hints."""
MAX_COMPARED: Final = 100_000
"""How many pairs of words are compared to find slips in what may also be right."""
_LONGEST: Final = 40
_COMPARED: Final = 10
"""So many of the words with nearly the same letters are compared in full, which takes long."""
_SHOWN: Final = 12
_ENOUGH: Final = 0.6


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option a typing mistake away from `word`, or None."""
    from difflib import SequenceMatcher

    known = {option.casefold(): option for option in islice(options, MAX_OPTIONS + 1)}
    if len(known) > MAX_OPTIONS or len(word) > _LONGEST:
        return None
    matcher = SequenceMatcher()
    matcher.set_seq2(word.casefold())

    def alike(option: str) -> float:
        matcher.set_seq1(option)
        is_possible = matcher.real_quick_ratio() >= _ENOUGH
        return matcher.quick_ratio() if is_possible else 0.0

    def near(option: str) -> float:
        matcher.set_seq1(option)
        return matcher.ratio()

    possible = [(alike(option), option) for option in known if len(option) <= _LONGEST]
    compared = nlargest(_COMPARED, (one for one in possible if one[0] >= _ENOUGH))
    ratio, match = max(((near(option), option) for _, option in compared), default=(0.0, ""))
    return known[match] if ratio >= _ENOUGH else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `did you mean "x"?`, or the empty string where nothing is near."""
    match = nearest(word, options)
    return f'did you mean "{match}"?' if match is not None else ""


def one_of(word: str, options: Iterable[str]) -> str:
    """Return a did-you-mean, else the list of what is allowed."""
    names = sorted(islice(options, MAX_OPTIONS + 1))
    if not names:
        return "there are none"
    if len(names) > MAX_OPTIONS:
        return f"it is none of over {MAX_OPTIONS} known ones"
    more = ", ..." if len(names) > _SHOWN else ""
    return did_you_mean(word, names) or "known: " + ", ".join(names[:_SHOWN]) + more
