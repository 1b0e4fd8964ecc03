"""What the flow schema finds wrong, in our own words, and where a misplaced key belongs."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from poeflow.flowfile.model import Defaults, Limits, Output, Params, Retry, Step
from poeflow.flowfile.patterns import did_you_mean, nearest, one_of
from poeflow.flowfile.yaml_messages import core_value
from poeflow.flowfile.yaml_tree import KeyPath

_OWNERS: Final = (
    ("params", frozenset(Params.__struct_encode_fields__)),
    ("output", frozenset(Output.__struct_encode_fields__)),
    ("retry", frozenset(Retry.__struct_encode_fields__)),
    ("defaults", frozenset(Defaults.__struct_encode_fields__)),
    ("limits", frozenset(Limits.__struct_encode_fields__)),
    ("extra_body", frozenset({"thinking_budget", "verbosity", "web_search"})),
)
_HABITS: Final = {
    "env": "flows read no environment; declare an input and pass --input",
    "depends_on": 'did you mean "needs"?',
    "foreach": 'did you mean "for_each"?',
    "glob": 'glob is a function: write for_each: glob("docs/*.md")',
    "run": "a step asks a model or renders a text; write prompt: or render:",
    "text": 'did you mean "prompt"?',
}
_HABITS_IN_PARTS: Final = {
    "type": "remove it: the other key says it",
    "image_url": "write attach: {url: https://...}",
    "file": "write attach: PATH",
}
_OF_SINGLE_BOTS: Final = "parameters of single bots go under extra_body:"


def where_it_goes(key: str, known: Iterable[str]) -> str:
    """Return where the unknown `key` belongs, or the known key it resembles."""
    names = frozenset(known)
    for owner, fields in _OWNERS:
        if owner in names and key in fields:
            return f"{key} goes under {owner}:"
    if key == "glob" and "url" in names:
        return "a path may be a pattern: write path: docs/*.md"
    is_params = names == frozenset(Params.__struct_encode_fields__)
    if is_params and key in Step.__struct_encode_fields__:
        return f"{key} is a key of the step itself"
    habits = _HABITS_IN_PARTS if "attach" in names else _HABITS
    near = did_you_mean(key, names)
    if key in habits or not near:
        habit = nearest(key, habits)
        if habit is not None and habit not in names:
            return habits[habit]
    if is_params:
        return near or _OF_SINGLE_BOTS
    return one_of(key, names)


if TYPE_CHECKING:
    from jsonschema import ValidationError

TYPE_WORDS: Final = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_RIVALS: Final = ("render", "use", "messages", "path", "url", "text", "in")
_NAMES: Final = {
    "^[a-z_][a-z0-9_]*$": "use small letters, digits and _, beginning with a letter",
    "^[A-Za-z][A-Za-z0-9_-]*$": "use letters, digits, _ and -, beginning with a letter",
    "^[A-Za-z0-9][A-Za-z0-9._-]*$": "use letters, digits, ., _ and -",
}
_IN_PARAMS: Final = ("n", "stream_options")
_OTHER_WORDS: Final = {"developer": "write system; Poe knows no developer role"}


def sentence(
    error: "ValidationError", culprit: KeyPath, written: str, siblings: Iterable[str]
) -> tuple[str, str]:
    """Return message and hint for the `culprit` of an error.

    `written` is its source text, `siblings` are the keys beside it.
    """
    name = _name(culprit)
    schema: Any = error.schema
    value: Any = error.validator_value
    match error.validator:
        case "not":
            return _forbidden(culprit, siblings)
        case "additionalProperties":
            return f'unknown key "{culprit[-1]}"', where_it_goes(
                str(culprit[-1]), schema.get("properties", ())
            )
        case "required":
            instance: Any = error.instance
            missing = next(key for key in value if key not in instance)
            where = f" in {name}" if culprit else ""
            return f'the key "{missing}" is missing{where}', _describe(schema, missing)
        case "type":
            message, hint = _wrong_type(name, value, error.instance, written)
            return message, hint or _better_type(error, culprit, written)
        case "enum":
            options = [str(option) for option in value]
            said = str(error.instance)
            hint = _OTHER_WORDS.get(said) or did_you_mean(said, options)
            return f"{_shown(written)} is not one of {', '.join(options)}", hint
        case "const":
            return f"{name} must be {value}", f"write {name}: {value}"
        case "anyOf":
            if not all("required" in option for option in value):
                return _of_no_kind(name, value, written)
            keys = [str(option["required"][0]) for option in value]
            return f"{name} has none of {', '.join(keys)}", f"add one, for example {keys[0]}:"
        case "pattern":
            return _wrong_shape(error, name, written)
        case "minLength" | "minItems":
            return f"{name} is empty", "fill it, or remove the key"
        case _:
            return _out_of_bounds(error, name, written)


def _name(culprit: KeyPath) -> str:
    if not culprit:
        return "the flow"
    if isinstance(culprit[-1], int):
        return f"item {culprit[-1] + 1} of {culprit[-2]}"
    return f'step "{culprit[-1]}"' if culprit[-2:-1] == ("steps",) else culprit[-1]


def _shown(written: str) -> str:
    text = " ".join(written.split())
    return text if len(text) <= 60 else text[:57] + "..."


def _of_no_kind(name: str, options: list[Any], written: str) -> tuple[str, str]:
    """Say what a value may be that is either one of some words or a mapping."""
    words = [word for option in options for word in option.get("enum", ())]
    keys = [key for option in options for key in option.get("required", ())]
    told = f"{', '.join(words)} or a mapping with {', '.join(keys)}"
    return f"{name} must be {told}, not {_shown(written)}", ""


def _describe(schema: Any, key: str) -> str:
    example = schema.get("properties", {}).get(key, {}).get("examples", [None])[0]
    simple = isinstance(example, str | int)
    return f"for example {key}: {example}" if simple else f"add {key}:"


def _forbidden(culprit: KeyPath, siblings: Iterable[str]) -> tuple[str, str]:
    """Say why a key whose schema is `false` cannot stand here."""
    name = str(culprit[-1])
    if culprit[-2:-1] == ("extra_body",):
        hint = (
            f"{name} goes under params:" if name in _IN_PARAMS else f"{name} is a key of the step"
        )
        return f'extra_body may not hold "{name}"', hint
    siblings = frozenset(siblings)
    if name == "matrix" and "for_each" in siblings:
        return "a step runs over items or over a matrix", "remove for_each: or matrix:"
    rival = next((key for key in _RIVALS if key in siblings and key != name), None)
    if rival is None:
        return f'"{name}" goes with "use"', f"remove {name}:, or add use:"
    return f'"{name}" cannot stand beside "{rival}"', f"remove {name}: or {rival}:"


def _wrong_type(name: str, value: Any, instance: Any, written: str) -> tuple[str, str]:
    allowed = [value] if isinstance(value, str) else list(value)
    if allowed[0] in ("number", "integer"):
        allowed = allowed[:1]  # text is taken too, but only as a template
    wanted = " or ".join(TYPE_WORDS[kind] for kind in allowed)
    if instance is None:
        return f"{name} has no value; it must be {wanted}", "fill it, or remove the key"
    if "string" in allowed and not isinstance(instance, list | dict):
        return f"{name} must be {wanted}, not {_shown(written)}", f'quote it: "{_shown(written)}"'
    if "array" in allowed and isinstance(instance, str):
        return f"{name} must be {wanted}, not text", f"write [{_shown(written)}]"
    kind = "a list" if isinstance(instance, list) else "a mapping"
    shown = kind if isinstance(instance, list | dict) else _shown(written)
    return f"{name} must be {wanted}, not {shown}", ""


def _better_type(error: "ValidationError", culprit: KeyPath, written: str) -> str:
    """Return what was probably meant by a value of the wrong type."""
    instance: Any = error.instance
    if culprit == ("steps",) and isinstance(instance, list):
        return "write each step as a key: its id, a colon, and what it does"
    if not isinstance(instance, str):
        return _example(error)
    if written[:1] in "\"'" and not isinstance(core_value(instance), str):
        return f"remove the quotes: {instance}"
    if re.match(r"[a-z_]+:\S", instance) and error.validator_value == "object":
        return "put a space behind the colon"
    if culprit == ("defaults",) or culprit[:1] == ("models",):
        return f"write {{model: {_shown(written)}}}"
    return _example(error)


def _wrong_shape(error: "ValidationError", name: str, written: str) -> tuple[str, str]:
    match error.validator_value:
        case pattern if pattern in _NAMES:
            return f'"{error.instance}" is not a valid name', _NAMES[str(pattern)]
        case r"\{\{":
            kind = error.schema["type"] if isinstance(error.schema, dict) else ["number"]
            wanted = TYPE_WORDS[kind[0]]
            return f"{name} must be {wanted}, not {_shown(written)}", 'or a template: "{{ ... }}"'
        case pattern if "ms|s|m|h" in str(pattern):
            return f"{name}: {_shown(written)} is not a duration", "write 90s, 10m or 1h"
        case pattern if "https" in str(pattern):
            hint = "only https images can be linked"
            return f"{name}: {_shown(written)} is not an https address", hint
        case _:
            return f"{name}: {_shown(written)} has the wrong form", _example(error)


def _out_of_bounds(error: "ValidationError", name: str, written: str) -> tuple[str, str]:
    limit, instance = error.validator_value, cast("list[Any]", error.instance)
    shown = _shown(written)
    match error.validator:
        case "minimum":
            return f"{name}: {shown} is below {limit}", f"the least is {limit}"
        case "maximum":
            return f"{name}: {shown} is above {limit}", f"the most is {limit}"
        case "exclusiveMinimum":
            return f"{name}: {shown} is not above {limit}", "give a positive duration"
        case "maxItems":
            return f"{name} has {len(instance)} items", f"the most is {limit}"
        case "minProperties":
            return f"{name} is empty", _example(error)
        case "maxProperties":
            return f"{name} holds more than one check", "write each check as an item of its own"
        case other:
            return f"{name} does not fit the schema ({other})", _example(error)


def _example(error: "ValidationError") -> str:
    examples = error.schema.get("examples") if isinstance(error.schema, dict) else None
    return f"for example {_yaml(examples[0])}" if examples else ""


def _yaml(value: Any) -> str:
    """Show a small value as a person would write it in YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
