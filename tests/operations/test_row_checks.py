"""Rows of tables with which a flow cannot run: `check` finds them, at the row."""

import json

import pytest

import poeflow
from poeflow.operations.row_checks import MAX_ROWS

FLOW = """\
poeflow: 1
inputs: {least: {type: integer, default: 3}}
defaults: {model: GPT-5.2}
steps:
  ask:
    for_each: {file: rows.jsonl, key: item.id}
    prompt: "{{ item.q }}"
    output: {save: "out/{{ item.id }}.md"}
"""
CHILD = """\
poeflow: 1
inputs: {lang: {type: string, enum: [en, de]}}
steps: {say: {model: GPT-5.2, prompt: "{{ inputs.lang }}"}}
"""


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Check a flow over some rows, given as values for a file of JSON lines or as files by name."""
    monkeypatch.chdir(tmp_path)

    def check(flow: str, *rows: object, **files: str) -> list[str]:
        (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        for name, text in {"flow.yaml": flow, **files}.items():
            (tmp_path / name).write_text(text)
        return [str(problem) for problem in poeflow.check("flow.yaml")]

    return check


def without_input(flow: str) -> str:
    return flow.replace("inputs: {least: {type: integer, default: 3}}\n", "")


def test_each_template_is_reported_at_the_first_row_it_fails_on(checked):
    rows = [{"id": "a", "q": 1}, {"id": "b"}, {"id": "c"}, {"id": "../d", "q": 1}]
    assert checked(without_input(FLOW), *rows) == [
        'rows.jsonl:2:1: there is no "q" here, only id (step ask, flow.yaml:6:21)',
        (
            'rows.jsonl:4:1: "../d" is not one safe part of a path; use | slug '
            "(step ask, flow.yaml:7:32)"
        ),
    ]


def test_rows_that_would_write_the_same_file(checked):
    assert checked(without_input(FLOW), {"id": "a", "q": "x"}, {"id": "A", "q": "x"}) == [
        (
            "rows.jsonl:2:1: ask[a] and ask[A] would both write //out/A.md "
            "(step ask, flow.yaml:7:20); "
            "the paths differ only in case, which not every disk tells apart: "
            "name the items apart, or add {{ loop.index }} to the path"
        )
    ]


@pytest.mark.parametrize(
    "condition",
    ["for_each: {where: item.q is defined, ", 'if: "item.q is defined"\n    for_each: {'],
)
def test_a_row_that_is_left_out_may_be_as_it_is(checked, condition):
    flow = without_input(FLOW).replace("for_each: {", condition)
    assert checked(flow, {"id": "a", "q": "x"}, {"id": "../b"}) == []


def test_rows_after_the_limit_do_not_count(checked):
    flow = without_input(FLOW).replace("key: item.id", "key: item.id, where: item.q, limit: 1")
    assert checked(flow, {"id": "a", "q": ""}, {"id": "b", "q": "x"}, {"id": "c"}) == []


def test_a_condition_that_cannot_be_evaluated(checked):
    flow = without_input(FLOW).replace("rows.jsonl, key", "rows.csv, where: item.n > 3, key")
    found = checked(flow, **{"rows.csv": 'id,q,n\n\na,"x\ny",3\nb,z,4\n'})
    assert found == [
        (
            "rows.csv:3:1: > cannot compare a text with a number (step ask, flow.yaml:5:49); "
            "cells of csv and answers are text: write | int or | float"
        )
    ]


def test_what_inputs_decide_is_left_to_the_plan(checked):
    rows = {"id": "a", "q": "x", "n": 1}, {"id": "b", "q": "x"}
    for old, new in (
        ("key: item.id", "key: item.id, where: item.n > inputs.least"),
        ("    prompt:", '    if: "item.n > inputs.least"\n    prompt:'),
        ("{{ item.q }}", "{{ item.n if inputs.least > 9 }}"),
        ("out/", "out/{{ item.n if inputs.least > 9 else 1 }}"),
    ):
        assert checked(FLOW.replace(old, new), *rows) == [], new


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("rows.json", '[\n  {"id": 1, "q": "x"},\n\n  {"id": 2}\n]\n', 4),
        ("rows.yaml", "- id: 1\n  q: x\n# next\n- id: 2\n", 4),
        ("*.ndjson", '{"id": 2}\n', 1),
    ],
)
def test_rows_of_any_format_have_lines(checked, name, text, line):
    file = name.replace("*", "b")
    flow = without_input(FLOW).replace("rows.jsonl", f'"{name}"')
    found = checked(flow, **{"a.ndjson": '{"id": 1, "q": "x"}\n\n', file: text})
    assert found == [f'{file}:{line}:1: there is no "q" here, only id (step ask, flow.yaml:6:21)']


def test_what_a_row_gives_to_a_used_flow_fits_its_inputs(checked):
    flow = """\
poeflow: 1
steps:
  each:
    for_each: {file: rows.jsonl, key: item.lang}
    use: child.yaml
    with: {lang: "{{ item.lang }}"}
"""
    assert checked(flow, {"lang": "de"}, {"lang": "xx"}, **{"child.yaml": CHILD}) == [
        (
            "rows.jsonl:2:1: the input \"lang\" must be one of en, de, not 'xx' "
            "(step each, flow.yaml:6:11)"
        )
    ]


def test_files_that_a_row_names_are_there(checked):
    flow = without_input(FLOW) + '    attachments: ["{{ item.file }}"]\n'
    rows = {"id": "a", "q": "x", "file": "flow.yaml"}, {"id": "b", "q": "x", "file": "no.png"}
    assert checked(flow, *rows) == [
        "rows.jsonl:2:1: //no.png does not exist (step ask, flow.yaml:8:19); check the path"
    ]


def test_a_large_table_is_left_to_the_plan(checked):
    rows = [{"id": str(at), "q": "x"} for at in range(MAX_ROWS - 1)]
    assert len(checked(without_input(FLOW), *rows, {"id": "last"})) == 1
    assert checked(without_input(FLOW), *rows, {"id": "x", "q": "x"}, {"id": "last"}) == []


def test_rows_take_no_more_work_than_leaves_some_to_others(checked):
    work = "{% for i in range(90000) %}{% endfor %}"
    flow = without_input(FLOW).replace("{{ item.q }}", f"{work}{{{{ item.q }}}}")
    rows = [{"id": str(at), "q": "x"} for at in range(60)]
    assert checked(flow, {"id": "first"}, *rows) != []
    assert checked(flow, *rows, {"id": "last"}) == []
