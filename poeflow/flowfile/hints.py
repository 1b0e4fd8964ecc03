"""Did-you-mean: the nearest known word."""

from collections.abc import Iterable
from heapq import nlargest
from itertools import islice
from typing import Final

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
