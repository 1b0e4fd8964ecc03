"""The instances of a lock in little memory: unpacked one by one, when they are used."""

import abc
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from poeflow.digest import sha256_of_key
from poeflow.records import key_of, path_of
from poeflow.store.lock.entries import PART, Accepted, Before, LockEntry, LockStatus

OWN_KEY: Final = "@"
"""Means the hash of the instance's own key."""
NOTHING: Final = "-"
_HASHES: Final = ("recipe", "request", "text", "result", "extras")
LEGEND: Final = " ".join(_HASHES)
WITHOUT_RESULT: Final[Mapping[str, LockStatus]] = {"skipped": "skipped", "empty": "empty"}
"""What stands before the recipe of an entry without a result: how that came."""
_NO_HASHES: Final = (NOTHING,) * (len(_HASHES) - 1)
"""What such an entry has besides its recipe."""


class About(NamedTuple):
    """What most instances of a step have in common, besides parts."""

    model: str = ""
    because: tuple[str, ...] = ()
    server: str = ""
    untracked: bool = False
    served: str = ""


class More(msgspec.Struct, frozen=True, kw_only=True):
    """Values that few instances have."""

    outputs: dict[str, str] = {}
    answered_by: str | None = None
    conversation: str | None = None
    warnings: list[str] = []
    accepted: Accepted | None = None
    before: Before | None = None


NO_MORE: Final = More()


class Packed(NamedTuple):
    """An entry: its `hashes` as text, the `names` and `values` of its parts, and rare values."""

    hashes: str
    names: tuple[str, ...]
    values: tuple[str, ...]
    about: About
    more: More | None


def packed_of(name: str, entry: LockEntry) -> Packed:
    """Return the entry of an instance, packed."""
    more: More | None = None
    rare = (entry.answered_by, entry.conversation, entry.warnings, entry.accepted, entry.before)
    if entry.outputs or any(rare):
        more = More(
            outputs=dict(sorted(entry.outputs.items())),
            answered_by=entry.answered_by,
            conversation=entry.conversation,
            warnings=entry.warnings,
            accepted=entry.accepted,
            before=entry.before,
        )
    if entry.status in WITHOUT_RESULT:
        hashes = f"{entry.status} {entry.recipe}"
    else:
        found = (entry.recipe, entry.request, entry.text, entry.result, entry.extras)
        hashes = " ".join([one or NOTHING for one in found])
    parts = entry.parts
    names = tuple(sorted(parts))
    key = _key_part(name)
    return Packed(
        hashes=hashes,
        names=names,
        values=tuple([OWN_KEY if parts[one] == key else parts[one] for one in names]),
        about=About(entry.model, entry.because, entry.server, entry.untracked, entry.served),
        more=more,
    )


def whole_entry(name: str, packed: Packed) -> LockEntry:
    """Return the entry that was packed."""
    about, more = packed.about, packed.more or NO_MORE
    words = packed.hashes.split(" ")
    status = WITHOUT_RESULT.get(words[0], "ok")
    words = words if status == "ok" else [words[1], *_NO_HASHES]
    recipe, request, text, result, extras = [None if one == NOTHING else one for one in words]
    parts = dict(zip(packed.names, packed.values, strict=True))
    if OWN_KEY in packed.values:
        key = _key_part(name)
        parts |= {part: key for part, value in parts.items() if value == OWN_KEY}
    return LockEntry(
        status=status,
        recipe=recipe or "",
        request=request,
        server=about.server,
        model=about.model,
        served=about.served,
        because=about.because,
        parts=parts,
        result=result,
        extras=extras,
        text=text,
        conversation=more.conversation,
        outputs=more.outputs,
        untracked=about.untracked,
        answered_by=more.answered_by,
        warnings=more.warnings,
        accepted=more.accepted,
        before=more.before,
    )


def _key_part(name: str) -> str:
    """Return the part for an instance's own key; without a key, a text that no part equals."""
    if not name.endswith("]") or "[" not in name:
        return ""
    key = key_of(name) if "/" in name else name.partition("[")[2][:-1]
    return "" if key is None else sha256_of_key(key)[:PART]


