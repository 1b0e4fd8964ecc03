"""CSV in an answer (RFC 4180) becomes a list of objects, one a row, all values text.

As in tables of files, the space around the names of columns is not theirs; values are kept as
they stand.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from poeflow.answers.display import counted, quoted
from poeflow.digest import Json

_SPACED_QUOTE: Final = re.compile(r'[ \t]+"')


class NotCsvError(Exception):
    """The text is no table; the message says where."""


def table(text: str) -> list[Json]:
    """Return the rows below the header. Raises `NotCsvError`."""
    rows = _rows(text.removeprefix("\ufeff").strip("\r\n"))
    header = next(rows, None)
    if header is None:
        raise NotCsvError("it is empty")
    names = [name.strip() for name in header[1]]
    divider = _divider(names)
    if divider:
        raise NotCsvError(f"its columns are divided by {divider}, not by commas")
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


def _divider(names: list[str]) -> str:
    """Return what divides the columns of a header that has no comma, empty if there is one only."""
    [name, *others] = names
    if others:
        return ""
    if name.lower().startswith("sep=") or ";" in name:
        return ";"
    return "|" if "|" in name else "tabs" if "\t" in name else ""


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the line it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for values in reader:
            if any(_is_quoted_late(value, text) for value in values):
                told = f"in line {line} a space stands before the quote that begins a value"
                raise NotCsvError(f"{told}; remove it")
            if values:
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise NotCsvError(f"the row that begins in line {line} cannot be read: {error}") from None


def _is_quoted_late(value: str, text: str) -> bool:
    """Tell whether a value holds the quotes it stands in, as there is a space before the first."""
    if _SPACED_QUOTE.match(value) is None:
        return False
    doubled = value.replace('"', '""')
    return f'"{doubled}"' not in text
