"""Did-you-mean: the nearest known word."""

from collections.abc import Iterable


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option a typing mistake away from `word`, or None."""
    from difflib import get_close_matches

    known = {option.casefold(): option for option in options}
    matches = get_close_matches(word.casefold(), known, n=1, cutoff=0.6)
    return known[matches[0]] if matches else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `did you mean "x"?`, or the empty string where nothing is near."""
    match = nearest(word, options)
    return f'did you mean "{match}"?' if match is not None else ""


def one_of(word: str, options: Iterable[str]) -> str:
    """Return a did-you-mean, else the list of what is allowed."""
    names = sorted(options)
    if not names:
        return "there are none"
    return did_you_mean(word, names) or "known: " + ", ".join(names[:12])
