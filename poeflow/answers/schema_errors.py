"""Errors of a validator, as sentences for models and people."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from poeflow.answers.display import MAX_OPTIONS, counted, one_line, path_text, shown
from poeflow.answers.schema_keywords import OURS
from poeflow.flowfile.schema_messages import TYPE_WORDS
from poeflow.flowfile.yaml_tree import KeyPath

if TYPE_CHECKING:
    from jsonschema import ValidationError

_TYPES: Final = TYPE_WORDS | {"object": "an object", "null": "null"}
"""As in messages about flows, but answers are JSON, and flows YAML."""
_MAX_FORMS: Final = 3


def sentence(path: KeyPath, message: str) -> str:
    """Return `path: what is wrong`, the path left out for the document as a whole."""
    return f"{path_text(path)}: {message}" if path else message


def sentence_at(error: "ValidationError") -> tuple[KeyPath, str]:
    """Return the place of an error as a path of keys and indexes, and its message."""
    while (branch := _branch(error)) is not None:
        error = branch
    return tuple(error.absolute_path), _message(error)


def _message(error: "ValidationError") -> str:
    message = _wrong(error)
    is_key = "propertyNames" in error.absolute_schema_path
    return f"the key {message}" if is_key else message


def _wrong(error: "ValidationError") -> str:
    value: Any = error.validator_value
    instance: Any = error.instance
    keyword: str | None = error.validator if isinstance(error.validator, str) else None
    match keyword:
        case name if name in OURS:
            return error.message
        case "type":
            return f"{shown(instance)} is not {_types([value])}"
        case "enum":
            return f"{shown(instance)} is none of {_options(value)}"
        case "const":
            return f"{shown(instance)} is not {shown(value)}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            return f"{shown(instance)} is {_BOUNDS[keyword]} {shown(value)}"
        case (
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
        ):
            return _size(keyword, instance, value)
        case "anyOf" | "oneOf" if error.context:
            return _no_form(error.context, instance)
        case "oneOf":
            return f"{shown(instance)} fits more than one of the forms it may have"
        case "not":
            return f"{shown(instance)} is what it must not be"
        case "contains":
            return "none of its items is what the list must contain"
        case "minContains" | "maxContains":
            word = "fewer" if keyword == "minContains" else "more"
            return f"{word} than {value} of its items are what the list must contain"
        case "items":
            return "the list has more items than it may have"
        case None:
            return f"{shown(instance)} is not allowed here"
        case str() if keyword[3:] in _UNITS:
            return _size(keyword, instance, value)
        case other:
            return f"{shown(instance)} does not fit {other}: {shown(value)}"


_BOUNDS: Final = {
    "minimum": "less than",
    "exclusiveMinimum": "not more than",
    "maximum": "more than",
    "exclusiveMaximum": "not less than",
}
_UNITS: Final = {"Length": "character", "Items": "item", "Properties": "key"}


def _size(keyword: str, instance: Any, limit: int) -> str:
    word = "at least" if keyword.startswith("min") else "at most"
    has = counted(len(instance), _UNITS[keyword[3:]])
    return f"{shown(instance)} has {has}, {word} {limit:,} wanted"


def _branch(error: "ValidationError") -> "ValidationError | None":
    """Return the most useful error inside a choice, None if that is the choice itself.

    The intended option is the one with the right type: its single error, or the first of its
    deepest ones.
    """
    if error.validator not in ("anyOf", "oneOf") or not error.context:
        return None
    context = [e for e in error.context if not _is_type_at(e)]
    if not context:
        return None
    deepest = max(len(each.relative_path) for each in context)
    those = [each for each in context if len(each.relative_path) == deepest]
    forms = {next(iter(each.relative_schema_path), None) for each in those}
    return those[0] if len(forms) == 1 else None


def _is_type_at(error: "ValidationError") -> bool:
    return error.validator == "type" and not error.relative_path


def _no_form(context: Iterable["ValidationError"], instance: Any) -> str:
    those = list(context)
    if all(map(_is_type_at, those)):
        return f"{shown(instance)} is not {_types(each.validator_value for each in those)}"
    messages = list(dict.fromkeys(_relative(each) for each in those if not _is_type_at(each)))
    more = f", or {len(messages) - _MAX_FORMS} more" if len(messages) > _MAX_FORMS else ""
    listed = "; or ".join(messages[:_MAX_FORMS])
    return f"{shown(instance)} has none of the forms it may have: {one_line(listed, 400)}{more}"


def _relative(error: "ValidationError") -> str:
    path = path_text(error.relative_path)
    return f"{path}: {_message(error)}" if path else _message(error)


def _types(values: Iterable[Any]) -> str:
    names = dict.fromkeys(_TYPES.get(name, name) for value in values for name in _listed(value))
    return " or ".join(names)


def _listed(value: Any) -> Iterator[str]:
    yield from [value] if isinstance(value, str) else value


def _options(values: list[Any]) -> str:
    listed = ", ".join(shown(value) for value in values[:MAX_OPTIONS])
    return f"{listed}, …" if len(values) > MAX_OPTIONS else listed
