"""The lock as text: a table for each step, two lines for each instance, all of it sorted.

What the instances of a step share is written once, above them. Lines begin with their comma, so
that a new row changes no other line.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Annotated, Final, Self

import msgspec

from poeflow.store.lock.entries import Accepted, Before, Hash, LockEntry
from poeflow.store.lock.rows import (
    LEGEND,
    NO_MORE,
    NOTHING,
    WITHOUT_RESULT,
    About,
    LockRows,
    More,
    Packed,
    name_of,
    place_of,
    whole_entry,
)

_HASH: Final = "[A-Za-z0-9_-]{22}"
_Row = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^({LEGEND}\Z|((skipped|empty) {_HASH}|{_HASH}( ({_HASH}|-)){{4}})"
        rf"( ([0-9a-f]{{8}}|[@-]))*\Z)"
    ),
]
_Part = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{8}|@)\Z")]
_FILE: Final = "file "
_WITHOUT_RESULT: Final = tuple(f"{one} " for one in WITHOUT_RESULT)
_MOST_RECENT: Final = 1000
_TOGETHER: Final = 1000
"""How many rows are looked at together."""
_FILES: Final = (_FILE, "glob ", "attachment ", "reads ")


class LongRow(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A row that has more than hashes. None means the value of the table, or no such part."""

    hashes: _Row
    outputs: dict[str, Hash] = {}
    parts: dict[str, _Part | None] = {}
    model: str | None = None
    because: tuple[str, ...] | None = None
    server: str | None = None
    untracked: bool | None = None
    served: str | None = None
    answered_by: str | None = None
    conversation: Hash | None = None
    warnings: list[str] = []
    accepted: Accepted | None = None
    before: Before | None = None


class LockTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The instances of a step as the text has them; `columns` are the parts in which they differ.

    The row without a name is the legend.
    """

    model: str = ""
    server: str = ""
    because: tuple[str, ...] = ()
    untracked: bool = False
    served: str = ""
    files: dict[str, _Part] = {}
    parts: dict[str, _Part] = {}
    columns: tuple[str, ...] = ()
    instances: dict[str, _Row | LongRow] = {}


class _Layout(msgspec.Struct, frozen=True):
    """What the instances of a step share, and the parts in which they differ."""

    about: About
    shared: Mapping[str, str]
    columns: tuple[str, ...]

    @classmethod
    def of(cls, rows: Callable[[], Iterable[Packed]]) -> Self:
        """Return what most of some rows have in common. They are read once or twice, not held."""
        total = 0
        abouts: Counter[About] = Counter()
        filled: Counter[str] = Counter()
        often: Counter[tuple[str, str]] = Counter()
        """How often a value is in its column, at least."""
        for found, columns in _counted(rows()):
            total += found.total()
            abouts += found
            for name, values in columns.items():
                filled[name] += values.total()
                [(value, count)] = values.most_common(1)
                if 2 * count > found.total():
                    often[name, value] += count
        shared = {name: value for (name, value), count in often.items() if 2 * count > total}
        maybe = [(name, value) for name, value in often if name not in shared]
        exactly: Counter[tuple[str, str]] = Counter()
        for _, columns in _counted(rows()) if maybe else ():
            exactly.update({(name, value): columns[name][value] for name, value in maybe})
        shared |= {name: value for (name, value), count in exactly.items() if 2 * count > total}
        own = (name for name in sorted(filled) if name not in shared and 2 * filled[name] > total)
        about, _ = max(abouts.items(), key=lambda item: (item[1], item[0]))
        return cls(about, shared, tuple(own))


def _counted(
    rows: Iterable[Packed],
) -> Iterator[tuple[Counter[About], Mapping[str, Counter[str]]]]:
    """Yield how often there is what rows have in common, and each value: some rows at a time.

    If more than half of all rows have a value, then so it is with some of these.
    """
    every = iter(rows)
    while some := list(islice(every, _TOGETHER)):
        grouped: defaultdict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        for row in some:
            grouped[row.names].append(row.values)
        columns: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for names, values in grouped.items():
            for name, column in zip(names, zip(*values, strict=True), strict=True):
                columns[name].update(column)
        yield Counter([row.about for row in some]), columns


def _row(packed: Packed, layout: _Layout) -> bytes:
    """Return the text of a row."""
    known = dict(zip(packed.names, packed.values, strict=True))
    hashes = " ".join([packed.hashes, *[known.pop(name, NOTHING) for name in layout.columns]])
    own: dict[str, str | None] = {}
    if known != layout.shared:
        own |= {name: one for name, one in known.items() if layout.shared.get(name) != one}
        own |= dict.fromkeys(layout.shared.keys() - known.keys())
    if not own and packed.more is None and packed.about == layout.about:
        return b'"%b"' % hashes.encode()
    return _long_row(hashes, own, packed, layout.about)


def _long_row(hashes: str, own: Mapping[str, str | None], packed: Packed, common: About) -> bytes:
    more, about = packed.more or More(), packed.about
    row = LongRow(
        hashes=hashes,
        outputs=more.outputs,
        parts=dict(sorted(own.items())),
        model=None if about.model == common.model else about.model,
        because=None if about.because == common.because else about.because,
        server=None if about.server == common.server else about.server,
        untracked=None if about.untracked == common.untracked else about.untracked,
        served=None if about.served == common.served else about.served,
        answered_by=more.answered_by,
        conversation=more.conversation,
        warnings=more.warnings,
        accepted=more.accepted,
        before=more.before,
    )
    return msgspec.json.encode(row)


class LockTables:
    """The tables of some entries as text. What their rows have in common is found once."""

    def __init__(self, rows: LockRows) -> None:
        self._rows = rows
        names: defaultdict[str, list[str]] = defaultdict(list)
        parted: defaultdict[str, set[bool]] = defaultdict(set)
        for name in rows:
            table, row = place_of(name)
            names[table].append(name)
            parted[table].add(row is not name)
        for table, found in names.items():
            is_mixed = len(parted[table]) > 1  # else the names are in the order of their rows
            found.sort(key=_row_of if is_mixed else None)
        self._tables = sorted(names.items())
        self._layouts = [_Layout.of(partial(self._packed, found)) for _, found in self._tables]

    def blocks(self) -> Iterator[tuple[tuple[str, str, str], bytes]]:
        """Yield the text of the tables in self-contained blocks, with their keys, in order.

        A key names a step, a part of its table and an instance.
        """
        tables = zip(self._tables, self._layouts, strict=True)
        for number, ((table, names), layout) in enumerate(tables):
            lead = b"," if number else b""
            yield (table, "0", ""), lead + _quoted(table) + b": {\n"
            for place, line in enumerate(_head(layout)):
                yield (table, "1", str(place)), line
            yield (table, "2", ""), b'"instances": {"": "%b"\n' % LEGEND.encode()
            for name, packed in zip(names, self._packed(names), strict=True):
                row = _row_of(name)
                yield (table, "3", row), b",%b:\n %b\n" % (_quoted(row), _row(packed, layout))
            yield (table, "4", ""), b"}}\n"

    def _packed(self, names: Iterable[str]) -> Iterator[Packed]:
        return map(self._rows.packed_row, names)


def _row_of(name: str) -> str:
    return place_of(name)[1]


def _head(layout: _Layout) -> Iterator[bytes]:
    """Yield the lines above the rows of a table; a missing one is an empty text."""
    about = layout.about
    for name, value in zip(about._fields, about, strict=True):
        yield b"%b: %b,\n" % (_quoted(name), msgspec.json.encode(value)) if value else b""
    encoded = msgspec.json.encode(layout.columns)
    yield b'"columns": %b,\n' % encoded if layout.columns else b""
    files = {_shown(one): value for one, value in layout.shared.items() if one.startswith(_FILES)}
    parts = {one: value for one, value in layout.shared.items() if not one.startswith(_FILES)}
    for name, shared in (("files", files), ("parts", parts)):
        lines = (f' {_quoted(key).decode()}: "{shared[key]}"' for key in sorted(shared))
        text = ",\n".join(lines).encode()
        yield b"%b: {\n%b\n},\n" % (_quoted(name), text) if shared else b""


def _shown(part: str) -> str:
    """Return the name of a part in a table: the path of a file, else the part's own name."""
    return part.removeprefix(_FILE) if part.startswith("file //") else part


def _part_of(shown: str) -> str:
    return f"{_FILE}{shown}" if shown.startswith("//") else shown


def _quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


