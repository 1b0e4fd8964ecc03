"""Regular expressions that are compiled when they are first used.

Compiling all of them took a tenth of the time that `poeflow` needs to start.
"""

import re
from functools import cached_property
from typing import AnyStr, cast


def lazy_pattern(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return what `re.compile` does, to be used in the same way."""
    return cast("re.Pattern[AnyStr]", _LazyPattern(pattern, flags))


class _LazyPattern:
    """Stands for a pattern, and has each of its methods once it was asked for."""

    def __init__(self, pattern: str | bytes, flags: int) -> None:
        self._arguments = (pattern, flags)

    @cached_property
    def _compiled(self) -> object:
        pattern, flags = self._arguments
        return re.compile(pattern, flags)

    def __getattr__(self, name: str) -> object:
        value: object = getattr(self._compiled, name)
        setattr(self, name, value)
        return value
