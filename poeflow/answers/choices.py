"""An answer that must be one of a few words."""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from poeflow.answers.fences import blocks

_WRAPPERS: Final = (
    *(("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'")),
    *(("“", "”"), ("\u2018", "\u2019"), ("„", "“"), ("«", "»"), ("(", ")"), ("[", "]")),
    *(("\u2039", "\u203a"), ("「", "」"), ("『", "』"), ("【", "】")),
)
_ENDINGS: Final = ".!,;:。"
_MAX_ANSWER: Final = 10_000
_FENCES: Final = ("```", "~~~")
_SAME_SHAPE: Final = ("<noBreak>", "<wide>", "<narrow>", "<font>", "<compat>")
"""Kinds of characters that are another one in a different dress: not ², ½ or ①."""
_ALIKE: Final = {
    **dict.fromkeys("\u2212\u2043\u02d7", "-"),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02b9\u02bc`\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
}
_INVISIBLE: Final = ("\u034f", *map(chr, range(0xFE00, 0xFE10)))


def chosen(text: str, options: Sequence[str]) -> str | None:
    """Return the option, as declared, that an answer names; None where it names none.

    Case, surrounding space, quotes, Markdown emphasis, a fence and a final period do not count.
    Nor does what the eye cannot tell apart (kinds of dashes, quotes and spaces, invisible
    characters, full width), where that leaves one option only.
    """
    if len(text) > _MAX_ANSWER:
        return None
    exact = {_folded(option): option for option in reversed(options)}
    alike: dict[str, str | None] = {}
    for option in options:
        same = alike.setdefault(_plain(option), option)
        if same is not None and _folded(same) != _folded(option):
            alike[_plain(option)] = None
    said = tuple(_said(text))
    peeled = [bare for one in said for bare in _peeled(_folded(one))]
    found = next((exact[bare] for bare in peeled if bare in exact), None)
    if found is not None:
        return found
    peeled = [bare for one in said for bare in _peeled(_plain(one))]
    return next((alike[bare] for bare in peeled if alike.get(bare) is not None), None)


def _said(text: str) -> Iterator[str]:
    """Yield an answer, and what its fence holds or its JSON spells where it is nothing else."""
    yield text
    bare = text.strip()
    if bare.startswith(_FENCES) and bare.endswith(_FENCES):
        those = blocks(bare)
        if len(those) == 1:
            bare = those[0].content.strip()
            yield bare
    if bare.startswith('"') and "\\" in bare:
        try:
            spelled = json.loads(bare)
        except ValueError:
            return
        yield str(spelled)


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


def _plain(text: str) -> str:
    """Return a text with one of each kind of characters that look the same, in small letters."""
    told = "".join(map(_plain_character, unicodedata.normalize("NFC", text)))
    return _folded(" ".join(told.split()))


def _plain_character(character: str) -> str:
    if character.isascii() and character != "`":
        return character
    category = unicodedata.category(character)
    if character in _ALIKE:
        return _ALIKE[character]
    if category == "Pd":
        return "-"
    if category == "Cf" or character in _INVISIBLE:
        return ""
    if unicodedata.decomposition(character).startswith(_SAME_SHAPE):
        return unicodedata.normalize("NFKC", character)
    return character
