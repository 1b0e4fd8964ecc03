"""The flow schema as editors want it: descriptions in Markdown, and snippets to start from.

The bundled schema is the contract, and stays readable: what is added here checks nothing.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from poeflow.flowfile.key_marks import Decides, decisions
from poeflow.flowfile.model import Output, Step
from poeflow.flowfile.schema import FLOW_SCHEMA, bundled_schema
from poeflow.lazy_pattern import lazy_pattern

_CODE: Final = lazy_pattern(r"`[^`]*`|\{\{.*?\}\}|\{[^{}]*\}|<[^<>]*>|\[\]|poeflow\[[a-z]+\]")
_SPECIAL: Final = lazy_pattern(r"([*_\[\]<>#])")
_EFFECTS: Final = {
    "request": "Part of the request: a change of it makes results stale.",
    "judgement": "Decides how answers are judged: a change of it makes results stale.",
    "files": "Decides which files are written: a change of it makes results stale.",
    "run": "Decides when something is sent, not what: a change of it makes nothing stale.",
    "nothing": "For readers: a change of it makes nothing stale.",
}
_NEVER: Final[Mapping[str, object]] = {"not": {}}
"""A key that may not be there. Editors offer none whose schema is false, which means the same."""
_BY_NAME: Final = frozenset({"properties", "$defs", "patternProperties"})
_SCHEMAS: Final = frozenset({"if", "then", "else", "not", "items", "additionalProperties"})
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf"})
_NAME: Final = "${1:name}"
_PROMPT: Final = {"prompt": "${3:Say hello.}"}
_MODEL: Final = {"model": "${2:Claude-Sonnet-4.5}"}
SNIPPETS: Final[Mapping[tuple[str, ...], tuple[dict[str, Any], ...]]] = {
    (): (
        {
            "label": "flow",
            "description": "A flow of one step.",
            "body": {"poeflow": 1, "steps": {_NAME: {**_MODEL, **_PROMPT}}},
        },
    ),
    ("properties", "inputs"): (
        {
            "label": "input with a default",
            "description": "A text that each run may set.",
            "body": {_NAME: {"default": "${2:value}", "description": "${3:What it is.}"}},
        },
        {
            "label": "input with a choice",
            "description": "One of several words.",
            "body": {_NAME: {"enum": ["${2:short}", "${3:long}"], "default": "${2:short}"}},
        },
        {
            "label": "input that is a file",
            "description": "Read it with {{ read(inputs.NAME) }}.",
            "body": {_NAME: {"type": "file", "default": "${2:data/text.md}"}},
        },
    ),
    ("properties", "steps"): (
        {
            "label": "step that asks a model",
            "description": "A prompt, whose answer is saved.",
            "body": {_NAME: {**_MODEL, **_PROMPT, "output": {"save": "${4:out/answer.md}"}}},
        },
        {
            "label": "step for each row",
            "description": "Runs once for each row of a table.",
            "body": {
                _NAME: {
                    "for_each": {"file": "${4:data/rows.csv}"},
                    **_MODEL,
                    "prompt": "Describe {{ item.name }}.",
                }
            },
        },
        {
            "label": "step with data",
            "description": "Its answer is JSON of this shape, corrected once if it is not.",
            "body": {
                _NAME: {
                    **_MODEL,
                    **_PROMPT,
                    "output": {
                        "schema": {
                            "type": "object",
                            "properties": {"${4:title}": {"type": "string"}},
                            "required": ["${4:title}"],
                        },
                        "repair": 1,
                    },
                }
            },
        },
        {
            "label": "step that renders a text",
            "description": "A template without a model.",
            "body": {_NAME: {"render": "${2:text}", "output": {"save": "${3:out/page.md}"}}},
        },
    ),
    ("$defs", "step", "properties", "expect"): (
        {
            "label": "judged by a model",
            "description": "A model rates the answer from 0 to 1 by your words.",
            "body": [{"judge": {"model": "${1:GPT-5.2}", "rubric": "${2:It is correct.}"}}],
        },
    ),
    ("$defs", "step", "properties", "attachments"): (
        {
            "label": "files by a pattern",
            "description": "Files of the project, sent with the prompt.",
            "body": [{"path": "${1:docs/*.pdf}"}],
        },
    ),
}
"""Snippets by the place of the schema at which editors offer them."""


def schema_text(name: str) -> str:
    """Return the bundled schema `name` as the text of a file for editors."""
    schema = for_editors(bundled_schema(name), is_of_flows=name == FLOW_SCHEMA)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def for_editors(contract: dict[str, Any], *, is_of_flows: bool = True) -> dict[str, Any]:
    """Return a schema with Markdown descriptions, and that of flows with snippets, too."""
    effects: dict[tuple[str, ...], Decides] = {}
    for name, shape in (("step", Step), ("output", Output)) if is_of_flows else ():
        for key, found in decisions(shape).items():
            effects["$defs", name, "properties", key] = found
    return _enriched(contract, (), effects, SNIPPETS if is_of_flows else {})


def _enriched(
    node: dict[str, Any],
    place: tuple[str, ...],
    effects: Mapping[tuple[str, ...], Decides],
    snippets: Mapping[tuple[str, ...], tuple[dict[str, Any], ...]],
) -> dict[str, Any]:
    """Return a schema and those below it, each with what is added to it after its description."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key == "default":
            continue  # editors would write it into every object; it is in the description
        found[key] = value
        if key == "description":
            found["markdownDescription"] = _markdown(value, node, effects.get(place))
        elif key in _BY_NAME:
            found[key] = {
                name: one != _NEVER and _enriched(one, (*place, key, name), effects, snippets)
                for name, one in value.items()
            }
        elif key in _SCHEMAS and isinstance(value, dict):
            found[key] = _enriched(value, (*place, key), effects, snippets)
        elif key in _LISTS:
            found[key] = [_enriched(one, (*place, key), effects, snippets) for one in value]
    if place in snippets:
        found["defaultSnippets"] = list(snippets[place])
    return found


def _markdown(description: str, node: Mapping[str, Any], effect: Decides | None) -> str:
    """Return a description as Markdown: keys and templates as code, then default and effect."""
    parts = [_as_code(description)]
    if "default" in node:
        parts.append(f"Default: `{json.dumps(node['default'], ensure_ascii=False)}`")
    if effect is not None:
        parts.append(f"*{_EFFECTS[effect.what]}*")
    return "\n\n".join(parts)


def _as_code(text: str) -> str:
    """Return plain text as Markdown, with what is written in a flow as code."""
    found, end = [], 0
    for match in _CODE.finditer(text):
        found.append(_SPECIAL.sub(r"\\\1", text[end : match.start()]))
        found.append(match[0] if match[0].startswith("`") else f"`{match[0]}`")
        end = match.end()
    return "".join([*found, _SPECIAL.sub(r"\\\1", text[end:])])
