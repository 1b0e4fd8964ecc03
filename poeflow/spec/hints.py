"""Did-you-mean: the nearest known word."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

MAX_OPTIONS: Final = 400
"""Among more words than these none is looked for: a flow may ask for thousands of hints."""
_LONGEST: Final = 100
_SHOWN: Final = 12
_ENOUGH: Final = 0.6


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option a typing mistake away from `word`, or None."""
    from difflib import get_close_matches

    known = {option.casefold(): option for option in islice(options, MAX_OPTIONS + 1)}
    if len(known) > MAX_OPTIONS or len(word) > _LONGEST:
        return None
    matches = get_close_matches(word.casefold(), known, n=1, cutoff=_ENOUGH)
    return known[matches[0]] if matches else None


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
