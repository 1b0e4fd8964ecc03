"""Parquet files become rows, through duckdb, which comes with the `data` extra.

duckdb sees a copy of the one file and nothing else: no network, no extensions, no other paths.
"""

import base64
import math
import tempfile
from pathlib import Path
from typing import Any, Final

from poeflow.digest import Json
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
