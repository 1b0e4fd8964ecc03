"""Where a key belongs that stands in the wrong place, or has another name in other tools."""

from collections.abc import Iterable
from typing import Final

from poeflow.flowfile.hints import did_you_mean, nearest, one_of
from poeflow.flowfile.model import Defaults, Limits, Output, Params, Retry, Step

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
_IN_PARAMS: Final = "parameters of single bots go under extra_body:"


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
        return near or _IN_PARAMS
    return one_of(key, names)
