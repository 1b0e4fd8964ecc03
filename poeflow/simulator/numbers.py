"""Simulated values of JSON Schema's `number` and `integer`."""

import math
from collections.abc import Mapping
from typing import Final

from poeflow.digest import Json
from poeflow.simulator.seeded_random import Dice

_USUAL_SPAN: Final = 100
_TRIES: Final = 50


def simulated_number(schema: Mapping[str, Json], kind: str, dice: Dice) -> int | float | None:
    """Return a number that fits `schema`; None where there is none."""
    least, most = _bounds(schema)
    step = schema.get("multipleOf")
    if kind == "integer" or (isinstance(step, int) and step > 0):
        return _whole(least, most, _whole_step(step), dice)
    if isinstance(step, float) and step > 0:
        return _multiple(least, most, step, dice)
    value = least + (most - least) * (dice.roll(9_999) + 1) / 10_000
    return rounded if least <= (rounded := round(value, 2)) <= most else value


def _whole(least: float, most: float, step: int, dice: Dice) -> int | None:
    first, last = math.ceil(least / step), math.floor(most / step)
    return step * (first + dice.roll(last - first + 1)) if first <= last else None


def _multiple(least: float, most: float, step: float, dice: Dice) -> float | None:
    """Return a multiple that stays one when it is divided again, in floating point."""
    first, last = math.ceil(least / step), math.floor(most / step)
    if first > last:
        return None
    for _ in range(_TRIES):
        value = step * (first + dice.roll(last - first + 1))
        for candidate in (round(value, 9), value):
            if (candidate / step).is_integer() and least <= candidate <= most:
                return candidate
    return 0.0 if least <= 0 <= most else None


def _bounds(schema: Mapping[str, Json]) -> tuple[float, float]:
    """Return the closed range to take a number from; exclusive ends are moved a little inward."""
    least, most = _number(schema, "minimum"), _number(schema, "maximum")
    above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
    if above is not None and (least is None or above >= least):
        least = _inward(above, below if below is not None else most)
    if below is not None and (most is None or below <= most):
        most = -_inward(-below, -least if least is not None else None)
    if least is None:
        least = 1 if most is None or most >= 1 else most - _USUAL_SPAN
    return least, most if most is not None else least + _USUAL_SPAN


def _inward(end: float, other: float | None) -> float:
    room = 1.0 if other is None else other - end
    return end + min(1e-6, room / 1_000) if room > 0 else end


def _whole_step(step: Json) -> int:
    if isinstance(step, float) and step > 0:
        numerator, denominator = step.as_integer_ratio()
        return numerator if denominator in (1, 2, 4, 8) else max(1, math.ceil(step))
    return step if isinstance(step, int) and step > 0 else 1


def _number(schema: Mapping[str, Json], name: str) -> float | None:
    value = schema.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and isinstance(value, int | float) else None
