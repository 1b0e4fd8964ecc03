"""Reads rows of tables: csv, tsv, jsonl, json, yaml, and parquet with the `data` extra.

Those of csv, tsv and jsonl can be read one by one; duckdb can access only a copy of its file. Every
error is a `FileProblem` that names the file and, if known, the line.
"""

import base64
import codecs
import csv
import io
import math
import re
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, islice
from operator import methodcaller
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import msgspec

from poeflow.digest import Json, KeyTwiceError, check_json_keys, half_escaped
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.yaml_tree import parse_value
from poeflow.lazy_pattern import lazy_pattern
from poeflow.project.lazy_items import JoinedItems, Table
from poeflow.project.private_files import NO_MATCH_HINT
from poeflow.project.project import FileProblem, Project

T = TypeVar("T")
MAX_TEXT: Final = 256 * 1024 * 1024
"""How many characters all cells may have: a small file can repeat a long text very often."""
_CONFIG: Final[dict[str, Any]] = {
    "allow_community_extensions": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "512MB",
    "threads": "1",
}
_TIMESTAMP: Final = "TIMESTAMP WITH TIME ZONE"
_LENGTHS: Final = "sum(strlen(CAST(COLUMNS(*) AS VARCHAR)))"


def parquet_rows(data: bytes, *, name: str, limit: int) -> list[Json]:
    """Return the first `limit` rows as objects.

    Numbers, booleans and texts stay the same, also in lists and structures. Dates, timestamps (in
    UTC), decimals and the like become texts, bytes that are not UTF-8 become base64, and NaN and
    infinity become null. Raises `FileProblem`.
    """
    try:
        import duckdb
    except ImportError:
        message = f"{name}: reading parquet needs duckdb"
        raise FileProblem(message, hint="install poeflow[data]") from None
    with tempfile.TemporaryDirectory(prefix="poeflow-") as folder:
        path = Path(folder) / "rows.parquet"
        path.write_bytes(data)
        try:
            with duckdb.connect(config=_CONFIG) as connection:
                _restrict(connection, str(path))
                table = connection.read_parquet(str(path)).limit(limit)
                return _rows(table, name)
        except (duckdb.Error, RuntimeError) as error:  # RuntimeError: damage, by duckdb before 1.4
            reason = str(error).strip().partition("\n")[0].replace(str(path), "the file")
            message = f"{name} cannot be read as parquet: {reason}"
            raise FileProblem(message, hint="write it again, or split it") from None


