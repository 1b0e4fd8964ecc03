"""What a value looks like in text, and which values have no look of their own."""

import math
from collections.abc import Mapping
from typing import Any

from jinja2.runtime import Undefined


def text_of(value: object) -> str:
    """Return what a value looks like in text.

    Raises `TypeError` for what has no one look: none, true, false, lists, mappings.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        shown = {None: "none", True: "true", False: "false"}[value]
        raise TypeError(f"{shown} has no text of its own; use | tojson, or test it with if")
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Undefined):
        return str(value)  # raises: the environment's undefined values are strict
    if isinstance(value, list | tuple):
        raise TypeError("a list has no text of its own; use | tojson, | join(', ') or a loop")
    if isinstance(value, Mapping):
        raise TypeError("a mapping has no text of its own; use | tojson or name one of its keys")
    if callable(value):
        raise TypeError("a function is not text; call it with ()")
    raise TypeError(f"a {type(value).__name__} has no text of its own")


def plain(value: Any) -> Any:
    """Return a value as plain JSON data. Raises `TypeError`, or what an undefined value raises."""
    if isinstance(value, Mapping):
        return {_key(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("the result is not a finite number")
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ValueError("the result is a number over 64 bits")
        return value
    return encodable(text_of(value))


def encodable(text: str) -> str:
    """Return `text` where it can be written as UTF-8. Raises `ValueError`."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"the text holds half a character ({character})") from None
    return text


def _key(key: object) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError(f"the key {key!r} of a mapping is not text")
    return str(key)
