"""JSON that is asked for in words: schemas as libraries write them into prompts, and examples."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_desk import Desk, body_of, text_of

SCHEMA = {
    "title": "Film",
    "type": "object",
    "properties": {"year": {"const": 1954}, "title": {"enum": ["Samurai"]}},
    "required": ["title", "year"],
}
BARE = {name: part for name, part in SCHEMA.items() if name not in ("title", "type")}
FILM = {"title": "Samurai", "year": 1954}
WRITTEN = {
    "in one line": f"Give JSON that fits this schema:\n\n{json.dumps(SCHEMA)}\n\nNo fences.",
    "indented": f"Objects match the following json_schema:\n\n\n{json.dumps(SCHEMA, indent=2)}\n",
    "a plain fence": f"Here is the output schema:\n```\n{json.dumps(SCHEMA)}\n```",
    "a fence": f"Fit this:\n```json\n{json.dumps(SCHEMA)}\n```",
    "without its type": f"Here is the output schema:\n```\n{json.dumps(BARE)}\n```",
    "behind an example": (
        'For {"properties": {"a": {"type": "array"}}} the object {"a": ["b"]} fits, and '
        f'{{"properties": {{"a": ["b"]}}}} does not. The schema is:\n{json.dumps(SCHEMA)}'
    ),
    "behind braces": f'In { {1} } and {{x}} and {{"y: {json.dumps(SCHEMA)} }} it ends.',
    "by reference": (
        "Schema: " + json.dumps({"$ref": "#/$defs/Film", "$defs": {"Film": SCHEMA}}) + "."
    ),
}


@pytest.mark.parametrize("role", ["system", "user"])
@pytest.mark.parametrize("fmt", [None, {"type": "json_object"}, {"type": "text"}], ids=str)
@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_a_schema_is_answered_however_it_is_written(desk, text, fmt, role):
    messages = [{"role": role, "content": text}, {"role": "user", "content": "A film, please."}]
    given = {} if fmt is None else {"response_format": fmt}
    assert json.loads(text_of(desk.ask(messages=messages, **given))) == FILM


def test_the_last_schema_counts_and_one_nothing_fits_is_passed_over(desk):
    other = json.dumps({"type": "object", "properties": {"a": {"const": 1}}})
    void = json.dumps({"type": "object", "required": ["a"], "properties": {"a": False}})
    assert json.loads(text_of(desk.ask(f"{json.dumps(SCHEMA)} or {other} or {void}"))) == {"a": 1}


@pytest.mark.parametrize(
    "data",
    [
        {"type": "object", "id": 7},
        {"properties": {"colour": "red"}},
        {"type": "string"},
        {"name": "f", "parameters": SCHEMA},
    ],
    ids=str,
)
def test_data_is_not_taken_for_a_schema(desk, data):
    assert "This answer is simulated." in text_of(desk.ask(f"What is this? {json.dumps(data)}"))


RUBRIC = (
    "Grade the output. Respond with a JSON object, for example:\n"
    '{"reason": "it greets", "pass": true, "score": 1.0}\n'
    '{"reason": "it does not", "pass": false, "score": 0.0, "tags": ["a"], '
    '"more": {"n": 3, "x": null}}'
)


def test_an_example_is_followed_where_json_is_asked_for(desk):
    messages = [
        {"role": "system", "content": RUBRIC},
        {"role": "user", "content": 'The output: {"hello": "world"}'},
    ]
    graded = json.loads(text_of(desk.ask(messages=messages)))
    assert {name: type(value) for name, value in graded.items()} == {
        "reason": str,
        "pass": bool,
        "score": float,
        "tags": list,
        "more": dict,
    }
    assert 0 <= graded["score"] <= 1
    assert 0 <= graded["more"]["n"] <= 3
    assert graded["more"]["x"] is None
    assert all(isinstance(tag, str) for tag in graded["tags"])


def test_an_example_is_followed_where_the_format_says_json(desk):
    prompt = 'Cities and what they are, as in {"city": "Oslo", "is_capital": true}'
    answered = json.loads(text_of(desk.ask(prompt, response_format={"type": "json_object"})))
    assert {name: type(value) for name, value in answered.items()} == {
        "city": str,
        "is_capital": bool,
    }
    assert "This answer is simulated." in text_of(desk.ask(prompt))


def test_a_tool_comes_before_the_json(desk):
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    fmt = {"type": "json_schema", "json_schema": {"name": "film", "schema": SCHEMA}}
    asked = {"tools": [tool], "response_format": fmt}
    called = body_of(desk.ask(**asked))["choices"][0]
    assert called["finish_reason"] == "tool_calls"
    call = called["message"]["tool_calls"][0]
    messages = [
        {"role": "user", "content": "Hello there"},
        called["message"],
        {"role": "tool", "tool_call_id": call["id"], "content": "seen"},
    ]
    assert json.loads(text_of(desk.ask(messages=messages, **asked))) == FILM


@given(text=st.lists(st.sampled_from(['{"', '"', "{", "}", ":", "[", "]", " ", "a", "json "])))
@settings(max_examples=60)
def test_no_text_is_too_strange(text):
    desk = Desk(profile="legacy")
    assert desk.ask("".join(text), response_format={"type": "json_object"}).status == 200


@pytest.mark.parametrize("text", ['{"a":' * 300_000, '{"' * 500_000, '{"a": "' + "b" * 1_000_000])
def test_no_text_takes_long(desk, text):
    """The time limit of a test would show what is walked through again and again."""
    assert (
        desk.ask(model="Gemini-2.5-Pro", messages=[{"role": "user", "content": text}]).status == 200
    )