def _restrict(connection: Any, path: str) -> None:
    """Restrict duckdb to the file at `path`, permanently."""
    quoted = path.replace("'", "''")
    for setting in (
        "TimeZone = 'UTC'",
        "temp_directory = ''",
        f"allowed_paths = ['{quoted}']",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def _rows(table: Any, name: str) -> list[Json]:
    [lengths] = table.aggregate(_LENGTHS).fetchall()
    if sum(length or 0 for length in lengths) > MAX_TEXT:
        raise FileProblem(f"{name} holds over {MAX_TEXT:,} characters", hint="split the file")
    names = table.columns
    wanted = map(_selected, names, map(str, table.types))
    found = table.project(", ".join(wanted)).fetchall()
    return [dict(zip(names, map(_plain, row), strict=True)) for row in found]


def _selected(column: str, kind: str) -> str:
    """Return the SQL for a column; timestamps as text, as duckdb needs another package for them."""
    quoted = '"' + column.replace('"', '""') + '"'
    if _TIMESTAMP not in kind:
        return quoted
    return f"CAST({quoted} AS {kind.replace(_TIMESTAMP, 'VARCHAR')})"


def _plain(value: object) -> Json:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case list() | tuple():
            return [_plain(part) for part in value]
        case dict():
            return {str(_plain(key)): _plain(part) for key, part in value.items()}
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return base64.b64encode(value).decode()
        case _:
            return str(value)


MAX_BYTES: Final = 64 * 1024 * 1024
MAX_ROWS: Final = 100_000
MAX_TABLE_ROWS: Final = 1_000_000
"""Maximum rows of a table: read all at once, and read one by one."""
MAX_CELLS: Final = 4_000_000
"""How many cells a table of texts may have: each takes far more memory than in the file."""
_PART: Final = 1024 * 1024
_SPLIT_HINT: Final = "split the file"
_ONE_KEY_HINT: Final = "remove one of them"
_MANY_CELLS_HINT: Final = "put cells with the delimiter in them in quotes"
_FEW_CELLS_HINT: Final = "add the others; an empty one is nothing between two delimiters"
_HALF: Final = "%s is half a character"
_HALF_HINT: Final = r"write both halves, as in \ud83d\ude00, or leave it out"
_BETWEEN: Final = frozenset(" \t\r\n,")
_EXCEL_LINE: Final = lazy_pattern(r"\"?sep=(\W?)\"?[,;\t]*", re.IGNORECASE)
_PLURAL: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SHOWN: Final = {",": "commas", "\t": "tabs"}
_INSTEAD: Final = {",": ";"}
"""What spreadsheets write in place of a comma where that is the decimal point."""
_RENAME: Final = {",": ", or call it .csv", "\t": ", or call it .tsv"}
_ARCHIVES: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""The first bytes of workbooks, .xlsx and .xls."""
_OFFSET: Final = lazy_pattern(r" \(byte (\d+)\)$")


def rows(data: bytes, *, name: str) -> list[Json]:
    """Return the rows of the table called `name`, whose ending decides the format.

    Rows of csv and tsv are objects of texts, named by the first line; those of parquet are objects
    of numbers and texts; those of other formats are any values. Raises `FileProblem`, also for
    over 64 MiB or 100,000 rows.
    """
    return list(_scanned(data, name))


def table(data: bytes, *, name: str) -> Sequence[Json]:
    """Return the rows as `rows` does, those of csv, tsv and jsonl read as they are asked for.

    Of those there may be a million. All have been read once, so reading one again raises no error.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _LINED:
        return list(_scanned(data, name))
    _check_size(data, name)
    clean = _clean(data, name)
    lines, starts = _Lines(clean), array("I")
    if suffix not in _DELIMITERS:
        for _ in _limited(_json_lines(lines, name), name, MAX_TABLE_ROWS):
            starts.append(lines.row)
        return Table(clean, starts, _objects)
    delimiter = _delimiter(clean, name)
    cells = _checked_cells(lines, name, delimiter)
    header = tuple(next(cells))
    read = partial(_cells, delimiter=delimiter)
    simple = _simple_starts(clean, lines.end, delimiter, width=len(header))
    if simple is not None:
        return Table(clean, simple, read, columns=header)
    for _ in _limited(cells, name, MAX_TABLE_ROWS):
        starts.append(lines.row)
    return Table(clean, starts, read, columns=header)


def read_table(project: Project, canonical: str) -> Sequence[Json]:
    """Return the rows of a file of the project as `table` does. Raises `FileProblem`."""
    return table(project.read_bytes(canonical, limit=MAX_BYTES), name=canonical)


def _simple_starts(data: bytes, start: int, delimiter: str, *, width: int) -> Sequence[int] | None:
    """Return the bytes from `start` on that the rows of a text begin at, if each is a sound line.

    None if cells may be in quotes, or a line has another number of them, or there is too much of
    anything: then the rows are read one by one, to find what is wrong.
    """
    if b'"' in data or data.find(b"\n\n", max(start - 1, 0)) >= 0:
        return None
    counts = set(map(methodcaller("count", delimiter.encode()), _lines_from(data, start)))
    if not counts <= {width - 1}:
        return None
    starts = array("I", accumulate(map(len, _lines_from(data, start)), initial=start))
    starts.pop()  # the end
    is_small = len(starts) <= MAX_TABLE_ROWS and len(starts) * width <= MAX_CELLS
    return starts if is_small else None


def _lines_from(data: bytes, start: int) -> io.BytesIO:
    file = io.BytesIO(data)
    file.seek(start)
    return file


def joined(
    project: Project, pattern: str, paths: Sequence[str], read: Callable[[str], Sequence[Json]]
) -> JoinedItems:
    """Return the rows of all tables that a pattern matches. Raises `FileProblem`."""
    if not paths:
        raise FileProblem(f"{pattern} matches no file", hint=NO_MATCH_HINT)
    found, size, count = list[Sequence[Json]](), 0, 0
    for path in paths:
        size += project.size_of(path)
        found.append(read(path) if size <= MAX_BYTES else [])
        count += len(found[-1])
        if size > MAX_BYTES or count > MAX_TABLE_ROWS:
            message = f"the files of {pattern} have over 64 MiB or {MAX_TABLE_ROWS:,} rows"
            raise FileProblem(message, hint="narrow the pattern")
    return JoinedItems(found, paths)


class _Lines:
    """The lines of a clean text from the byte `start`. `row` is where the last row began."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self.data = data
        self._file = io.BytesIO(data)
        self._file.seek(start)
        self.row = self.end = start

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.end += len(line)
            yield line.decode()


def _scanned(data: bytes, name: str) -> Iterator[Json]:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in ROW_SUFFIXES:
        raise FileProblem(f"{name} is not a table", hint=f"use one of {', '.join(ROW_SUFFIXES)}")
    _check_size(data, name)
    if suffix in _LINED:
        return _limited(_LINED[suffix](_Lines(_clean(data, name)), name), name)
    return _limited(_READERS[suffix](data, name), name)


def _check_size(data: bytes, name: str) -> None:
    if len(data) > MAX_BYTES:
        raise FileProblem(f"{name} has {len(data):,} bytes; the limit is 64 MiB", hint=_SPLIT_HINT)


def _limited(found: Iterable[T], name: str, most: int = MAX_ROWS) -> Iterator[T]:
    for count, row in enumerate(found):
        if count == most:
            raise FileProblem(f"{name} has over {most:,} rows", hint=_SPLIT_HINT)
        yield row


def _csv(lines: _Lines, name: str) -> Iterator[Json]:
    """Yield the lines below the first as objects; empty lines are skipped."""
    found = _checked_cells(lines, name, _delimiter(lines.data, name))
    header = next(found)
    for row in found:
        yield dict(zip(header, row, strict=True))


def _checked_cells(lines: _Lines, name: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the names of the columns, then the cells of each row, checked."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_BYTES))  # 128 KiB without this
    reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    start, cells = 1, 0
    try:
        header = _header(next(reader, []), name)
        yield header
        start, lines.row = reader.line_num + 1, lines.end
        for row in reader:
            cells += len(row)
            if cells > MAX_CELLS:
                raise FileProblem(f"{name} has over {MAX_CELLS:,} cells", hint=_SPLIT_HINT)
            if len(row) == len(header):
                yield row
            elif row:
                message = f"cells in this row: {len(row)}, columns: {len(header)}"
                hint = _MANY_CELLS_HINT if len(row) > len(header) else _FEW_CELLS_HINT
                raise _at(name, start, message, hint)
            start, lines.row = reader.line_num + 1, lines.end
    except csv.Error as error:
        hint = 'inside a cell in quotes a quote is written twice: ""'
        raise _at(name, start, str(error), hint) from None


def _cells(lines: Iterable[str], *, delimiter: str) -> Iterator[list[str]]:
    """Return the cells of each row in lines that were read before."""
    return filter(None, csv.reader(iter(lines), delimiter=delimiter, strict=True))


def _delimiter(data: bytes, name: str) -> str:
    """Return what separates the columns, by the name; in csv it may be a semicolon.

    Raises `FileProblem` for a `sep=` line of Excel or for another delimiter.
    """
    delimiter = _DELIMITERS[PurePosixPath(name).suffix.lower()]
    first = next(iter(_Lines(data)), "").removesuffix("\n").strip(" ")
    excel_line = _EXCEL_LINE.fullmatch(first)
    if excel_line is not None:
        is_ours = excel_line[1] in ("", delimiter, _INSTEAD.get(delimiter))
        hint = "remove it" if is_ours else f"remove it, and save it with {_PLURAL[delimiter]}"
        raise _at(name, 1, f"{first} is a line for Excel", hint)
    widths = _widths(data, delimiter)
    if widths and widths[0] > 1:
        return delimiter
    other = next((one for one in _PLURAL if _separates(data, one)), delimiter)
    if other not in (delimiter, _INSTEAD.get(delimiter)):
        message = f"columns are separated by {_SHOWN.get(other, other)}"
        raise _at(name, 1, message, f"save it with {_PLURAL[delimiter]}{_RENAME.get(other, '')}")
    return other


def _separates(data: bytes, delimiter: str) -> bool:
    """Whether the first two rows have the same number of columns by a delimiter, two or more."""
    widths = _widths(data, delimiter)
    return len({*widths}) == 1 and widths[0] > 1


def _widths(data: bytes, delimiter: str) -> list[int]:
    """Return how many columns each of the first two rows has, nothing if they cannot be read."""
    try:
        read = csv.reader(iter(_Lines(data)), delimiter=delimiter, strict=True)
        return [len(row) for row in islice(filter(None, read), 2)]
    except csv.Error:
        return []


def _header(cells: list[str], name: str) -> list[str]:
    """Return the columns' names without surrounding spaces."""
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise _at(name, 1, "there are no column names", "begin with a line of them")
    seen: set[str] = set()
    for index, column in enumerate(names, 1):
        if not column:
            is_end = not any(names[index:])
            hint = "give it one, or remove the empty columns" if is_end else "give it one"
            raise _at(name, 1, f"column {index} has no name", hint)
        if column in seen:
            raise _at(name, 1, f'two columns are called "{column}"', "rename one of them")
        seen.add(column)
    return names


def _text(data: bytes, name: str) -> str:
    """Return the bytes as text, without BOM, line ends as LF."""
    return _clean(data, name).decode()


def _clean(data: bytes, name: str) -> bytes:
    """Return the bytes of a text without BOM, line ends as LF; it is decoded in small parts only.

    With one rare character in it the whole would take four bytes for each.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileProblem(f"{name} is UTF-16", hint="save it as UTF-8")
    if data.startswith(_ARCHIVES):
        raise FileProblem(f"{name} is a workbook or an archive", hint="save it as CSV in UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    start = len(data) if data.isascii() else 0
    while start < len(data):
        end = data.find(b"\n", start + _PART) + 1 or len(data)
        try:
            data[start:end].decode()
        except UnicodeDecodeError as error:
            at = start + error.start
            message = f"byte 0x{data[at]:02x} is not UTF-8"
            raise _at(name, _line_of(data, at), message, "save the file as UTF-8") from None
        start = end
    nul = data.find(b"\0")
    if nul >= 0:
        raise _at(name, _line_of(data, nul), "a NUL byte is in the file", "save it as UTF-8 text")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _json_lines(lines: _Lines, name: str) -> Iterator[Json]:
    for number, line in enumerate(lines, 1):
        if not line.isspace():
            try:
                row: Json = msgspec.json.decode(line)
                check_json_keys(line.strip())
            except KeyTwiceError as error:
                raise _at(name, number, _reason(error), _ONE_KEY_HINT) from None
            except (msgspec.DecodeError, RecursionError) as error:
                if half := half_escaped(line):
                    raise _at(name, number, _HALF % half[0], _HALF_HINT) from None
                raise _at(name, number, _reason(error), "write one JSON value per line") from None
            yield row
        lines.row = lines.end


def _objects(lines: Iterable[str]) -> Iterator[Json]:
    """Yield the rows of lines that were read before."""
    for line in lines:
        if not line.isspace():
            row: Json = msgspec.json.decode(line)
            yield row


def _json(data: bytes, name: str) -> Iterator[Json]:
    text = _text(data, name)
    encoded = text.encode()
    try:
        found: Json = msgspec.json.decode(encoded)
    except (msgspec.DecodeError, RecursionError) as error:
        if half := half_escaped(text):
            raise _at(name, text.count("\n", 0, half[1]) + 1, _HALF % half[0], _HALF_HINT) from None
        offset = _OFFSET.search(str(error))
        line = _line_of(encoded, int(offset[1])) if offset else encoded.rstrip().count(b"\n") + 1
        raise _at(
            name, line, _reason(error), "correct it, or write one row per line into a .jsonl"
        ) from None
    listed = _listed(found, name)
    _check_rows(text, name, len(listed))
    return iter(listed)


def _check_rows(text: str, name: str, count: int) -> None:
    """Check the keys of `count` rows in a JSON list one by one, so that errors have lines."""
    at = text.index("[") + 1
    for _ in range(count):
        while text[at] in _BETWEEN:
            at += 1
        try:
            at = check_json_keys(text, at)
        except (KeyTwiceError, RecursionError) as error:
            raise _at(name, text.count("\n", 0, at) + 1, _reason(error), _ONE_KEY_HINT) from None


def _yaml(data: bytes, name: str) -> Iterator[Json]:
    try:
        return iter(_listed(parse_value(_text(data, name)), name))
    except InvalidFlowError as error:
        first = error.problems[0]
        raise _at(name, first.place.line or 1, first.message, first.hint) from None


def _listed(found: Json, name: str) -> list[Json]:
    if not isinstance(found, list):
        raise FileProblem(f"{name} is not a list", hint="write a list of rows")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, KeyTwiceError):
        return str(error)
    reason = _OFFSET.sub("", str(error)).removeprefix("JSON is malformed: ")
    return f"not JSON: {reason[:1].lower()}{reason[1:]}"


def _line_of(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _at(name: str, line: int, message: str, hint: str) -> FileProblem:
    return FileProblem(f"{name}, line {line}: {message}", hint=hint)


def _parquet(data: bytes, name: str) -> Iterable[Json]:
    return parquet_rows(data, name=name, limit=MAX_ROWS + 1)


_LINED: Final[dict[str, Callable[[_Lines, str], Iterator[Json]]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
_READERS: Final[dict[str, Callable[[bytes, str], Iterable[Json]]]] = {
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".parquet": _parquet,
}
ROW_SUFFIXES: Final = (*_LINED, *_READERS)
