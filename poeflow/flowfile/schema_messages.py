"""Messages and hints for violations of the flow schema, and for misplaced keys."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from poeflow.flowfile.model import Defaults, Limits, ModelAlias, Output, Params, Retry, Step
from poeflow.flowfile.patterns import did_you_mean, empty_hint, nearest, one_of
from poeflow.flowfile.yaml_messages import core_value, one_line_yaml, yaml_word
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
_BOT_PARAMETERS_HINT: Final = "parameters of single bots go under extra_body:"
_NO_ENVIRONMENT: Final = "flows cannot read the environment; declare an input and pass --input"
_IN_FLOWS: Final = {
    "env": _NO_ENVIRONMENT,
    **dict.fromkeys(("jobs", "tasks", "stages", "nodes"), 'did you mean "steps"?'),
    **dict.fromkeys(("vars", "variables", "parameters", "arguments"), 'did you mean "inputs"?'),
    "version": "the version of the format is poeflow: 1",
}
_IN_STEPS: Final = {
    "env": _NO_ENVIRONMENT,
    "depends_on": 'did you mean "needs"?',
    "foreach": 'did you mean "for_each"?',
    "glob": 'a loop runs over files: write for_each: {glob: "docs/*.md"}',
    **dict.fromkeys(("when", "condition", "unless"), 'did you mean "if"?'),
    **dict.fromkeys(("loop", "with_items", "items"), 'did you mean "for_each"?'),
    **dict.fromkeys(("retries", "max_retries"), "write retry: {attempts: 3}"),
    **dict.fromkeys(("assert", "asserts", "assertions", "tests"), 'did you mean "expect"?'),
    **dict.fromkeys(("file", "template"), "a prompt is in a file of its own: prompt: {file: x.md}"),
    **dict.fromkeys(("image", "images", "files", "attach"), 'did you mean "attachments"?'),
    **dict.fromkeys(("functions", "plugins"), 'did you mean "tools"?'),
    "after": 'did you mean "needs"?',
    "instructions": "write prompt: or system:",
    "run": "a step calls a model or renders a text; write prompt: or render:",
    "text": 'did you mean "prompt"?',
    "reads": 'a prompt reads by {{ read("notes.md") }}; only command: and call: take reads:',
}
_IN_PARTS: Final = {
    "type": "remove it: the other key implies it",
    "image_url": "write attach: {url: https://...}",
    "file": "write attach: PATH",
}
_BY_JUDGE: Final = 'let a model judge it: judge: {rubric: "The tone is polite."}'
_BY_CODE: Final = "write that: with an expression, or call: MODULE:FUNCTION"
_AS_WORDS: Final = "words are counted by an expression: that: output.text | wordcount <= 100"
_AS_LINES: Final = (
    "lines are counted by an expression: that: output.text.splitlines() | length <= 10"
)
_AS_CHARACTERS: Final = "write min_length: or max_length:, in characters"
_AS_WORD: Final = "write one_of: under output:, or that: \"output.text in ['yes', 'no']\""
_IN_EXPECT: Final = {
    **dict.fromkeys(("max_words", "min_words", "words", "word_count", "wordcount"), _AS_WORDS),
    **dict.fromkeys(("max_lines", "min_lines", "lines", "line_count"), _AS_LINES),
    **dict.fromkeys(("length", "chars", "characters"), _AS_CHARACTERS),
    **dict.fromkeys(("max_chars", "max_characters"), 'did you mean "max_length"?'),
    **dict.fromkeys(("min_chars", "min_characters"), 'did you mean "min_length"?'),
    **dict.fromkeys(
        ("max_tokens", "min_tokens", "tokens"), f"{_AS_CHARACTERS}, or params: of the step"
    ),
    **dict.fromkeys(("regex", "regexp", "regex_match", "pattern", "re"), 'did you mean "matches"?'),
    **dict.fromkeys(
        ("not_matches", "not_regex", "not_pattern"),
        "write that: not (output.text | regex_find('x'))",
    ),
    **dict.fromkeys(("eq", "is", "exact", "exact_match"), 'did you mean "equals"?'),
    **dict.fromkeys(("not_equals", "not_equal", "ne"), "write that: output.text != 'x'"),
    **dict.fromkeys(
        ("icontains", "contains_ignore_case"), "write that: \"'x' in output.text | lower\""
    ),
    "contains_json": 'did you mean "is_json"?',
    **dict.fromkeys(("include", "includes"), 'did you mean "contains"?'),
    **dict.fromkeys(
        ("not_contains_any", "contains_none", "excludes"), "write one not_contains: for each text"
    ),
    **dict.fromkeys(("prefix", "begins_with"), 'did you mean "starts_with"?'),
    "suffix": 'did you mean "ends_with"?',
    **dict.fromkeys(("levenshtein", "similarity"), 'did you mean "similar_to"?'),
    **dict.fromkeys(
        ("latency", "max_latency", "max_time", "timeout"), 'did you mean "max_seconds"?'
    ),
    "price": 'did you mean "max_cost"?',
    **dict.fromkeys(("in", "enum", "one_of", "choices"), _AS_WORD),
    **dict.fromkeys(
        ("rubric", "llm_rubric", "criteria", "factuality", "score", "threshold"), _BY_JUDGE
    ),
    **dict.fromkeys(("python", "javascript", "function", "code"), _BY_CODE),
    **dict.fromkeys(
        ("assert", "expr", "expression", "condition", "if", "test"), 'did you mean "that"?'
    ),
    **dict.fromkeys(("type", "value"), "the kind of check is the key: contains: otters"),
}
_IN_JUDGE: Final = {
    **dict.fromkeys(("criteria", "prompt", "question", "instructions"), 'did you mean "rubric"?'),
    **dict.fromkeys(("min_score", "pass_score", "score"), 'did you mean "threshold"?'),
}
_IN_OUTPUT: Final = {
    **dict.fromkeys(("enum", "choices", "values", "options"), 'did you mean "one_of"?'),
    **dict.fromkeys(("file", "path", "to", "filename", "write"), 'did you mean "save"?'),
    "type": 'did you mean "format"?',
    **dict.fromkeys(("regex", "pattern"), "write expect: [{matches: x}] in the step"),
}
_LAST_ROWS: Final = 'the last ones are taken by where: "loop.index > loop.length - 20"'
_IN_LOOPS: Final = {
    **dict.fromkeys(("last", "tail"), _LAST_ROWS),
    **dict.fromkeys(("filter", "if", "when", "select"), 'did you mean "where"?'),
    **dict.fromkeys(("items", "list", "over", "from"), 'did you mean "in"?'),
    **dict.fromkeys(("path", "csv", "table", "rows"), 'did you mean "file"?'),
    **dict.fromkeys(("max", "first"), 'did you mean "limit"?'),
    **dict.fromkeys(("as", "var"), "remove it: each is called item"),
}
_IN_INPUTS: Final = {
    **dict.fromkeys(("values", "choices", "options", "allowed"), 'did you mean "enum"?'),
    **dict.fromkeys(("help", "desc"), 'did you mean "description"?'),
    "optional": "give it a default",
}
_IN_REPEAT: Final = {
    **dict.fromkeys(
        ("times", "count", "limit", "n", "iterations", "max_iterations", "max_turns"),
        'did you mean "max"?',
    ),
    "while": "write until: with the opposite",
}
_IN_TOOLS: Final = {
    "type": "remove it: each tool is a function",
    "function": "write what it holds in the tool itself: name:, description:, parameters:",
    **dict.fromkeys(
        ("input_schema", "inputschema", "schema", "args"), 'did you mean "parameters"?'
    ),
    **dict.fromkeys(("handler", "call", "python"), 'did you mean "run"?'),
}
_IN_RETRY: Final = dict.fromkeys(("max", "count", "times", "retries"), 'did you mean "attempts"?')
_IN_LIMITS: Final = {
    **dict.fromkeys(("max_calls", "calls"), 'did you mean "max_requests"?'),
    **dict.fromkeys(("budget", "cost", "usd"), 'did you mean "max_cost_usd"?'),
    **dict.fromkeys(("parallel", "workers"), 'did you mean "concurrency"?'),
    "rpm": 'did you mean "requests_per_minute"?',
    "tpm": 'did you mean "tokens_per_minute"?',
    **dict.fromkeys(("timeout", "time", "max_time"), "each step has a timeout:"),
}
_IN_PARAMS: Final = {
    "stop_sequences": 'did you mean "stop"?',
    **dict.fromkeys(("effort", "reasoning"), 'did you mean "reasoning_effort"?'),
    "temp": 'did you mean "temperature"?',
    "top_k": _BOT_PARAMETERS_HINT,
}
_HABITS: Final = {
    "steps": _IN_FLOWS,
    "needs": _IN_STEPS,
    "attach": _IN_PARTS,
    "similar_to": _IN_EXPECT,
    "rubric": _IN_JUDGE,
    "one_of": _IN_OUTPUT,
    "group_by": _IN_LOOPS,
    "default_from": _IN_INPUTS,
    "until": _IN_REPEAT,
    "attempts": _IN_RETRY,
    "max_points": _IN_LIMITS,
    "top_p": _IN_PARAMS,
    "parameters": _IN_TOOLS,
}
"""What is written elsewhere and what to write here, by a key that only such a mapping has."""
_MEANT: Final = lazy_pattern(r'did you mean "(\w+)"\?')
AXES: Final = "axes"
"""The key of a matrix under which its axes stand; elsewhere axes stand in it directly."""
_AXES_HINT: Final = "write matrix: {{axes: {{{}: [...]}}}}"
_ITEMS: Final = {"expect": "for example expect: [{contains: otters}]"}
"""Hints for lists whose items are no texts."""
_OF_USERS: Final = frozenset({"max_cost_usd_per_day", "max_cost_usd_per_month"})


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
    marks = names & _HABITS.keys()
    habits: Mapping[str, str] = _HABITS[min(marks)] if marks else {}
    written, near = key.replace("-", "_").lower(), did_you_mean(key, names)
    if written in habits:
        return habits[written]
    habit = nearest(key, habits) if "needs" in names and not near else None
    if habit is not None and habit not in names:
        return habits[habit]
    if is_params:
        return near or _BOT_PARAMETERS_HINT
    return one_of(key, names)


def is_loose_axis(error: "ValidationError", key: str) -> bool:
    """Return whether an unknown key of a matrix is an axis that stands in it directly."""
    schema: Any = error.schema
    instance: Any = error.instance
    known = schema.get("properties", ())
    if AXES not in known or key in known or meant_key(key, known) is not None:
        return False
    value = instance.get(key)
    return isinstance(value, list) or (isinstance(value, dict) and value.keys() == {"file"})


def meant_key(key: str, known: Iterable[str]) -> str | None:
    """Return the known key that is certainly meant by an unknown one, None if there is none."""
    names = frozenset(known)
    found = _MEANT.fullmatch(hint_for_unknown_key(key, names))
    return found[1] if found is not None and found[1] in names else None


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
    *("render", "command", "call", "use", "messages"),
    *("path", "url", "text", "in", "file", "rubrics"),
)
_RIVALS_OF: Final[dict[str, tuple[str, ...]]] = {
    "key": ("group_by",),
    "limit": ("sample",),
    "seed": (),
}
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
_ROLES_ELSEWHERE: Final = {
    "developer": "write system; Poe has no developer role",
    "human": "write user",
    **dict.fromkeys(("ai", "bot", "model", "gpt"), "write assistant"),
    "function": "write tool, with tool_call_id:",
}
_STEP_NAMED: Final = lazy_pattern(r"(?:\{\{-?\s*)?steps\.([a-z_][a-z0-9_]*)\b.*|([a-z_][a-z0-9_]*)")
"""A step in an expression, or its id alone."""
_AXIS_KEY: Final = 'an axis is its values: read("rows.csv") | fromcsv | map(attribute="id") | list'
_TOOL_LIST: Final = "write a list of functions: [{name: get_weather}], or {file: PATH}"
_FUNCTION: Final = lazy_pattern(r"(?:(?!steps\.|inputs\.)([A-Za-z_][\w.]*)[:.])?([A-Za-z]\w*)")


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
            return f'unknown key "{path[-1]}"', _key_hint(error, path)
        case "required":
            instance: Any = error.instance
            missing = next(key for key in value if key not in instance)
            where = f" in {name}" if path else ""
            hint = _TOOL_LIST if name == "tools" else _describe(schema, missing)
            return f'the key "{missing}" is missing{where}', hint
        case "type":
            message, hint = _wrong_type(name, value, error.instance, written)
            hint = empty_hint(path) if error.instance is None else hint
            return message, hint or _type_hint(error, path, written)
        case "enum":
            options = [str(option) for option in value]
            near = hint_for_role if name == "role" else did_you_mean
            message = f"{_shown(written) or 'nothing'} is not one of {', '.join(options)}"
            is_null = error.instance is None
            return message, empty_hint(path) if is_null else near(str(error.instance), options)
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
            return f"{name} is empty", empty_hint(path)
        case _:
            return _out_of_bounds(error, name, written)


def _key_hint(error: "ValidationError", path: KeyPath) -> str:
    """Return a hint for the unknown key at `path`."""
    schema: Any = error.schema
    instance: Any = error.instance
    key = str(path[-1])
    if is_loose_axis(error, key):
        return _AXES_HINT.format(key)
    if path[-2:-1] == ("tools",) and "file" not in instance:
        return _TOOL_LIST
    if path[-3:-2] == (AXES,) and key == "key":
        return _AXIS_KEY
    return hint_for_unknown_key(key, schema.get("properties", ()))


def hint_for_role(role: str, roles: Iterable[str]) -> str:
    """Return which of `roles` is meant by the role of a message, empty if it is none of them."""
    return _ROLES_ELSEWHERE.get(role.lower()) or did_you_mean(role, roles)


def _name(path: KeyPath) -> str:
    if not path:
        return "the flow"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {path[-2]}"
    return f'step "{path[-1]}"' if path[-2:-1] == ("steps",) else path[-1]


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
        hint = _IN_STEPS.get(name) or f"remove {name}:, or add {needed}:"
        return f'"{name}" needs "{needed}"', hint
    return f'"{name}" is not allowed with "{rival}"', f"remove {name}: or {rival}:"


def _wrong_type(name: str, value: Any, instance: Any, written: str) -> tuple[str, str]:
    allowed = [value] if isinstance(value, str) else [kind for kind in value if kind != "null"]
    if allowed[0] in ("number", "integer"):
        allowed = allowed[:1]  # text is allowed too, but only as a template
    wanted = " or ".join(TYPE_WORDS[kind] for kind in allowed)
    if instance is None:
        return f"{name} has no value; it must be {wanted}", ""
    if name == "for_each" and type(instance) is int:
        return (
            f"for_each runs over items, not {instance}",
            f"write range({instance}), or samples: {instance}",
        )
    if "string" in allowed and not isinstance(instance, list | dict):
        return f"{name} must be {wanted}, not {_shown(written)}", f'quote it: "{_shown(written)}"'
    if name == "command" and isinstance(instance, str):
        hint = f"write an item for each argument: [{', '.join(map(yaml_word, instance.split()))}]"
        return "command must be a list, not text: no shell reads it", hint
    if "array" in allowed and isinstance(instance, str):
        is_expression = name == "attachments" and "steps." in written
        item = f"{{from: {_shown(written)}}}" if is_expression else _shown(written)
        tools = _tools(instance, "write tools: [{}]") if name == "tools" else ""
        hint = tools or _ITEMS.get(name) or f"write [{item}]"
        return f"{name} must be {wanted}, not text", hint
    kind = "a list" if isinstance(instance, list) else "a mapping"
    shown = kind if isinstance(instance, list | dict) else _shown(written)
    return f"{name} must be {wanted}, not {shown}", ""


def _type_hint(error: "ValidationError", path: KeyPath, written: str) -> str:
    """Return a hint for a value of the wrong type."""
    instance: Any = error.instance
    if path == ("steps",) and isinstance(instance, list):
        return "write each step as a key: its id, a colon, and what it does"
    if path[-1:] == ("history",):
        return _conversation(instance) or _example(error)
    if not isinstance(instance, str):
        is_attached = isinstance(instance, list) and "attachments" in path
        return "write an item for each file" if is_attached else _example(error)
    if path[-2:-1] == ("tools",):
        return _tools(instance, "write {}") or _example(error)
    if written[:1] in "\"'" and not isinstance(core_value(instance), str):
        return f"remove the quotes: {instance}"
    if re.match(r"[a-z_]+:\S", instance) and error.validator_value == "object":
        return "put a space after the colon"
    if path == ("defaults",) or (path[:1] == ("models",) and len(path) <= _ALIAS_DEPTH):
        return f"write {{model: {_shown(written)}}}"
    return _example(error)


def _conversation(written: object) -> str:
    """Return how the step is named whose conversation continues, empty if it is not known."""
    text = written[0] if isinstance(written, list) and len(written) == 1 else written
    found = _STEP_NAMED.fullmatch(text) if isinstance(text, str) else None
    return "" if found is None else f"write history: {found[1] or found[2]}"


def _tools(written: str, form: str) -> str:
    """Return how a text is written that names a function or a file, empty if it names none."""
    if written.endswith((".json", ".yaml", ".yml")):
        return f"write tools: {{file: {written}}}"
    found = _FUNCTION.fullmatch(written)
    if found is None:
        return ""
    run = f"{found[1] or 'MODULE'}:{found[2]}"
    return form.format(f"{{name: {found[2]}, parameters: {{...}}, run: {run}}}")


def _wrong_shape(error: "ValidationError", name: str, written: str) -> tuple[str, str]:
    match error.validator_value:
        case pattern if pattern in _NAMES:
            step = _conversation(error.instance) if name == "history" else ""
            return f'"{_shown(str(error.instance))}" is not a valid name', step or _NAMES[
                str(pattern)
            ]
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
            is_from_end = name == "limit" and shown.startswith("-")
            hint = _LAST_ROWS if is_from_end else f"the minimum is {limit}"
            return f"{name}: {shown} is below {limit}", hint
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
    return f"for example {one_line_yaml(examples[0])}" if examples else ""
