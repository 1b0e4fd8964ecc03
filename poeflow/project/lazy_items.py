"""Items of loops that are made as they are read: of many, few are in memory at a time."""

import io
from abc import abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from operator import itemgetter
from typing import Any, Final, overload

from poeflow.digest import Json

_AHEAD: Final = 100
_MOST_AHEAD: Final = 256 * 1024
"""How many rows of a table are read ahead, and how many bytes these may have."""


class _LazyItems(Sequence[Json]):
    """Items that are read one by one, as they are asked for."""

    @overload
    def __getitem__(self, index: int) -> Json: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Json]: ...
    def __getitem__(self, index: int | slice) -> Json | Sequence[Json]:
        if isinstance(index, slice):
            return PickedItems(self, range(len(self))[index])
        return self._item(index if index >= 0 else range(len(self))[index])

    @abstractmethod
    def _item(self, at: int) -> Json:
        """Read the item at a position from 0. Raises `IndexError` if there is none."""

    @property
    def find_file(self) -> Callable[[int], str] | None:
        """What finds the project path of the table with an item, if they are of several."""
        return None


class PackedTexts(Sequence[str]):
    """Many texts in little memory: each is made when it is read."""

    def __init__(self, texts: Iterable[str]) -> None:
        found = list(texts)
        self._text = "".join(found)
        self._bounds = array("Q", accumulate(map(len, found), initial=0))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def are_ascii(self) -> bool:
        return self._text.isascii()

    @property
    def characters(self) -> int:
        """How many characters all texts have together."""
        return len(self._text)

    def __iter__(self) -> Iterator[str]:
        return (self._text[begin:end] for begin, end in pairwise(self._bounds))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        at = index if index >= 0 else range(len(self))[index]
        return self._text[self._bounds[at] : self._bounds[at + 1]]


class PickedItems(_LazyItems):
    """Some of the items of a loop."""

    def __init__(self, items: Sequence[Json], positions: Sequence[int]) -> None:
        self._items = items
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def _item(self, at: int) -> Json:
        return self._items[self._positions[at]]

    @property
    def find_file(self) -> Callable[[int], str] | None:
        find, positions = file_finder(self._items), self._positions
        return None if find is None else lambda at: find(positions[at])


class GroupedItems(_LazyItems):
    """The items of a loop in groups: lists of items."""

    def __init__(self, items: Sequence[Json], groups: Sequence[Sequence[int]]) -> None:
        self._items = items
        self._groups = groups

    def __len__(self) -> int:
        return len(self._groups)

    def _item(self, at: int) -> Json:
        return [self._items[one] for one in self._groups[at]]


class Table(_LazyItems):
    """The rows of a text, each read as it is asked for: `starts` are the bytes they begin at.

    `columns` are the names that every row has: then `read` returns the cells of each row in some
    lines. If they differ, `columns` is None, and `read` returns the rows themselves.
    """

    def __init__(
        self,
        data: bytes,
        starts: Sequence[int],
        read: Callable[[Iterable[str]], Iterator[Any]],
        *,
        columns: tuple[str, ...] | None = None,
    ) -> None:
        self.columns = columns
        self._data = data
        self._starts = starts
        self._read = read
        self._first = 0
        self._ahead: list[Any] = []
        """What was read from the position `_first` on, as rows are asked for mostly in order."""

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Json]:
        found = self._all()
        return found if self.columns is None else map(self._named, found)

    def column(self, name: str) -> Iterator[str]:
        """Return the cells of the column `name`, which is one of `columns`."""
        if self.columns is None:
            raise AssertionError("the rows have no columns in common")
        return map(itemgetter(self.columns.index(name)), self._all())

    def _all(self) -> Iterator[Any]:
        first = self._starts[0] if self._starts else len(self._data)
        file = io.BytesIO(self._data)
        file.seek(first)
        return self._read(io.TextIOWrapper(file, encoding="utf-8", newline="\n"))

    def _named(self, cells: list[str]) -> Json:
        return dict(zip(self.columns or (), cells, strict=True))

    def _item(self, at: int) -> Json:
        end = self._first + len(self._ahead)
        if not self._first <= at < end:
            self._ahead = self._rows(at, _AHEAD if at == end else 1)
            self._first = at
        found: Any = self._ahead[at - self._first]
        return found if self.columns is None else dict(zip(self.columns, found, strict=True))

    def _rows(self, at: int, count: int) -> list[Any]:
        """Read so many rows from a position on, only one if they are large."""
        data = self._between(at, at + count)
        data = data if len(data) <= _MOST_AHEAD else self._between(at, at + 1)
        return list(self._read(io.StringIO(data.decode(), newline="\n")))

    def _between(self, at: int, end: int) -> bytes:
        stop = self._starts[end] if end < len(self._starts) else None
        return self._data[self._starts[at] : stop]


class JoinedItems(_LazyItems):
    """The rows of several tables, one after the other. `paths` are their project paths."""

    def __init__(self, tables: Sequence[Sequence[Json]], paths: Sequence[str]) -> None:
        self.tables = tables
        self._paths = paths
        self._ends = list(accumulate(map(len, tables)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Json]:
        return chain.from_iterable(self.tables)

    def _item(self, at: int) -> Json:
        number = bisect_right(self._ends, at)
        table = self.tables[number]
        return table[at - self._ends[number] + len(table)]

    @property
    def find_file(self) -> Callable[[int], str] | None:
        return lambda at: self._paths[bisect_right(self._ends, at)]


def file_finder(items: Sequence[Json]) -> Callable[[int], str] | None:
    """Return what finds the table that an item is a row of, by its path, if there are several."""
    return items.find_file if isinstance(items, _LazyItems) else None
