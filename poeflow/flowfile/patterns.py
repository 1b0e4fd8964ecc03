"""Regular expressions in RE2's syntax, whose time grows with the text and never explodes.

Every pattern a user writes runs here: in a schema, in `matches`, in the simulator's script.
"""

import functools
from typing import Any, Final

_MAX_KEPT: Final = 512
_MAX_LENGTH: Final = 10_000
_LARGEST: Final = 350_000
"""About how many instructions RE2 makes before it gives a pattern up as too large."""
HINT: Final = "write it in RE2 syntax: no look-around, no back references"


class PatternError(ValueError):
    """The pattern cannot be used; the message says why, `size` what it took to see it."""

    def __init__(self, message: str, *, size: int = 0) -> None:
        super().__init__(message)
        self.size = size


class Pattern:
    """A compiled pattern."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    @property
    def size(self) -> int:
        """How many instructions it has, which is what compiling it takes."""
        size: int = self._compiled.programsize
        return size

    def is_in(self, text: str) -> bool:
        """Whether a part of `text` matches. Halves of characters count as `?`."""
        return self._compiled.search(text.encode("utf-8", "replace")) is not None


@functools.lru_cache(_MAX_KEPT)
def compiled(written: str) -> Pattern:
    """Compile a pattern. Raises `PatternError`."""
    import re2

    if len(written) > _MAX_LENGTH:
        raise PatternError(f"the pattern has {len(written):,} characters, at most {_MAX_LENGTH:,}")
    options = re2.Options()
    options.log_errors = False
    try:
        return Pattern(re2.compile(written.encode("utf-8", "replace"), options=options))
    except re2.error as error:
        reason = error.args[0]
        told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        size = _LARGEST if "too large" in told else 0
        raise PatternError(f"the pattern is not valid: {told}", size=size) from None
