"""What is listed in several places is the same in all: keys, formats, expectations, outputs."""

import json
import re
import runpy
from typing import get_args

import click
import pytest
from house_source import ROOT

from poeflow.answers.expect import EXPECTATIONS
from poeflow.answers.formats import FORMATS
from poeflow.answers.parse import read
from poeflow.answers.prompts import correction, instruction
from poeflow.cli.commands.run import run
from poeflow.cli.output import RUN_OUTPUTS, RunFormat
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.key_marks import templates_of
from poeflow.flowfile.load import decode_valid
from poeflow.flowfile.model import Expectation, Flow, Format, Output, Step
from poeflow.flowfile.schema import FLOW_SCHEMA, bundled_schema, validate
from poeflow.flowfile.yaml_tree import parse
from poeflow.templates.sites import step_sites

DEFINED = bundled_schema(FLOW_SCHEMA)["$defs"]
KEYS = DEFINED["step"]["properties"]
KINDS = [
    *({"prompt": "x"}, {"render": "x"}, {"use": "a.yaml"}),
    *({"command": ["x"]}, {"call": "a:b"}),
]
DATA_FORMATS = [name for name, form in FORMATS.items() if form.is_data]


def test_the_wide_flow_has_every_key_of_a_step():
    wide = runpy.run_path(str(ROOT / "tests/flowfile/flow_documents.py"))["wide"]()
    used = {key for step in wide["steps"].values() for key in step}
    assert used == set(Step.__struct_encode_fields__)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_fast_decode_takes_the_keys_of_a_step_that_the_schema_takes(kind):
    fast, slow = set(), set()
    for key, shape in KEYS.items():
        target = DEFINED.get(shape.get("$ref", "").rpartition("/")[2], {})
        step = {**kind, key: (target | shape)["examples"][0]}
        document = parse(json.dumps({"poeflow": 1, "steps": {"a": step}}), "flow.yaml")
        fast |= {key} if decode_valid(document) is not None else set()
        slow |= {key} if validate(document, FLOW_SCHEMA) == () else set()
    assert fast == slow


def test_every_format_of_the_model_can_be_asked_for_and_read():
    assert get_args(Format) == tuple(FORMATS)


@pytest.mark.parametrize("form", DATA_FORMATS)
def test_an_answer_of_a_format_is_read(form):
    reading = read(Output(format=form), 'no "data: [{', None)
    assert reading.data is not None or reading.faults


def test_each_format_is_asked_for_in_its_own_words():
    outputs = [Output(format=form) for form in FORMATS]
    assert len({correction(output, ["x"]) for output in outputs}) == len(FORMATS)
    asked = {instruction(Output(format=form), {"type": "array"}) for form in DATA_FORMATS}
    assert len(asked) == len(DATA_FORMATS)


def test_every_kind_of_expectation_of_the_model_is_judged():
    assert list(EXPECTATIONS) == [
        key for key in Expectation.__struct_encode_fields__ if key not in ("level", "weight")
    ]


def test_each_template_in_an_expectation_is_rendered_as_it_says():
    uses = {"text": "value", "value": "value", "truth": "expression"}
    keys = [key for key in Expectation.__struct_encode_fields__ if key != "judge"]
    expected = [{key: "{{ 1 }}"} for key in keys]
    document = parse(json.dumps({"steps": {"a": {"expect": expected}}}), "flow.yaml")
    flow = Flow(poeflow=1, steps={"a": Step(prompt="x")})
    found = step_sites(FlowFile(flow=flow, document=document, path="//flow.yaml"), "a")
    assert {site.path[-1]: site.use for site in found} == {
        key: uses[renders.to] for key, renders in templates_of(Expectation).items()
    }


def test_every_output_of_run_is_offered_and_told():
    assert get_args(RunFormat) == tuple(RUN_OUTPUTS)
    option = next(one for one in run.params if one.name == "output")
    assert isinstance(option, click.Option)
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == get_args(RunFormat)
    told = " ".join((option.help or "").split())
    assert set(get_args(RunFormat)) <= set(re.findall(r"\w+", told))
    assert told in " ".join((ROOT / "tests/house/help.txt").read_text("utf-8").split())
