"""Names for steps, aliases and columns."""

import re
from collections.abc import Container


def word_of(text: str) -> str:
    """Return a text as the name of a step or an alias."""
    word = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return word if word[:1].isalpha() else f"x_{word}".rstrip("_")


def input_name(text: str) -> str:
    """Return a name as that of an input: `firstName` is `first_name`."""
    return word_of(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text))


def unused(name: str, taken: Container[str]) -> str:
    """Return a name, with a number if it is taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found
