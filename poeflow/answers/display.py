"""Values of an answer in messages, on one line, cut, without invisible characters; and hints."""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from poeflow.digest import Json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.redact import visible

MAX_SHOWN: Final = 80
MAX_OPTIONS: Final = 20
MAX_FAULTS: Final = 3
_DOTS: Final = "…"


def shown(value: Json, limit: int = MAX_SHOWN) -> str:
    """Return a value as JSON of at most `limit` characters."""
    pieces, length = [], 0
    for piece in _pieces(value, limit):
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            break
    return cut(visible("".join(pieces)), limit)


def quoted(text: str, limit: int = MAX_SHOWN) -> str:
    """Return a text in quotes, line breaks as spaces, at most `limit` characters of it."""
    return f'"{one_line(text, limit)}"'


def one_line(text: str, limit: int = MAX_SHOWN) -> str:
    """Return the beginning of a text on one line."""
    beginning = text[: 4 * limit]
    line = visible(" ".join(beginning.split()))
    return cut(line if len(beginning) == len(text) else f"{line}{_DOTS}", limit)


def why_untrue(sides: Mapping[str, Json]) -> str:
    """Return why an expression is not true: what the `sides` of its comparison are."""
    said = [f"{one_line(side)} is {shown(value)}" for side, value in sides.items()]
    return f"that {' and '.join(said) or 'it is not so'}"


_EXPRESSIONS: Final[Mapping[str, str]] = {
    "contains": "VALUE in output.text",
    "not_contains": "VALUE not in output.text",
    "starts_with": "output.text.startswith(VALUE)",
    "ends_with": "output.text.endswith(VALUE)",
    "matches": "output.text | regex_find(VALUE)",
}
_VALUE: Final = lazy_pattern(r"\{\{-?\s*([\w.]+)\s*-?\}\}")


def if_empty(key: str, written: str) -> str:
    """Return what to do about an expectation whose text, as `written`, renders to nothing."""
    alone = _VALUE.fullmatch(written.strip())
    value = "item.wanted" if alone is None else alone[1]
    expression = f"{_EXPRESSIONS[key].replace('VALUE', value)} if {value} else true"
    return f'give it a text; where nothing is expected, write that: "{expression}"'


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + _DOTS


def path_text(path: Iterable[str | int]) -> str:
    """Return a path of keys and indexes as `bullets[2].name`, empty for the whole document."""
    written = ""
    for step in path:
        if isinstance(step, int):
            written += f"[{step}]"
        elif step.isidentifier():
            written += f".{step}" if written else step
        else:
            written += f"[{shown(step)}]"
    return cut(visible(written), 2 * MAX_SHOWN)


def counted(number: int, what: str) -> str:
    """Return `1 item`, `2 items`, `4,312 characters`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _pieces(value: Json, limit: int) -> Iterable[str]:
    """Yield a value's JSON in pieces; a text is cut before it is spelled."""
    match value:
        case str():
            yield json.dumps(value[: limit + 1], ensure_ascii=False)
        case list():
            yield "["
            for index, item in enumerate(value):
                yield ", " if index else ""
                yield from _pieces(item, limit)
            yield "]"
        case dict():
            yield "{"
            for index, (key, item) in enumerate(value.items()):
                yield ", " if index else ""
                yield f"{json.dumps(key[:limit], ensure_ascii=False)}: "
                yield from _pieces(item, limit)
            yield "}"
        case int() if not isinstance(value, bool) and value.bit_length() > 4 * limit:
            yield "a very long number"
        case _:
            yield json.dumps(value)
