"""Makes texts that match a regular expression, for the common part of the syntax.

Look-arounds, back references and inline flags are not supported.
"""

import string
from collections.abc import Callable
from typing import Final

from poeflow.simulator.seeded_random import SeededRandom

MAX_EXTRA: Final = 3
"""How many more than the minimum an unbounded repetition gives at most."""
_MAX_TEXT: Final = 10_000
_MAX_COST: Final = 200_000
"""The limit on pieces and characters, counted at every level of nesting."""
_CLASSES: Final = {
    "d": string.digits,
    "w": string.ascii_letters + string.digits + "_",
    "s": " ",
    "D": string.ascii_lowercase,
    "W": "-.,:",
    "S": string.ascii_letters + string.digits,
}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_PRINTABLE: Final = string.ascii_letters + string.digits + " -_.,:;!?()[]{}<>@#$%&*+=/\\|~^'\"`"
_Maker = Callable[[], str]


class UnsupportedPatternError(ValueError):
    """The expression uses syntax that is not supported."""


def text_matching(pattern: str, rng: SeededRandom) -> str:
    """Return a text that `pattern` matches. Raises `UnsupportedPatternError`."""
    reader = _Reader(pattern, rng)
    maker = reader.alternatives()
    if not reader.at_end:
        raise UnsupportedPatternError(f"unbalanced parenthesis in {pattern!r}")
    return maker()


class _Reader:
    """Parses an expression into a function that makes a matching text."""

    def __init__(self, pattern: str, rng: SeededRandom) -> None:
        self._pattern = pattern
        self._at = 0
        self._cost = 0
        self._random = rng

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._pattern)

    def alternatives(self) -> _Maker:
        branches = [self._sequence()]
        while self._skip("|"):
            branches.append(self._sequence())

        def make() -> str:
            return self._random.choice(branches)()

        return make

    def _sequence(self) -> _Maker:
        makers: list[_Maker] = []
        while not self.at_end and self._pattern[self._at] not in "|)":
            makers.append(self._repeated(self._atom()))
        return lambda: "".join(self._counted(make) for make in makers)

    def _atom(self) -> _Maker:
        character = self._next()
        match character:
            case "^" | "$":
                return str
            case ".":
                return self._one_of(string.ascii_lowercase)
            case "[":
                return self._one_of(self._class())
            case "(":
                return self._group()
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise UnsupportedPatternError(f"nothing to repeat in {self._pattern!r}")
            case _:
                return lambda: character

    def _group(self) -> _Maker:
        if self._skip("?") and not self._skip(":"):
            if not (self._skip("P<") or self._skip("<")) or self._peek() in "=!":
                raise UnsupportedPatternError(f"a group of {self._pattern!r} is not understood")
            while self._next() != ">":
                pass
        inner = self.alternatives()
        if self._next() != ")":
            raise UnsupportedPatternError(f"unbalanced parenthesis in {self._pattern!r}")
        return inner

    def _escape(self) -> _Maker:
        name = self._next()
        if name in _CLASSES:
            return self._one_of(_CLASSES[name])
        if name in "bBAzZ":
            return str
        character = self._escaped(name)
        return lambda: character

    def _escaped(self, name: str) -> str:
        if name in "xu":
            digits = "".join(self._next() for _ in range(2 if name == "x" else 4))
            if not set(digits) <= set(string.hexdigits):
                raise UnsupportedPatternError(f"\\{name}{digits} is not understood")
            return chr(int(digits, 16))
        if name.isalnum() and name not in _ESCAPES:
            raise UnsupportedPatternError(f"\\{name} is not understood")
        return _ESCAPES.get(name, name)

    def _class(self) -> str:
        """Parse a bracketed class and return its characters."""
        negated = self._skip("^")
        taken: list[str] = []
        while not (taken and self._peek() == "]"):
            first = self._member()
            if len(first) == 1 and self._peek() == "-" and self._peek(1) != "]":
                self._next()
                last = self._member()
                taken += map(chr, range(ord(first), ord(last[:1] or first) + 1))
            else:
                taken += first
        self._next()
        options = "".join(c for c in _PRINTABLE if c not in taken) if negated else "".join(taken)
        if not options:
            raise UnsupportedPatternError(f"an empty class in {self._pattern!r}")
        return options

    def _member(self) -> str:
        character = self._next()
        if character != "\\":
            return character
        name = self._next()
        return _CLASSES[name] if name in _CLASSES else self._escaped(name)

    def _repeated(self, make: _Maker) -> _Maker:
        least, most = self._bounds()
        self._skip("?")
        if (least, most) == (1, 1):
            return make
        spread = (most if most is not None else least + MAX_EXTRA) - least
        spread = min(spread, MAX_EXTRA)
        if spread < 0 or least > _MAX_TEXT:
            raise UnsupportedPatternError(f"a repetition of {self._pattern!r} is not understood")

        def repeat() -> str:
            count = least + self._random.roll(spread + 1)
            return "".join(self._counted(make) for _ in range(count))

        return repeat

    def _counted(self, make: _Maker) -> str:
        """Make one more piece, within the limit."""
        text = make()
        self._cost += 1 + len(text)
        if self._cost > _MAX_COST:
            raise UnsupportedPatternError(f"texts for {self._pattern[:80]!r} are too long")
        return text

    def _bounds(self) -> tuple[int, int | None]:
        if self._skip("*"):
            return 0, None
        if self._skip("+"):
            return 1, None
        if self._skip("?"):
            return 0, 1
        end = self._pattern.find("}", self._at)
        if self._peek() != "{" or end < 0:
            return 1, 1
        least, comma, most = self._pattern[self._at + 1 : end].partition(",")
        if not least.isdecimal() or (most and not most.isdecimal()):
            return 1, 1
        self._at = end + 1
        return int(least), (int(most) if most else None if comma else int(least))

    def _one_of(self, options: str) -> _Maker:
        return lambda: self._random.choice(options)

    def _next(self) -> str:
        if self.at_end:
            raise UnsupportedPatternError(f"{self._pattern!r} ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _peek(self, ahead: int = 0) -> str:
        return self._pattern[self._at + ahead : self._at + ahead + 1]

    def _skip(self, text: str) -> bool:
        if not self._pattern.startswith(text, self._at):
            return False
        self._at += len(text)
        return True
