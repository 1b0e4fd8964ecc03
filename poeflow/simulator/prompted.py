"""The JSON that messages ask for: by a schema they show, in a fence or not, or by an example.

Libraries write schemas into prompts in ways of their own, most of them bare; what a bot makes of
an API's `response_format` with a schema is for `answers`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from poeflow.digest import Json
from poeflow.simulator.chat_messages import Turn
from poeflow.simulator.http_messages import decoded, encoded
from poeflow.simulator.schema_values import NoInstanceError, instance_of, looks_like_schema

_OPENING: Final = re.compile(r'\{\s*"')
_ASKS: Final = re.compile(
    r"\b(?:respond|reply|answer|return|output|give|write|produce)\b[^.\n]{0,80}\bJSON\b",
    re.IGNORECASE,
)
_STRUCTURE: Final = frozenset(
    {
        *("properties", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf"),
        *("$ref", "$defs", "definitions", "additionalProperties", "$schema"),
    }
)
"""What tells a bare schema from data that has a `type`, one of which must be there."""
_MAX_LOOKED_AT: Final = 1_000_000
_MAX_TRIES: Final = 200
"""How many opening braces of a text are looked behind: each may cost a walk to its end."""


def prompted(turns: tuple[Turn, ...], seed: str, *, is_json_wanted: bool) -> str | None:
    """Return a value for the last JSON Schema in the messages, as JSON; None where there is none.

    Without a schema it takes after the last example, in a message that asks for JSON in words or,
    with `is_json_wanted`, in any.
    """
    asking = [turn.text for turn in reversed(turns) if turn.role in ("system", "user")]
    wanted = [text for text in asking if is_json_wanted or _ASKS.search(text)]
    examples = (_like(found) for text in wanted for found in reversed(_objects(text)))
    for schema in (*(schema for text in asking for schema in _schemas(text)), *examples):
        try:
            return encoded(instance_of(schema, seed)).decode()
        except NoInstanceError:
            continue
    return None


def _schemas(text: str) -> Iterator[Json]:
    """Yield the schemas in a text, the last first, those in fences before all others."""
    yield from (value for value in reversed(_fenced(text)) if looks_like_schema(value))
    yield from (value for value in reversed(_objects(text)) if _is_bare_schema(value))


def _is_bare_schema(value: Mapping[str, Json]) -> bool:
    properties = value.get("properties")
    if isinstance(properties, dict) and properties:
        return all(isinstance(part, dict | bool) for part in properties.values())
    return looks_like_schema(dict(value)) and not _STRUCTURE.isdisjoint(value)


def _fenced(text: str) -> list[Json]:
    """Return the JSON that stands in the text's ```json fences."""
    found: list[Json] = []
    inside: list[str] | None = None
    for line in text.split("\n"):
        mark = line.strip()
        if inside is None:
            inside = [] if mark.lower().startswith("```json") else None
        elif mark.startswith("```"):
            found += _values("\n".join(inside))
            inside = None
        else:
            inside.append(line)
    return found


def _values(text: str) -> list[Json]:
    try:
        return [decoded(text.encode("utf-8", "surrogatepass"))]
    except ValueError:
        return []


def _objects(text: str) -> list[dict[str, Json]]:
    """Return the JSON objects that stand somewhere in a text, the outermost of each."""
    found: list[dict[str, Json]] = []
    text, at, read = text[-_MAX_LOOKED_AT:], 0, json.JSONDecoder().raw_decode
    for _ in range(_MAX_TRIES):
        opening = _OPENING.search(text, at)
        if opening is None:
            break
        try:
            value, at = read(text, opening.start())
        except (ValueError, RecursionError):
            at = opening.start() + 1
        else:
            found.append(value)
    return found


def _like(example: Json) -> dict[str, Json]:
    """Return the schema of what is shaped as `example` is."""
    match example:
        case dict():
            properties: Json = {key: _like(value) for key, value in example.items()}
            return {"type": "object", "properties": properties, "required": [*example]}
        case list():
            return {"type": "array", "items": _like(example[0]) if example else {"type": "string"}}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": min(0, example), "maximum": max(1, example)}
        case float():
            return {"type": "number", "minimum": min(0.0, example), "maximum": max(1.0, example)}
        case None:
            return {"type": "null"}
        case _:
            return {"type": "string"}
