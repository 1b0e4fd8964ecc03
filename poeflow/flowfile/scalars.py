"""What a plain YAML scalar means: the core schema of YAML 1.2, less digits with a leading zero."""

import re
from collections.abc import Callable
from typing import Final

from poeflow.digest import Json

_CONSTANTS: Final[dict[str, Json]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,4000})")
_BASED: Final = re.compile(r"0o[0-7]{1,64}|0x[0-9a-fA-F]{1,64}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NUMBERS: Final[tuple[tuple[re.Pattern[str], Callable[[str], Json]], ...]] = (
    (_INTEGER, int),
    (_BASED, lambda text: int(text, 0)),
    (_FLOAT, float),
    (_SPECIAL, lambda text: float(text.replace(".", "", 1))),
)


def core_value(text: str) -> Json:
    """Return the value of a plain scalar: null, boolean, integer, float, else the text itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "-+.0123456789":
        return text
    return next((read(text) for shape, read in _NUMBERS if shape.fullmatch(text)), text)
