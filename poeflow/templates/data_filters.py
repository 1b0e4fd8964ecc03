"""Filters between values and text: JSON, YAML, CSV and safe path segments."""

import csv
import hashlib
import io
import json
import re
import unicodedata
from typing import Any, Final

import msgspec
import yaml

from poeflow.digest import Json, KeyTwiceError, check_keys
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.yaml_tree import parse_value
from poeflow.templates.budget import MAX_ITEMS, OverBudgetError, bounded, bounded_argument
from poeflow.templates.instances import Entry
from poeflow.templates.values import plain

MAX_CELLS: Final = 500_000
MAX_YAML: Final = 256 * 1024
_SLUG_LENGTH: Final = 80
_UNSAFE_IN_SLUG: Final = re.compile(r"[^A-Za-z0-9._-]+")
_FORMULA: Final = re.compile(
    r"[\t\r\n]"
    r"|[\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*"
    r"[=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]"
)
"""How formulas begin, after what is not seen and in their wide and small forms too:
https://owasp.org/www-community/attacks/CSV_Injection."""
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def tojson(value: object, indent: int | None = None) -> str:
    """Encode as JSON, keys in their order; `indent` spaces a level where given."""
    bounded_argument(indent, 16)
    data = plain(value)
    bounded(_margins(data, 1) * (indent or 0))
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)


def fromjson(text: str) -> Json:
    """Decode JSON, no key in one object twice. Raises `ValueError`."""
    if sum(map(text.count, ",[{")) > MAX_ITEMS:
        raise OverBudgetError(f"fromjson takes at most {MAX_ITEMS:,} values")
    try:
        data: Json = msgspec.json.decode(text)
        check_keys(text.strip())
    except KeyTwiceError as error:
        raise ValueError(f"fromjson: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"fromjson: {error}") from None
    return data


def toyaml(value: object) -> str:
    """Encode as YAML, keys in their order."""
    return yaml.dump(plain(value), Dumper=_Dumper, allow_unicode=True, sort_keys=False).rstrip("\n")


def fromyaml(text: str) -> Json:
    """Decode YAML as flows are read: 1.2 core, no tags, bounded. Raises `ValueError`."""
    if len(text) > MAX_YAML:
        raise OverBudgetError(f"fromyaml takes at most {MAX_YAML:,} characters; use fromjson")
    try:
        return parse_value(text)
    except InvalidFlowError as error:
        raise ValueError(f"fromyaml: {error.problems[0]}") from None


def tocsv(rows: object) -> str:
    """Encode a list of mappings (with a header) or of lists as CSV.

    The header holds every key, in the order they first appear; of the results of a step these are
    its key, the columns it ran over, and what came of it. Texts that a spreadsheet would run
    as a formula are prefixed with an apostrophe.
    """
    if isinstance(rows, list | tuple):
        rows = [row.columns if isinstance(row, Entry) else row for row in rows]
    table = plain(rows)
    if not isinstance(table, list):
        raise TypeError("tocsv takes a list of mappings or of lists")
    header = list(dict.fromkeys(key for row in table if isinstance(row, dict) for key in row))
    if len(header) * len(table) > MAX_CELLS:
        raise OverBudgetError(f"the table would have over {MAX_CELLS:,} cells")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow([_cell(name) for name in header])
    for row in table:
        if isinstance(row, dict):
            writer.writerow([_cell(row.get(name)) for name in header])
        elif isinstance(row, list) and not header:
            writer.writerow([_cell(value) for value in row])
        else:
            raise TypeError("tocsv takes a list of mappings or of lists, not of both")
    return buffer.getvalue().rstrip("\n")


def slug(value: object) -> str:
    """Make one safe path segment: letters, digits, `.`, `_`, `-`, at most 80 characters.

    Where something had to be dropped, six hex digits of the whole value keep two apart.
    """
    text = str(value) if isinstance(value, int | float) else value
    if not isinstance(text, str) or isinstance(value, bool):
        raise TypeError("slug takes a text or a number")
    marked = unicodedata.normalize("NFKD", text[:10_000]).encode("ascii", "ignore").decode()
    safe = _UNSAFE_IN_SLUG.sub("-", marked).strip("-.")
    if safe == text and 0 < len(safe) <= _SLUG_LENGTH and not _RESERVED.fullmatch(safe):
        return safe
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    start = safe[: _SLUG_LENGTH - 7].rstrip("-.")
    if not start or _RESERVED.fullmatch(start):
        start = f"x-{start}".rstrip("-")
    return f"{start[: _SLUG_LENGTH - 7]}-{digest}"


class _Dumper(yaml.CSafeDumper):
    """Writes shared values again instead of naming them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _margins(value: Json, depth: int) -> int:
    """Return how many levels of indent all lines together have."""
    if not isinstance(value, list | dict):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return (len(value) + 1) * depth + sum(_margins(part, depth + 1) for part in parts)


def _cell(value: Json) -> Json:
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value.strip(" ")):
        return f"'{value}"
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value
