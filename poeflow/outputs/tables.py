"""CSV in an answer (RFC 4180) becomes a list of objects, one a row, all values text."""

import csv
import io
from collections import Counter
from collections.abc import Iterator

from poeflow.digest import Json
from poeflow.outputs.shown import counted, quoted


class NotCsvError(Exception):
    """The text is no table; the message says where."""


def table(text: str) -> list[Json]:
    """Return the rows below the header. Raises `NotCsvError`."""
    rows = _rows(text.removeprefix("\ufeff").strip("\r\n"))
    header = next(rows, None)
    if header is None:
        raise NotCsvError("it is empty")
    names = header[1]
    if "" in names:
        raise NotCsvError(f"column {names.index('') + 1} of the header has no name")
    [(name, count)] = Counter(names).most_common(1)
    if count > 1:
        raise NotCsvError(f"the header has the column {quoted(name)} twice")
    found: list[Json] = []
    for line, values in rows:
        if len(values) != len(names):
            has = counted(len(values), "value")
            raise NotCsvError(f"row {len(found) + 1} (line {line}) has {has}, not {len(names)}")
        found.append(dict(zip(names, values, strict=True)))
    return found


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the line it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for values in reader:
            if values:
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise NotCsvError(f"the row that begins in line {line} cannot be read: {error}") from None
