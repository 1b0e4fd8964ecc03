"""The reference of the flow format, generated from its schema and registries."""

import json
from collections.abc import Iterator
from typing import Any

from schema_parts import written

from poeflow.answers.formats import FORMATS

Shape = dict[str, Any]
KEYS, FORMS = "the schema's keys", "the formats of answers"
"""What stands in `.github/docs/flows.md` between `<!-- ... begin -->` and `<!-- ... end -->`."""
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
    ("`repeat`", ("$defs", "step", "properties", "repeat")),
    ("`timeout`", ("$defs", "step", "properties", "timeout")),
    ("`retry`", ("$defs", "step", "properties", "retry")),
    ("`messages[]`", ("$defs", "message")),
    ("`few_shot`", ("$defs", "example_file")),
    ("`attachments[]`", ("$defs", "attachment")),
    ("`tools[]`", ("$defs", "tool")),
    ("`output`", ("$defs", "output")),
    ("`expect[]`", ("$defs", "expectation")),
    ("`similar_to`", ("$defs", "expectation", "properties", "similar_to")),
    ("`judge`", ("$defs", "expectation", "properties", "judge")),
    (
        "`examples[]`",
        ("$defs", "expectation", "properties", "judge", "properties", "examples", "items"),
    ),
    ("`params`", ("$defs", "params")),
)


def reference() -> str:
    """Return a table of every key: its meaning and an example, as the schema has them."""
    contract = written()
    lines = ["| key | meaning | example |", "|---|---|---|"]
    for title, path in ROWS:
        shape = contract
        for step in path:
            shape = shape[step]
        lines.append(f"| **{title}** | {_escaped(shape['description'])} | |")
        lines += _keys(contract, shape)
    return "\n".join(lines) + "\n"


def formats() -> str:
    """Return a table of the formats an answer can have."""
    lines = ["| format | what an answer is | its fence |", "|---|---|---|"]
    for name, form in FORMATS.items():
        fences = ", ".join(f"`{fence}`" for fence in form.fences) or "any"
        lines.append(f"| `{name}` | {_escaped(form.about)} | {fences} |")
    return "\n".join(lines) + "\n"


def _keys(contract: Shape, shape: Shape) -> Iterator[str]:
    for name, found in shape["properties"].items():
        target = found.get("$ref", "").rsplit("/", 1)[-1]
        described = contract["$defs"].get(target, {}) | found
        example = json.dumps(described["examples"][0], ensure_ascii=False)
        yield f"| `{name}` | {_escaped(described['description'])} | `{_escaped(example)}` |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
