"""An answer that must be one of a few words."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

_WRAPPERS: Final = (
    *(("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'")),
    *(("“", "”"), ("\u2018", "\u2019"), ("„", "“"), ("«", "»"), ("(", ")"), ("[", "]")),
)
_ENDINGS: Final = ".!,;:"
_MAX_ANSWER: Final = 10_000


def chosen(text: str, options: Sequence[str]) -> str | None:
    """Return the option, as declared, that an answer names; None where it names none.

    Case, surrounding space, quotes, Markdown emphasis and a final period do not count.
    """
    if len(text) > _MAX_ANSWER:
        return None
    folded = {_folded(option): option for option in reversed(options)}
    return next((folded[bare] for bare in _peeled(_folded(text)) if bare in folded), None)


def _peeled(text: str) -> Iterator[str]:
    """Yield a text, and what is left of it each time a layer is taken off."""
    while text:
        yield text
        if text[-1] in _ENDINGS:
            text = text[:-1].strip()
        elif len(text) > 1 and (text[0], text[-1]) in _WRAPPERS:
            text = text[1:-1].strip()
        else:
            return


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold()).strip()