class _Shape(NamedTuple):
    """What rows have in common: their names, and the `values` of all but those in `places`."""

    names: tuple[str, ...]
    about: About
    places: tuple[int, ...]
    values: tuple[str, ...]


class RowCodec:
    """Writes entries as bytes, and reads them: the number of a shape, hashes, then own values."""

    def __init__(self) -> None:
        self._values: dict[tuple[tuple[str, ...], About], tuple[str, ...]] = {}
        """The values of the first row that had these names: most others have most of them, too."""
        self._shapes: dict[str, _Shape] = {}
        self._numbers: dict[_Shape, str] = {}

    def encode(self, packed: Packed) -> bytes | None:
        """Return an entry as bytes, None if it has rare values or other texts than hashes."""
        hashes, names, values, about, more = packed
        if more is not None:
            return None
        common = self._values.setdefault((names, about), values)
        pairs = enumerate(zip(values, common, strict=True))
        places = tuple([at for at, (value, usual) in pairs if value != usual])
        own = [values[at] for at in places]
        if any(" " in one for one in own):
            return None
        shape = _Shape(names, about, places, common)
        number = self._numbers.get(shape)
        if number is None:
            number = self._numbers[shape] = str(len(self._shapes))
            self._shapes[number] = shape
        return " ".join([number, hashes, *own]).encode("utf-8", "surrogatepass")

    def decode(self, row: bytes) -> Packed:
        """Return the entry that was written so."""
        number, rest = row.decode("utf-8", "surrogatepass").split(" ", 1)
        names, about, places, common = self._shapes[number]
        hashes, *own = rest.rsplit(" ", len(places))
        values = [*common]
        for at, value in zip(places, own, strict=True):
            values[at] = value
        return Packed(hashes, names, tuple(values), about, None)


