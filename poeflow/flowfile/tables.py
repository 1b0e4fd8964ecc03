"""Tables become rows: csv, tsv, jsonl, json, yaml, and parquet through the `data` extra.

duckdb sees a copy of the one file and nothing else. Every fault is a `FileProblem` that names the
file and, if there is one, the line.
"""

import base64
import csv
import io
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from poeflow.digest import Json, KeyTwiceError, check_keys
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.yaml_tree import parse_value
from poeflow.project.project import FileProblem

MAX_TEXT: Final = 256 * 1024 * 1024
"""How long all cells may be, written out: a small file may hold a long text very often."""
_CONFIG: Final[dict[str, Any]] = {
    "allow_community_extensions": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "512MB",
    "threads": "1",
}
_MOMENT: Final = "TIMESTAMP WITH TIME ZONE"
_LENGTHS: Final = "sum(strlen(CAST(COLUMNS(*) AS VARCHAR)))"


def parquet_rows(data: bytes, *, name: str, limit: int) -> list[Json]:
    """Return the first `limit` rows as objects.

    Numbers, booleans and texts stay what they are, lists and structures hold them. Dates, moments
    (in UTC), decimals and the like become texts, bytes that are no text become base64, and what is
    not a number becomes null. Raises `FileProblem`.
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
                _lock(connection, str(path))
                table = connection.read_parquet(str(path)).limit(limit)
                return _rows(table, name)
        except (duckdb.Error, RuntimeError) as error:  # RuntimeError: damage, by duckdb before 1.4
            reason = str(error).strip().partition("\n")[0].replace(str(path), "the file")
            message = f"{name} cannot be read as parquet: {reason}"
            raise FileProblem(message, hint="write it again, or split it") from None


def _lock(connection: Any, path: str) -> None:
    """Leave duckdb nothing but the file at `path`, for good."""
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
    """Return the SQL for a column; moments as text, for duckdb makes them by another package."""
    quoted = '"' + column.replace('"', '""') + '"'
    if _MOMENT not in kind:
        return quoted
    return f"CAST({quoted} AS {kind.replace(_MOMENT, 'VARCHAR')})"


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
MAX_CELLS: Final = 4_000_000
"""How many cells a table of texts may have: each takes far more memory than its comma."""
_SPLIT: Final = "split the file"
_ONE_KEY: Final = "leave one of them"
_BETWEEN: Final = frozenset(" \t\r\n,")
_FOR_EXCEL: Final = re.compile(r"\"?sep=(\W?)\"?[,;\t]*", re.IGNORECASE)
_PLURAL: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SHOWN: Final = {",": "commas", "\t": "tabs"}
_RENAME: Final = {",": ", or call it .csv", "\t": ", or call it .tsv"}
_ARCHIVES: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How workbooks begin: those of today, and those of old."""
_OFFSET: Final = re.compile(r" \(byte (\d+)\)$")


def rows(data: bytes, *, name: str) -> list[Json]:
    """Return the rows of the table called `name`, whose ending tells how it is written.

    Rows of csv and tsv are objects of texts, named by the first line; those of parquet are objects
    of numbers and texts; those of the other kinds are whatever the file holds. Raises
    `FileProblem`, also where there are over 64 MiB or 100,000 rows.
    """
    reader = _READERS.get(PurePosixPath(name).suffix.lower())
    if reader is None:
        raise FileProblem(f"{name} is no table", hint=f"use one of {', '.join(ROW_SUFFIXES)}")
    if len(data) > MAX_BYTES:
        raise FileProblem(f"{name} has {len(data):,} bytes; the limit is 64 MiB", hint=_SPLIT)
    found = list(islice(reader(data, name), MAX_ROWS + 1))
    if len(found) > MAX_ROWS:
        raise FileProblem(f"{name} has over {MAX_ROWS:,} rows", hint=_SPLIT)
    return found


