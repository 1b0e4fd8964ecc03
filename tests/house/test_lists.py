"""What is listed in several places is the same in all: step keys, answer formats, run outputs."""

import json
import re
import runpy
from typing import get_args

import click
import pytest
from house_source import ROOT

from poeflow.answers.parse import read
from poeflow.answers.prompts import correction, instruction
from poeflow.cli.commands.run import run
from poeflow.cli.output import Output as RunOutput
from poeflow.flowfile.build import SCHEMA, decode
from poeflow.flowfile.model import Output, Step
from poeflow.flowfile.schema import bundled, validate
from poeflow.flowfile.yaml_tree import parse

DEFINED = bundled(SCHEMA)["$defs"]
KEYS = DEFINED["step"]["properties"]
FORMATS = DEFINED["output"]["properties"]["format"]["enum"]
DATA_FORMATS = [form for form in FORMATS if form != "text"]


def test_the_wide_flow_has_every_key_of_a_step():
    wide = runpy.run_path(str(ROOT / "tests/flowfile/flow_documents.py"))["wide"]()
    used = {key for step in wide["steps"].values() for key in step}
    assert used == set(Step.__struct_encode_fields__)


@pytest.mark.parametrize("kind", [{"prompt": "x"}, {"render": "x"}, {"use": "a.yaml"}], ids=str)
def test_the_fast_decode_takes_the_keys_of_a_step_that_the_schema_takes(kind):
    fast, slow = set(), set()
    for key, shape in KEYS.items():
        target = DEFINED.get(shape.get("$ref", "").rpartition("/")[2], {})
        step = {**kind, key: (target | shape)["examples"][0]}
        document = parse(json.dumps({"poeflow": 1, "steps": {"a": step}}), "flow.yaml")
        fast |= {key} if decode(document) is not None else set()
        slow |= {key} if validate(document, SCHEMA) == () else set()
    assert fast == slow


def test_the_model_has_the_formats_of_the_schema():
    literal, _ = get_args(Output.__annotations__["format"])
    assert list(get_args(literal)) == FORMATS


@pytest.mark.parametrize("form", DATA_FORMATS)
def test_an_answer_of_a_format_is_read(form):
    reading = read(Output(format=form), 'no "data: [{', None)
    assert reading.data is not None or reading.faults


def test_each_format_is_asked_for_in_its_own_words():
    outputs = [Output(format=form) for form in FORMATS]
    assert len({correction(output, ["x"]) for output in outputs}) == len(FORMATS)
    asked = {instruction(Output(format=form), {"type": "array"}) for form in DATA_FORMATS}
    assert len(asked) == len(DATA_FORMATS)


def test_the_readme_lists_the_formats():
    assert f"; formats {', '.join(DATA_FORMATS)};" in (ROOT / "README.md").read_text("utf-8")


def test_the_outputs_of_run_are_offered_and_told():
    option = next(one for one in run.params if one.name == "output")
    assert isinstance(option, click.Option)
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == get_args(RunOutput)
    told = " ".join((option.help or "").split())
    assert set(get_args(RunOutput)) <= set(re.findall(r"\w+", told))
    assert told in " ".join((ROOT / "tests/house/help.txt").read_text("utf-8").split())
