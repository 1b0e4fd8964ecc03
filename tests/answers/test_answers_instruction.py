"""What a prompt ends with, so that the model knows the form of its answer."""

import json

import pytest

from poeflow.answers.json_text import blocks
from poeflow.answers.prompts import instruction
from poeflow.flowfile.model import Output

SCHEMA = {"type": "object", "description": "ends```\n```json"}
MARKED = f"```json\n{json.dumps(SCHEMA)}\n```"


AS_JSON = "Answer with one JSON document only"
AS_YAML = "Answer with one YAML document only"
AS_CSV = "Answer with one CSV table with a header row only"
BARE = "without a code fence and with no words around it"
FENCED = "in a fenced code block and with no words around it"


@pytest.mark.parametrize(
    ("output", "asked"),
    [
        (Output(), f"{AS_JSON}, {BARE}. It"),
        (Output(format="json"), f"{AS_JSON}, {BARE}. It"),
        (Output(extract="fenced"), f"{AS_JSON}, {FENCED}. It"),
        (Output(format="yaml"), f"{AS_YAML}, {BARE}. It"),
        (Output(format="csv"), f"{AS_CSV}, {BARE}. Its rows, as objects,"),
    ],
)
def test_a_schema_is_asked_for(output, asked):
    told = f"{asked} must be valid by this JSON Schema:\n{MARKED}"
    assert instruction(output, SCHEMA) == told


def test_options_are_asked_for():
    assert instruction(Output(one_of=["bug", 'a "b"\n```', "é"]), None) == (
        "Answer with one of these and nothing else:\n"
        '```json\n{"enum": ["bug", "a \\"b\\"\\n```", "é"]}\n```'
    )


def test_nothing_in_a_schema_ends_its_fence():
    [block] = blocks(instruction(Output(), SCHEMA))
    assert json.loads(block.content) == SCHEMA


@pytest.mark.parametrize("form", [None, "text", "json", "yaml", "csv"])
def test_a_format_alone_is_the_prompts_own_matter(form):
    assert instruction(Output(format=form), None) == ""
