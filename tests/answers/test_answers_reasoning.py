"""Reasoning that stands in an answer's text is told from the answer."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.answers.expect import verdict
from poeflow.answers.parse import Reading, read
from poeflow.answers.reasoning import SplitAnswer, split_reasoning
from poeflow.answers.schemas import compile_schema
from poeflow.flowfile.model import Expectation, Output

COUNT = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>Hm.</think>\n\nYes.\n", "Hm.", "Yes.\n"),
        ("<think>\nHm.\n\nSo.\n</think> Yes.", "Hm.\n\nSo.", "Yes."),
        ("\ufeff \n<THINKING>Hm.</THINKING>\r\n\r\n    code", "Hm.", "    code"),
        ("<thought>Hm.</thought>Yes.", "Hm.", "Yes."),
        ('<reasoning effort="high">Hm.</reasoning>\nYes.', "Hm.", "Yes."),
        ("<seed:think>Hm.</seed:think>Yes.", "Hm.", "Yes."),
        ("<think>a</think>\n<thinking>b</thinking>\n\nYes.", "a\n\nb", "Yes."),
        ("<think></think>\n\nYes.", "", "Yes."),
        ("<think/>\nYes.", "", "Yes."),
        ("<think>a <think>b</think> c</think> Yes.", "a <think>b</think> c", "Yes."),
        ("<think>Open with <think>, end it.</think> Yes.", "Open with <think>, end it.", "Yes."),
        ("<think>a</thinking> Yes.", "a", "Yes."),
        ("<think>It never ends.\nYes.", "It never ends.\nYes.", ""),
        ("<think>a</think><think>b", "a\n\nb", ""),
        ("<think>Hm.</think>", "Hm.", ""),
        ("Hm, so.\n</think>\n\nYes.", "Hm, so.", "Yes."),
        ("<think>a</think>\nThe tag </think> ends it.", "a", "The tag </think> ends it."),
    ],
)
def test_blocks_at_the_beginning_are_reasoning(text, reasoning, answer):
    assert split_reasoning(text) == SplitAnswer(reasoning, answer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.\n",
        "I think <think>no</think> yes.",
        "```\n<think>a</think>\n```",
        "<thinker>a</thinker>",
        "<b>a</b> <think>b</think>",
        "Write </think> where it ends.\nThat is all.",
        "It ends with\n</think>\n",
        "<think",
        "  <p>think</p>\n",
    ],
)
def test_any_other_text_is_the_answer_as_it_is(text):
    assert split_reasoning(text) == SplitAnswer("", text)


@given(st.lists(st.sampled_from(["<think>", "</think>", "</thought>", "<think/>", "a", "\n", " "])))
def test_nothing_is_lost_but_tags_and_space(pieces):
    text = "".join(pieces)
    found = split_reasoning(text)
    reasoning, answer = found.reasoning, found.answer
    assert text.endswith(answer)
    assert (reasoning + answer).count("a") == text.count("a")


@pytest.mark.parametrize(
    "piece", ["<think>", "</think>", "<think></think>", "<think><think></think>", "</think>\n", " "]
)
def test_hostile_texts_take_linear_time(piece):
    began = time.process_time()
    split_reasoning((piece * 1_000_000)[:2_000_000])
    split_reasoning("<think>" + (piece * 1_000_000)[:2_000_000])
    assert time.process_time() - began < 10


@pytest.mark.parametrize("keep", [None, "keep"])
@pytest.mark.parametrize(
    ("output", "thought", "answer", "data", "value"),
    [
        (Output(format="json"), '{"n": 5}? No. ```json\n[1]\n```', '{"n": 1}', {"n": 1}, None),
        (Output(format="yaml"), "a: 1", "b: 2\n", {"b": 2}, None),
        (Output(format="csv"), "a,b\n1,2", "b\n2\n", [{"b": "2"}], None),
        (Output(one_of=["bug", "feature"]), "feature? no", "bug", None, "bug"),
        (Output(), "hm", "Yes.\n", None, None),
    ],
)
def test_data_and_words_are_read_behind_it(output, thought, answer, data, value, keep):
    whole = f"<think>\n{thought}\n</think>\n\n{answer}"
    output = Output(format=output.format, one_of=output.one_of, reasoning=keep)
    text, reasoning = (answer, thought) if keep is None else (whole, "")
    assert read(output, whole, None) == Reading(
        text=text, reasoning=reasoning, data=data, value=value
    )


def test_a_fence_is_looked_for_behind_it():
    text = "<think>\n```\nno\n```\n</think>\n```\nyes\n```"
    for keep in (None, "keep"):
        assert read(Output(extract="fenced", reasoning=keep), text, None).text == "yes"


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (Output(), "the answer is nothing but reasoning"),
        (Output(format="json"), "the answer is nothing but reasoning"),
        (Output(one_of=["a"]), "the answer is nothing but reasoning"),
        (Output(format="json", reasoning="keep"), "the answer is not JSON: it is empty"),
    ],
)
def test_an_answer_of_nothing_else_cannot_be_used(output, fault):
    assert read(output, '<think>{"n": 1}', None).faults == (fault,)


def test_it_is_an_empty_answer_where_that_is_accepted():
    output = Output(format="json", accept=["empty"])
    assert read(output, "<think>a", None) == Reading(text="", reasoning="a")


@pytest.mark.parametrize("keep", [None, "keep"])
def test_expectations_judge_what_follows_it(keep):
    text = '<think>Perhaps {"n": "x"}?</think>\n{"n": 1}'
    reading = read(Output(reasoning=keep), text, None)
    judged = verdict(Expectation(json_schema=COUNT), reading, holds=None)
    assert (judged.passed, judged.message) == (True, "expected to fit json_schema")


def test_a_schema_is_held_against_what_follows_it():
    reading = read(Output(schema=COUNT), '<think>{"n": 1}</think>{"n": "x"}', compile_schema(COUNT))
    assert reading.faults == ('n: "x" is not a whole number',)
