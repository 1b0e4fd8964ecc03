"""Pseudo-random choices: the same seed gives the same choices."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class SeededRandom:
    """An endless sequence of choices determined by `seed`."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode("utf-8", "surrogatepass")
        self._rolled = 0

    def roll(self, sides: int) -> int:
        """Return a whole number from 0 to `sides` - 1."""
        self._rolled += 1
        digest = hashlib.sha256(self._seed + b":%d" % self._rolled).digest()
        return int.from_bytes(digest[:8]) % sides

    def choice(self, options: Sequence[T]) -> T:
        return options[self.roll(len(options))]

    def hex(self, digits: int) -> str:
        return f"{self.roll(16**digits):0{digits}x}"
