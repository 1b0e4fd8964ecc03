"""Simulated values of JSON Schema's `string`: by format, by pattern, by length."""

from collections.abc import Callable, Mapping
from typing import Final

from poeflow.digest import Json
from poeflow.simulator.pattern_values import PatternError, text_matching
from poeflow.simulator.seeded_random import Dice

_TRIES: Final = 40
_MAX_LENGTH: Final = 100_000
_WORDS: Final = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island")


def _word(dice: Dice) -> str:
    return dice.choice(_WORDS)


def _date(dice: Dice) -> str:
    return f"2026-{dice.roll(12) + 1:02d}-{dice.roll(28) + 1:02d}"


def _time(dice: Dice) -> str:
    return f"{dice.roll(24):02d}:{dice.roll(60):02d}:{dice.roll(60):02d}Z"


def _uuid(dice: Dice) -> str:
    return f"{dice.hex(8)}-{dice.hex(4)}-4{dice.hex(3)}-a{dice.hex(3)}-{dice.hex(12)}"


_FORMATS: Final[Mapping[str, Callable[[Dice], str]]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda dice: f"{_date(dice)}T{_time(dice)}",
    "duration": lambda dice: f"PT{dice.roll(59) + 1}M",
    "email": lambda dice: f"{_word(dice)}.{dice.hex(4)}@example.com",
    "idn-email": lambda dice: f"{_word(dice)}.{dice.hex(4)}@example.com",
    "hostname": lambda dice: f"{_word(dice)}-{dice.hex(4)}.example.com",
    "ipv4": lambda dice: f"192.0.2.{dice.roll(254) + 1}",
    "ipv6": lambda dice: f"2001:db8::{dice.hex(4)}",
    "uri": lambda dice: f"https://example.com/{_word(dice)}/{dice.hex(6)}",
    "url": lambda dice: f"https://example.com/{_word(dice)}/{dice.hex(6)}",
    "iri": lambda dice: f"https://example.com/{_word(dice)}/{dice.hex(6)}",
    "uri-reference": lambda dice: f"/{_word(dice)}/{dice.hex(6)}",
    "uuid": _uuid,
    "json-pointer": lambda dice: f"/{_word(dice)}/{dice.roll(9)}",
    "regex": lambda dice: f"^{_word(dice)}-{dice.hex(4)}$",
}


def simulated_string(schema: Mapping[str, Json], name: str, dice: Dice) -> str:
    """Return a text that fits `schema`, named after the property `name` where it is free.

    Raises `PatternError` for a pattern that is not understood or fits no length.
    """
    least, most = _length(schema, "minLength", 0), _length(schema, "maxLength", _MAX_LENGTH)
    pattern, form = schema.get("pattern"), schema.get("format")
    if isinstance(pattern, str):
        return _matching(pattern, least, most, dice)
    if isinstance(form, str) and form in _FORMATS:
        return _FORMATS[form](dice)
    words = name.replace("_", " ").replace("-", " ").strip() or "text"
    text = f"Simulated {words} {dice.choice(_WORDS)} {dice.hex(4)}"
    if len(text) > most:
        text = dice.hex(16)[:most]
    while len(text) < least:
        text = f"{text} {dice.choice(_WORDS)}"
    return text[: max(least, min(most, 80))].rstrip().ljust(least, ".")


def _matching(pattern: str, least: int, most: int, dice: Dice) -> str:
    for _ in range(_TRIES):
        text = text_matching(pattern, dice)
        if least <= len(text) <= most:
            return text
    raise PatternError(f"no text of {least} to {most} characters for {pattern!r} was found")


def _length(schema: Mapping[str, Json], name: str, otherwise: int) -> int:
    value = schema.get(name)
    return min(int(value), _MAX_LENGTH) if isinstance(value, int | float) else otherwise
