"""Warnings of expressions that are no templates: none where they are meant, all in little time."""

import time

import pytest

from poeflow.operations.check import checkup
from poeflow.project.project import Project


def warnings(tmp_path, text):
    flow = f"poeflow: 1\ninputs: {{topic: {{default: x}}}}\nsteps: {{a: {{render: {text!r}}}}}\n"
    (tmp_path / "a.yaml").write_text(flow)
    found = checkup(Project(tmp_path.resolve()), "//a.yaml", "a.yaml").problems
    return [one.message for one in found if "no template" in one.message]


@pytest.mark.parametrize(
    "text", ["{inputs.topic}", "a { inputs.topic } b", "{{ 1 }} {inputs.topic}"]
)
def test_single_braces_are_no_template(tmp_path, text):
    assert len(warnings(tmp_path, text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "{{ inputs.topic }}",
        "{% raw %}In f-strings write {inputs.topic}{% endraw %}",
        '{{ "{inputs.topic}" }}',
        "${inputs.topic}",
        "{inputs.other}",
        "{topic}",
        '{"inputs": 1}',
    ],
)
def test_what_may_be_meant_is_no_mistake(tmp_path, text):
    assert warnings(tmp_path, text) == []


@pytest.mark.parametrize("text", ["{inputs." + "a" * 60_000, "{{ " * 20_000, "{inputs.a" * 20_000])
def test_a_long_text_is_read_in_little_time(tmp_path, text):
    began = time.process_time()
    warnings(tmp_path, text)
    assert time.process_time() - began < 8
