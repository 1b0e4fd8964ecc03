"""A flow that was made from a file of another tool: its data, and the text of its file."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import yaml

from poeflow.digest import Json, encode_json
from poeflow.flowfile.yaml_messages import core_value
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Problem

_HEAD: Final = """\
# yaml-language-server: $schema={schema}
# Made from {source} by `poeflow import`.
poeflow: 1
"""
_OTHER_BREAK: Final = lazy_pattern(r"[\r\x85\u2028\u2029]")
"""What ends a line in YAML besides the usual one."""
_LINE: Final = lazy_pattern(r"\n(?=[^\n])")
_SHORT: Final = 70
"""How many characters of JSON a list or mapping may have to be written in one line."""


class ImportedFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow in the shape of its file, and what of the other tool's file is not in it."""

    flow: dict[str, Json]
    notes: tuple[Problem, ...]


def flow_text(flow: Mapping[str, Json], source: str, schema: str) -> str:
    """Return the text of a flow that was made from the file called `source`.

    Steps stand apart, long texts are blocks, short lists are in a line.
    """
    text = _HEAD.format(schema=schema, source=source)
    for part, value in flow.items():
        if part == "poeflow":
            continue
        between = "\n" if isinstance(value, dict) else ""
        if part == "steps" and isinstance(value, dict):
            steps = (
                _dumped(_Block({step: keys})).removesuffix("\n") for step, keys in value.items()
            )
            indented = (_LINE.sub("\n  ", step) for step in steps)
            text += "\nsteps:\n" + "\n".join(f"  {step}\n" for step in indented)
        else:
            text += between + _dumped(_Block({part: value}))
    return text


def _dumped(value: Json) -> str:
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10_000)


class _Block(dict[str, Json]):
    """A mapping that is never written in one line."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's, with indented lists, and without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def analyze_scalar(self, scalar: str) -> Any:
        """Allow a block for each text that a block can hold, also with tabs and spaces at ends."""
        found = super().analyze_scalar(scalar)
        found.allow_block = found.multiline and _fits_block(scalar)
        return found

    def increase_indent(self, flow: object = None, indentless: object = None) -> None:
        super().increase_indent(bool(flow), indentless=False)


def _fits_block(text: str) -> bool:
    """Return whether a text can be a block that shows where it begins and ends."""
    bare = text.removesuffix("\n")
    is_shown = all(character.isprintable() or character in "\n\t" for character in text)
    return is_shown and bool(bare) and not bare[0].isspace() and bare[-1] not in " \t\n"


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if core_value(text) == text else "'"
    if _OTHER_BREAK.search(text):
        style = '"'
    elif "\n" in text:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _list(dumper: yaml.SafeDumper, items: list[Json]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=_is_short(items))


def _mapping(dumper: yaml.SafeDumper, mapping: dict[str, Json]) -> yaml.MappingNode:
    values = [*mapping.values()]
    is_short = _is_short(values) and len(encode_json(mapping)) <= _SHORT
    is_short = is_short and not isinstance(mapping, _Block)
    return dumper.represent_mapping("tag:yaml.org,2002:map", mapping.items(), flow_style=is_short)


def _is_short(values: list[Json]) -> bool:
    """Return whether values are plain ones, that fit into a line together."""
    is_plain = not any(isinstance(value, list | dict) for value in values)
    return is_plain and len(encode_json(values)) <= _SHORT and "\\n" not in repr(values)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
for _kind in (dict, _Block):
    _Dumper.add_representer(_kind, _mapping)