class ReadRows(LockRows):
    """The entries of tables that were read, each unpacked when it is used."""

    def __init__(self, tables: Mapping[str, LockTable]) -> None:
        self._tables = {name: _Reader(name, table) for name, table in tables.items()}
        self._recent: dict[str, tuple[LockEntry, Packed]] = {}
        """Entries used a moment ago: those of running instances are used often."""

    def __getitem__(self, name: str) -> LockEntry:
        known = self._recent.get(name)
        if known is not None:
            return known[0]
        packed = self.packed_row(name)
        if len(self._recent) >= _MOST_RECENT:
            self._recent.clear()
        entry = whole_entry(name, packed)
        self._recent[name] = (entry, packed)
        return entry

    def find(self, name: str) -> LockEntry | None:
        known = self._recent.get(name)
        if known is not None:
            return known[0]
        return super().find(name)

    def packed_row(self, name: str) -> Packed:
        table, row = place_of(name)
        return self._tables[table].packed(row)

    def packed_as(self, name: str, entry: LockEntry) -> Packed | None:
        known = self._recent.get(name)
        return known[1] if known is not None and known[0] is entry else None

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        table, row = place_of(name)
        return table in self._tables and row in self._tables[table].rows

    def __iter__(self) -> Iterator[str]:
        for name, table in self._tables.items():
            yield from (name_of(name, row) for row in table.rows)

    def __len__(self) -> int:
        return sum(len(table.rows) for table in self._tables.values())

    def packed(self) -> Iterable[tuple[str, Packed]]:
        for name, table in self._tables.items():
            yield from ((name_of(name, row), table.packed(row)) for row in table.rows)

    def rare(self) -> Iterator[More]:
        for table in self._tables.values():
            for row in table.rows.values():
                more = None if isinstance(row, str) else _more(row)
                if more is not None:
                    yield more


class _Reader:
    """One table. Raises `ValueError` if a row is not of its step."""

    def __init__(self, name: str, table: LockTable) -> None:
        self.rows = {key: row for key, row in table.instances.items() if key}
        is_plain = "/" not in name and "[" not in name
        for key in self.rows:
            if is_plain and key[0] == "[" and "/" not in key:
                continue
            if place_of(name_of(name, key)) != (name, key):
                raise ValueError(f"{name}: {key} is not an instance of it")
        files = {_part_of(shown): value for shown, value in table.files.items()}
        self._shared = {**files, **table.parts}
        self._columns = table.columns
        self._names = tuple(sorted({*self._shared, *self._columns}))
        self._template = [self._shared.get(one, "") for one in self._names]
        places = {one: place for place, one in enumerate(self._names)}
        self._places = [places[one] for one in self._columns]
        self._about = About(table.model, table.because, table.server, table.untracked, table.served)

    def packed(self, key: str) -> Packed:
        """Return a row. Raises `KeyError`."""
        row = self.rows[key]
        long = None if isinstance(row, str) else row
        hashes = row if isinstance(row, str) else row.hashes
        if not hashes.startswith(_WITHOUT_RESULT) and (long is None or not long.parts):
            words = hashes.split(" ")
            own = words[5:]
            if len(own) == len(self._places) and NOTHING not in own:
                values = self._template.copy()
                for place, word in zip(self._places, own, strict=True):
                    values[place] = word
                more = None if long is None else _more(long)
                about = self._about if long is None else _about(self._about, long)
                return Packed(" ".join(words[:5]), self._names, tuple(values), about, more)
        return self._rare(row)

    def _rare(self, row: str | LongRow) -> Packed:
        long = LongRow(row) if isinstance(row, str) else row
        width = 2 if long.hashes.startswith(_WITHOUT_RESULT) else 5
        words = long.hashes.split(" ")
        parts: dict[str, str | None] = dict(self._shared)
        parts |= dict(zip(self._columns, words[width:], strict=False))
        parts |= long.parts
        known = {one: value for one, value in parts.items() if value not in (None, NOTHING)}
        names = tuple(sorted(known))
        names = self._names if names == self._names else names
        return Packed(
            hashes=" ".join(words[:width]),
            names=names,
            values=tuple(known[one] or "" for one in names),
            about=_about(self._about, long),
            more=None if isinstance(row, str) else _more(long),
        )


_AS_COMMON: Final = (None,) * len(About._fields)
"""What a row says of itself if it is as the others of its table."""


def _about(common: About, row: LongRow) -> About:
    if (row.model, row.because, row.server, row.untracked, row.served) == _AS_COMMON:
        return common
    own = {name: value for name in About._fields if (value := getattr(row, name)) is not None}
    return common._replace(**own)


def _more(row: LongRow) -> More | None:
    """Return what is rare of a row, None if nothing is."""
    more = More(
        outputs=row.outputs,
        answered_by=row.answered_by,
        conversation=row.conversation,
        warnings=row.warnings,
        accepted=row.accepted,
        before=row.before,
    )
    return None if more == NO_MORE else more
