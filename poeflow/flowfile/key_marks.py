"""What the annotations of keys say: what a key decides, and what its template renders to."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final, Literal

import msgspec


class Decides(msgspec.Struct, frozen=True):
    """What a key of a step decides, as its annotation says.

    - request: the content of the request
    - judgement: how an answer is read, and whether it is accepted
    - files: the files that are written
    - run: when and how often something is sent
    - nothing: it is for readers

    A change of the first three makes results stale. With `is_resolved` the resolved value counts,
    not the written one: with aliases and defaults, or item by item.
    """

    what: Literal["request", "judgement", "files", "run", "nothing"]
    is_resolved: bool = False

    @property
    def counts_as_written(self) -> bool:
        """Whether any change of the written value makes results stale."""
        return self.what not in ("run", "nothing") and not self.is_resolved


REQUEST: Final = Decides("request")
RESOLVED: Final = Decides("request", is_resolved=True)
JUDGEMENT: Final = Decides("judgement")
FILES: Final = Decides("files")
RUN: Final = Decides("run")
NOTHING: Final = Decides("nothing")


def decisions(shape: type[msgspec.Struct]) -> dict[str, Decides]:
    """Return what each key of a shape decides, if its annotation says so."""
    return {key: mark for key, mark in _marks(shape) if isinstance(mark, Decides)}


class Renders(msgspec.Struct, frozen=True):
    """What the template in a key renders to: a text, any value, or a truth."""

    to: Literal["text", "value", "truth"]


TO_TEXT: Final = Renders("text")
TO_VALUE: Final = Renders("value")
TO_TRUTH: Final = Renders("truth")


@cache
def templates_of(shape: type[msgspec.Struct]) -> Mapping[str, Renders]:
    """Return what the templates of a shape render to, by the keys that hold one."""
    return {key: mark for key, mark in _marks(shape) if isinstance(mark, Renders)}


def _marks(shape: type[msgspec.Struct]) -> Iterator[tuple[str, object]]:
    """Yield the marks in the annotations of a shape, with their keys."""
    names = zip(shape.__struct_fields__, shape.__struct_encode_fields__, strict=True)
    for name, key in names:
        for mark in getattr(shape.__annotations__[name], "__metadata__", ()):
            yield key, mark
