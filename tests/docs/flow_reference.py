"""The reference of the flow format in the README, generated from its schema."""

import json
from collections.abc import Iterator
from typing import Any

from poeflow.flowfile.build import SCHEMA
from poeflow.flowfile.schema import bundled

Shape = dict[str, Any]
BEGIN = "<!-- the schema's keys begin -->\n"
END = "<!-- the schema's keys end -->\n"
ROWS = (
    ("The file", ()),
    ("`inputs.NAME`", ("$defs", "input")),
    ("`models.NAME`", ("$defs", "model")),
    ("`defaults`", ("properties", "defaults")),
    ("`limits`", ("properties", "limits")),
    ("`steps.ID`", ("$defs", "step")),
    ("`for_each`", ("$defs", "step", "properties", "for_each")),
    ("`matrix`", ("$defs", "step", "properties", "matrix")),
    ("`samples`", ("$defs", "step", "properties", "samples")),
    ("`timeout`", ("$defs", "step", "properties", "timeout")),
    ("`retry`", ("$defs", "step", "properties", "retry")),
    ("`messages[]`", ("$defs", "message")),
    ("`attachments[]`", ("$defs", "attachment")),
    ("`tools[]`", ("$defs", "tool")),
    ("`output`", ("$defs", "output")),
    ("`expect[]`", ("$defs", "expectation")),
    ("`judge`", ("$defs", "expectation", "properties", "judge")),
    ("`params`", ("$defs", "params")),
)


def reference() -> str:
    """Return a table of every key: its meaning and an example, as the schema has them."""
    contract = bundled(SCHEMA)
    lines = ["| key | meaning | example |", "|---|---|---|"]
    for title, path in ROWS:
        shape = contract
        for step in path:
            shape = shape[step]
        lines.append(f"| **{title}** | {_escaped(shape['description'])} | |")
        lines += _keys(contract, shape)
    return "\n".join(lines) + "\n"


def _keys(contract: Shape, shape: Shape) -> Iterator[str]:
    for name, found in shape["properties"].items():
        target = found.get("$ref", "").rsplit("/", 1)[-1]
        described = contract["$defs"].get(target, {}) | found
        example = json.dumps(described["examples"][0], ensure_ascii=False)
        yield f"| `{name}` | {_escaped(described['description'])} | `{_escaped(example)}` |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