class LockRows(Mapping[str, LockEntry]):
    """Entries by the name of their instance."""

    @abc.abstractmethod
    def packed(self) -> Iterable[tuple[str, Packed]]:
        """Return all entries, packed, in no order."""

    @abc.abstractmethod
    def rare(self) -> Iterator[More]:
        """Yield the values that few instances have: their files."""

    @abc.abstractmethod
    def packed_row(self, name: str) -> Packed:
        """Return the entry of an instance, packed. Raises `KeyError`."""

    def find(self, name: str) -> LockEntry | None:
        """Return the entry of an instance, None if there is none."""
        return self.get(name)

    def packed_as(self, _name: str, _entry: LockEntry) -> Packed | None:
        """Return the packed form of an entry that was returned a moment ago, if it is unchanged."""
        return None

    def are_those_of(self, _other: "LockRows") -> bool:
        """Return whether all entries were taken from other rows, and are all of those."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]  # as of every mapping that can change


class PackedRows(LockRows):
    """Entries that can be added one by one.

    Most are bytes; one that has rare values, or other texts than hashes, stands as it is. One that
    other rows have, too, stays there.
    """

    def __init__(self, entries: Mapping[str, LockEntry] | None = None) -> None:
        self._rows: dict[str, bytes | Packed | LockRows] = {}
        self._codec = RowCodec()
        for name, entry in (entries or {}).items():
            self.add(name, entry)

    @classmethod
    def of(cls, rows: Mapping[str, Packed]) -> "PackedRows":
        """Return entries that are packed already."""
        found = cls()
        for name, packed in rows.items():
            found.add_packed(name, packed)
        return found

    def add(self, name: str, entry: LockEntry) -> None:
        """Add an entry, or replace that of an instance."""
        self.add_packed(name, packed_of(name, entry))

    def add_packed(self, name: str, made: Packed) -> None:
        """Add a packed entry."""
        self._rows[name] = self._codec.encode(made) or made

    def add_from(self, rows: LockRows, name: str, packed: Packed) -> None:
        """Add an entry that other rows, which do not change, have packed."""
        self._rows[name] = rows if packed.more is None else packed

    def without_before(self) -> "PackedRows":
        """Return the entries without the hashes of version 1, if no recipe uses those."""
        older = {
            name: (row, row.more)
            for name, row in self._rows.items()
            if isinstance(row, Packed) and row.more is not None and row.more.before is not None
        }
        if not older or any(map(_needs_before, (row for row, _ in older.values()))):
            return self
        found = PackedRows()
        found._rows, found._codec = dict(self._rows), self._codec
        for name, (row, more) in older.items():
            rest = msgspec.structs.replace(more, before=None)
            found.add_packed(name, row._replace(more=None if rest == NO_MORE else rest))
        return found

    def find(self, name: str) -> LockEntry | None:
        return self[name] if name in self._rows else None

    def packed(self) -> Iterable[tuple[str, Packed]]:
        return ((name, self.packed_row(name)) for name in list(self._rows))

    def packed_row(self, name: str) -> Packed:
        row = self._rows[name]
        if isinstance(row, bytes):
            return self._codec.decode(row)
        return row.packed_row(name) if isinstance(row, LockRows) else row

    def are_those_of(self, other: LockRows) -> bool:
        return len(self) == len(other) and all(self.taken_from(other, name) for name in self._rows)

    def taken_from(self, other: LockRows, name: str) -> bool:
        """Return whether the entry of an instance is that of other rows."""
        row = self._rows[name]
        return row is other or (name in other and row == other.packed_row(name))

    def rare(self) -> Iterator[More]:
        rows = (one for one in self._rows.values() if isinstance(one, Packed))
        return (one.more for one in rows if one.more is not None)

    def __getitem__(self, name: str) -> LockEntry:
        return whole_entry(name, self.packed_row(name))

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _needs_before(row: Packed) -> bool:
    """Whether an entry of version 1 still has its old recipe, which reads other instances."""
    before = row.more.before if row.more is not None else None
    reads = any(name == "source" or name.startswith("steps.") for name in row.names)
    return before is not None and before.recipe is not None and reads


class BothRows(LockRows):
    """The entries that `new` has now, and those of `old` that `new` does not have.

    Entries that are added to `new` later are not among them, but may take the place of older ones.
    """

    def __init__(self, old: LockRows, new: PackedRows) -> None:
        self._old = old
        self._new = new
        self._names = [*(name for name in old if name not in new), *new]

    def packed(self) -> Iterable[tuple[str, Packed]]:
        return ((name, self.packed_row(name)) for name in self._names)

    def packed_row(self, name: str) -> Packed:
        return (self._new if name in self._new else self._old).packed_row(name)

    def are_those_of(self, other: LockRows) -> bool:
        new = (name for name in self._names if name in self._new)
        is_all = self._old is other and len(self) == len(other)
        return is_all and all(self._new.taken_from(other, name) for name in new)

    def rare(self) -> Iterator[More]:
        kept = (one.more for _, one in self.packed())
        return (one for one in kept if one is not None)

    def __getitem__(self, name: str) -> LockEntry:
        return self._new[name] if name in self._new else self._old[name]

    def __contains__(self, name: object) -> bool:
        return name in self._new or name in self._old

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def rows_of(entries: Mapping[str, LockEntry]) -> LockRows:
    """Return entries as rows."""
    return entries if isinstance(entries, LockRows) else PackedRows(entries)


def place_of(name: str) -> tuple[str, str]:
    """Return the table and the row of an instance: `a/b` and `[x]/b[y]` of `a[x]/b[y]`.

    The row of one whose outermost step runs once is its name.
    """
    head, bracket, rest = name.partition("[")
    if "/" not in name:
        return head, f"[{rest}" if bracket else name
    steps = path_of(name)
    begin = steps[0] if steps else ""
    is_parted = name.startswith(f"{begin}[")
    return "/".join(steps), name[len(begin) :] if is_parted else name


def name_of(table: str, row: str) -> str:
    """Return the name of the instance that has its place there."""
    return f"{table.partition('/')[0]}{row}" if row.startswith("[") else row
