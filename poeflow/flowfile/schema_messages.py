"""Messages and hints for violations of the flow schema, and for misplaced keys."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from poeflow.digest import encode_json
from poeflow.flowfile.model import Defaults, Limits, ModelAlias, Output, Params, Retry, Step
from poeflow.flowfile.patterns import did_you_mean, nearest, one_of
from poeflow.flowfile.yaml_messages import core_value
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern

_OWNERS: Final = (
    ("params", frozenset(Params.__struct_encode_fields__)),
    ("output", frozenset(Output.__struct_encode_fields__)),
    ("retry", frozenset(Retry.__struct_encode_fields__)),
    ("defaults", frozenset(Defaults.__struct_encode_fields__)),
    ("limits", frozenset(Limits.__struct_encode_fields__)),
    ("extra_body", frozenset({"thinking_budget", "verbosity", "web_search"})),
)
_OF_ALIASES: Final = frozenset(ModelAlias.__struct_encode_fields__)
_HABITS: Final = {
    "env": "flows cannot read the environment; declare an input and pass --input",
    "depends_on": 'did you mean "needs"?',
    "foreach": 'did you mean "for_each"?',
    "glob": 'a loop runs over files: write for_each: {glob: "docs/*.md"}',
    "run": "a step calls a model or renders a text; write prompt: or render:",
    "text": 'did you mean "prompt"?',
    "reads": 'a prompt reads by {{ read("notes.md") }}; only command: and call: take reads:',
}
_ITEMS: Final = {"expect": "for example expect: [{contains: otters}]"}
"""Hints for lists whose items are no texts."""
_HABITS_IN_PARTS: Final = {
    "type": "remove it: the other key implies it",
    "image_url": "write attach: {url: https://...}",
    "file": "write attach: PATH",
}
_OF_USERS: Final = frozenset({"max_cost_usd_per_day", "max_cost_usd_per_month"})
_BOT_PARAMETERS_HINT: Final = "parameters of single bots go under extra_body:"


def hint_for_unknown_key(key: str, known: Iterable[str]) -> str:
    """Return a hint where the unknown `key` belongs, or which known key it resembles."""
    names = frozenset(known)
    if key in _OF_USERS:
        option = key.replace("_", "-")
        return f"it stands in your own configuration (`poeflow config`), or give --{option}"
    for owner, fields in _OWNERS:
        if owner in names and key in fields:
            return f"{key} goes under {owner}:"
    if key == "glob" and "url" in names:
        return "a path may be a pattern: write path: docs/*.md"
    is_params = names == frozenset(Params.__struct_encode_fields__)
    if is_params and key in Step.__struct_encode_fields__:
        return f"{key} is a key of the step itself"
    if names == _OF_ALIASES and key in Step.__struct_encode_fields__:
        return f"{key} is a key of steps, and not of aliases"
    habits = _HABITS_IN_PARTS if "attach" in names else _HABITS
    near = did_you_mean(key, names)
    if key in habits or not near:
        habit = nearest(key, habits)
        if habit is not None and habit not in names:
            return habits[habit]
    if is_params:
        return near or _BOT_PARAMETERS_HINT
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
_RIVALS: Final = (
    "render",
    "command",
    "call",
    "use",
    "messages",
    "path",
    "url",
    "text",
    "in",
    "file",
    "rubrics",
)
_RIVALS_OF: Final[dict[str, tuple[str, ...]]] = {
    "key": ("group_by",),
    "limit": ("sample",),
    "seed": (),
}
_UNPLAIN: Final = lazy_pattern(r"^['\"*&!%@`|>]|: | #")
"""What a text may not begin with, or hold, if it is written without quotes."""
_PLAIN: Final = lazy_pattern(r"[\w./=+-]+")
_NEEDED_BY: Final = {"seed": "sample", "stdin": "command", "env": "command", "reads": "command"}
"""Keys that only go with another, `use` if they are not listed."""
_NAMES: Final = {
    "^[a-z_][a-z0-9_]*$": "use small letters, digits and _, beginning with a letter",
    "^[A-Za-z][A-Za-z0-9_-]*$": "use letters, digits, _ and -, beginning with a letter",
    "^[A-Za-z0-9][A-Za-z0-9._-]*$": "use letters, digits, ., _ and -",
}
_PARAMS_KEYS: Final = ("n", "stream_options")
_ALIAS_DEPTH: Final = 2
"""How many parts the place of an alias has."""
_OTHER_WORDS: Final = {"developer": "write system; Poe has no developer role"}


def message_and_hint(
    error: "ValidationError", path: KeyPath, written: str, siblings: Iterable[str]
) -> tuple[str, str]:
    """Return message and hint for an error whose cause is the key or value at `path`.

    `written` is the source text of the value, `siblings` are the keys beside it.
    """
    name = _name(path)
    schema: Any = error.schema
    value: Any = error.validator_value
    match error.validator:
        case "not":
            return _forbidden(path, siblings)
        case "additionalProperties":
            return f'unknown key "{path[-1]}"', hint_for_unknown_key(
                str(path[-1]), schema.get("properties", ())
            )
        case "required":
            instance: Any = error.instance
            missing = next(key for key in value if key not in instance)
            where = f" in {name}" if path else ""
            return f'the key "{missing}" is missing{where}', _describe(schema, missing)
        case "type":
            message, hint = _wrong_type(name, value, error.instance, written)
            return message, hint or _type_hint(error, path, written)
        case "enum":
            options = [str(option) for option in value]
            written_value = str(error.instance)
            hint = _OTHER_WORDS.get(written_value) or did_you_mean(written_value, options)
            return f"{_shown(written)} is not one of {', '.join(options)}", hint
        case "const":
            return f"{name} must be {value}", f"write {name}: {value}"
        case "anyOf":
            if not all("required" in option for option in value):
                return _no_kind_matches(name, value, written)
            keys = [str(option["required"][0]) for option in value]
            return f"{name} has none of {', '.join(keys)}", f"add one, for example {keys[0]}:"
        case "pattern":
            return _wrong_shape(error, name, written)
        case "minLength" | "minItems":
            return f"{name} is empty", "fill it, or remove the key"
        case _:
            return _out_of_bounds(error, name, written)


def _name(path: KeyPath) -> str:
    if not path:
        return "the flow"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {path[-2]}"
    return f'step "{path[-1]}"' if path[-2:-1] == ("steps",) else path[-1]


def _item(word: str) -> str:
    """Return a word as an item of a YAML list."""
    is_text = _PLAIN.fullmatch(word) is not None and isinstance(core_value(word), str)
    return word if is_text else encode_json(word).decode()


def _shown(written: str) -> str:
    text = " ".join(written.split())
    return text if len(text) <= 60 else text[:57] + "..."


def _no_kind_matches(name: str, options: list[Any], written: str) -> tuple[str, str]:
    """Return the message for a value that must be one of some words or a mapping."""
    words = [word for option in options for word in option.get("enum", ())]
    keys = [key for option in options for key in option.get("required", ())]
    expected = f"{', '.join(words)} or a mapping with {', '.join(keys)}"
    return f"{name} must be {expected}, not {_shown(written)}", ""


def _describe(schema: Any, key: str) -> str:
    example = schema.get("properties", {}).get(key, {}).get("examples", [None])[0]
    simple = isinstance(example, str | int)
    return f"for example {key}: {example}" if simple else f"add {key}:"


def _forbidden(path: KeyPath, siblings: Iterable[str]) -> tuple[str, str]:
    """Return the message for a key whose schema is `false`."""
    name = str(path[-1])
    if path[-2:-1] == ("extra_body",):
        hint = (
            f"{name} goes under params:" if name in _PARAMS_KEYS else f"{name} is a key of the step"
        )
        return f'extra_body must not have "{name}"', hint
    siblings = frozenset(siblings)
    if name == "matrix" and "for_each" in siblings:
        return "a step runs over items or over a matrix", "remove for_each: or matrix:"
    rivals = _RIVALS_OF.get(name, _RIVALS)
    rival = next((key for key in rivals if key in siblings and key != name), None)
    if rival is None:
        needed = _NEEDED_BY.get(name, "use")
        hint = _HABITS.get(name) or f"remove {name}:, or add {needed}:"
        return f'"{name}" needs "{needed}"', hint
    return f'"{name}" is not allowed with "{rival}"', f"remove {name}: or {rival}:"


def _wrong_type(name: str, value: Any, instance: Any, written: str) -> tuple[str, str]:
    allowed = [value] if isinstance(value, str) else list(value)
    if allowed[0] in ("number", "integer"):
        allowed = allowed[:1]  # text is allowed too, but only as a template
    wanted = " or ".join(TYPE_WORDS[kind] for kind in allowed)
    if instance is None:
        return f"{name} has no value; it must be {wanted}", "fill it, or remove the key"
    if name == "for_each" and type(instance) is int:
        return (
            f"for_each runs over items, not {instance}",
            f"write range({instance}), or samples: {instance}",
        )
    if "string" in allowed and not isinstance(instance, list | dict):
        return f"{name} must be {wanted}, not {_shown(written)}", f'quote it: "{_shown(written)}"'
    if name == "command" and isinstance(instance, str):
        hint = f"write an item for each argument: [{', '.join(map(_item, instance.split()))}]"
        return "command must be a list, not text: no shell reads it", hint
    if "array" in allowed and isinstance(instance, str):
        hint = _ITEMS.get(name) or f"write [{_shown(written)}]"
        return f"{name} must be {wanted}, not text", hint
    kind = "a list" if isinstance(instance, list) else "a mapping"
    shown = kind if isinstance(instance, list | dict) else _shown(written)
    return f"{name} must be {wanted}, not {shown}", ""


def _type_hint(error: "ValidationError", path: KeyPath, written: str) -> str:
    """Return a hint for a value of the wrong type."""
    instance: Any = error.instance
    if path == ("steps",) and isinstance(instance, list):
        return "write each step as a key: its id, a colon, and what it does"
    if not isinstance(instance, str):
        return _example(error)
    if written[:1] in "\"'" and not isinstance(core_value(instance), str):
        return f"remove the quotes: {instance}"
    if re.match(r"[a-z_]+:\S", instance) and error.validator_value == "object":
        return "put a space after the colon"
    if path == ("defaults",) or (path[:1] == ("models",) and len(path) <= _ALIAS_DEPTH):
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
            return f"{name}: {shown} is below {limit}", f"the minimum is {limit}"
        case "maximum":
            return f"{name}: {shown} is above {limit}", f"the maximum is {limit}"
        case "exclusiveMinimum":
            kind = "duration" if "pattern" in cast("dict[str, Any]", error.schema) else "number"
            return f"{name}: {shown} is not above {limit}", f"give a positive {kind}"
        case "maxItems":
            return f"{name} has {len(instance)} items", f"the maximum is {limit}"
        case "minProperties":
            return f"{name} is empty", _example(error)
        case "maxProperties":
            return f"{name} has more than one check", "write each check as an item of its own"
        case other:
            return f"{name} does not fit the schema ({other})", _example(error)


def _example(error: "ValidationError") -> str:
    examples = error.schema.get("examples") if isinstance(error.schema, dict) else None
    return f"for example {_yaml(examples[0])}" if examples else ""


def _yaml(value: Any) -> str:
    """Return a small value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str) and _UNPLAIN.search(value):
        return encode_json(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)
