"""Where a template's characters stand."""

from collections.abc import Callable
from typing import Self

import msgspec

from poeflow.problems import Place


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The file a text stands in, and the way from an offset in it to a place.

    `path` is canonical; offsets count from 0.
    """

    path: str
    locate: Callable[[int], Place]

    @classmethod
    def for_file(cls, path: str, text: str, *, shown: str) -> Self:
        """Return the origin of a text that is the whole file `path`, called `shown`."""

        def locate(offset: int) -> Place:
            before = text[:offset]
            return Place(shown, before.count("\n") + 1, len(before) - before.rfind("\n"))

        return cls(path=path, locate=locate)

    def moved(self, distance: int, last: int) -> Self:
        """Return the origin of a part of the text: its offset 0 is at `distance`.

        No place lies before the text or behind its offset `last`.
        """

        def locate(offset: int) -> Place:
            return self.locate(min(max(offset + distance, 0), last))

        return type(self)(path=self.path, locate=locate)