def _csv(data: bytes, name: str, delimiter: str = ",") -> Iterator[Json]:
    """Yield the lines below the first as objects; empty ones are no rows."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_BYTES))  # 128 KiB without this
    text = _text(data, name)
    _check_division(text, name, delimiter)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start, cells = 1, 0
    try:
        header = _header(next(reader, []), name)
        start = reader.line_num + 1
        for row in reader:
            cells += len(row)
            if cells > MAX_CELLS:
                raise FileProblem(f"{name} has over {MAX_CELLS:,} cells", hint=_SPLIT)
            if len(row) == len(header):
                yield dict(zip(header, row, strict=True))
            elif row:
                message = f"cells in this row: {len(row)}, columns: {len(header)}"
                raise _at(name, start, message, "put cells with the delimiter in them in quotes")
            start = reader.line_num + 1
    except csv.Error as error:
        hint = 'inside a cell in quotes a quote is written twice: ""'
        raise _at(name, start, str(error), hint) from None


def _tsv(data: bytes, name: str) -> Iterator[Json]:
    return _csv(data, name, "\t")


def _check_division(text: str, name: str, delimiter: str) -> None:
    """Tell what Excel made of a table: a line for itself, or columns divided by something else."""
    first = text.partition("\n")[0].strip(" ")
    told = _FOR_EXCEL.fullmatch(first)
    if told is not None:
        is_ours = told[1] in ("", delimiter)
        hint = "remove it" if is_ours else f"remove it, and save it with {_PLURAL[delimiter]}"
        raise _at(name, 1, f"{first} is a line for Excel", hint)
    if _width(text, delimiter) == 1:
        other = next((d for d in _PLURAL if d != delimiter and _width(text, d) > 1), None)
        if other is not None:
            message = f"the columns are divided by {_SHOWN.get(other, other)}"
            raise _at(
                name, 1, message, f"save it with {_PLURAL[delimiter]}{_RENAME.get(other, '')}"
            )


def _width(text: str, delimiter: str) -> int:
    """Return how many columns the first two rows have, 1 where they disagree or cannot be read."""
    lines = io.StringIO(text, newline="")
    try:
        read = csv.reader(lines, delimiter=delimiter, strict=True)
        widths = {len(row) for row in islice(filter(None, read), 2)}
    except csv.Error:
        return 1
    return max(widths) if len(widths) == 1 else 1


def _header(cells: list[str], name: str) -> list[str]:
    """Return the columns' names, spaces around them dropped."""
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise _at(name, 1, "there are no names of columns", "begin with a line of them")
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
    """Return what the bytes say: BOM dropped, line ends as LF."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileProblem(f"{name} is UTF-16", hint="save it as UTF-8")
    if data.startswith(_ARCHIVES):
        raise FileProblem(f"{name} is a workbook or an archive", hint="save it as CSV in UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise _at(name, _line_of(data, error.start), message, "save the file as UTF-8") from None
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise _at(name, line, "a NUL byte is in the file", "save it as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json_lines(data: bytes, name: str) -> Iterator[Json]:
    for number, line in enumerate(io.StringIO(_text(data, name)), 1):
        if not line.isspace():
            try:
                row: Json = msgspec.json.decode(line)
                check_keys(line.strip())
            except KeyTwiceError as error:
                raise _at(name, number, _said(error), _ONE_KEY) from None
            except (msgspec.DecodeError, RecursionError) as error:
                raise _at(name, number, _said(error), "write one JSON value a line") from None
            yield row


def _json(data: bytes, name: str) -> Iterator[Json]:
    text = _text(data, name)
    encoded = text.encode()
    try:
        found: Json = msgspec.json.decode(encoded)
    except (msgspec.DecodeError, RecursionError) as error:
        offset = _OFFSET.search(str(error))
        line = _line_of(encoded, int(offset[1])) if offset else encoded.rstrip().count(b"\n") + 1
        raise _at(
            name, line, _said(error), "mend it, or write one row a line into a .jsonl"
        ) from None
    listed = _listed(found, name)
    _check_rows(text, name, len(listed))
    return iter(listed)


def _check_rows(text: str, name: str, count: int) -> None:
    """Check the keys of so many rows in a list of JSON, one by one: so their lines are known."""
    at = text.index("[") + 1
    for _ in range(count):
        while text[at] in _BETWEEN:
            at += 1
        try:
            at = check_keys(text, at)
        except (KeyTwiceError, RecursionError) as error:
            raise _at(name, text.count("\n", 0, at) + 1, _said(error), _ONE_KEY) from None


def _yaml(data: bytes, name: str) -> Iterator[Json]:
    try:
        return iter(_listed(parse_value(_text(data, name)), name))
    except InvalidFlowError as error:
        first = error.problems[0]
        raise _at(name, first.place.line or 1, first.message, first.hint) from None


def _listed(found: Json, name: str) -> list[Json]:
    if not isinstance(found, list):
        raise FileProblem(f"{name} holds no list", hint="write a list of rows")
    return found


def _said(error: Exception) -> str:
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


_READERS: Final[dict[str, Callable[[bytes, str], Iterable[Json]]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".parquet": _parquet,
}
ROW_SUFFIXES: Final = tuple(_READERS)
