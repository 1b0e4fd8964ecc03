"""Rows become the messages of a conversation, or examples."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.flowfile.model import ExampleFile
from poeflow.templates.threads import (
    RowError,
    ThreadMessage,
    examples,
    format_fault,
    thread,
)

SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(SCALAR, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "user", "assistant")
ROW = JSON | st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from(["user", "tool", ""]))
CALLS = [{"id": "c1"}]
USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (USER, ThreadMessage(role="user", content="x")),
        ({**USER, "name": "", "at": 5}, ThreadMessage(role="user", content="x")),
        ({**USER, "name": "Ada"}, ThreadMessage(role="user", content="x", name="Ada")),
        ({"role": "user", "content": ""}, ThreadMessage(role="user", content="")),
        (
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            ThreadMessage(role="assistant", tool_calls=({"id": "c1"},)),
        ),
        (
            {"role": "tool", "content": "r", "tool_call_id": "c1"},
            ThreadMessage(role="tool", content="r", tool_call_id="c1"),
        ),
    ],
)
def test_a_row_is_a_message(row, message):
    assert thread([USER, row])[1] == message


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("text", "has no role"),
        ({"content": "x"}, "has no role"),
        ({"role": "bot", "content": "x"}, 'has the role "bot"'),
        ({"role": ["user"], "content": "x"}, "has a role that is not text"),
        ({"role": "user"}, "has no content"),
        ({"role": "user", "content": ["x"]}, "has a content that is not text"),
        ({**USER, "name": 5}, "has a name of the wrong type"),
        ({**USER, "tool_calls": ["x"]}, "has a tool_calls of the wrong type"),
        ({**USER, "tool_calls": CALLS}, "has tool_calls, which a user does not make"),
        ({**USER, "tool_call_id": "c"}, "has a tool_call_id"),
        ({"role": "tool", "content": "x"}, "has no tool_call_id"),
        ({"role": "assistant"}, "has no content"),
    ],
)
def test_a_row_that_is_no_message_is_an_error(row, fault):
    with pytest.raises(RowError) as caught:
        thread([USER, row])
    assert caught.value.message == f"message 2 {fault}"


def test_a_conversation_has_a_message():
    with pytest.raises(RowError, match="there are no messages"):
        thread([])


def test_examples_are_the_columns_that_are_named():
    rows = [{"question": "q", "answer": "a", "by": "Ada"}]
    named = ExampleFile(file="x.csv", user="question", assistant="answer")
    assert list(examples(rows, named)) == [("q", "a")]
    assert list(examples([{"user": "q", "assistant": "a"}], ExampleFile(file="x"))) == [("q", "a")]


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"question": "q", "reply": "a"}, "it has question, reply"),
        ({"question": "", "answer": "a"}, "write {question: ..., answer: ...}"),
        ("q", "it has no names"),
    ],
)
def test_an_example_without_its_texts_is_an_error(row, hint):
    named = ExampleFile(file="x.csv", user="question", assistant="answer")
    with pytest.raises(RowError, match="example 1 has no user's and assistant's text") as caught:
        list(examples([row], named))
    assert caught.value.hint == hint


@pytest.mark.parametrize(("value", "written"), [(6, "6"), (2.5, "2.5"), (True, "true")])
def test_a_number_in_place_of_a_text_is_to_be_quoted(value, written):
    named = ExampleFile(file="x")
    with pytest.raises(RowError, match=f"example 1 has {written} as assistant, which") as caught:
        list(examples([{"user": "3+3", "assistant": value}], named))
    assert caught.value.hint == f'quote it: "{written}"'
    with pytest.raises(RowError, match=f"message 2 has {written} as content, which") as caught:
        thread([USER, {"role": "user", "content": value}])
    assert caught.value.hint == f'quote it: "{written}"'


@given(st.lists(ROW, max_size=4))
def test_any_rows_are_messages_and_examples_or_an_error(rows):
    with contextlib.suppress(RowError):
        assert [message.role for message in thread(rows)] == [row["role"] for row in rows]
    with contextlib.suppress(RowError):
        assert len(list(examples(rows, ExampleFile(file="x")))) == len(rows)


@pytest.mark.parametrize(
    ("text", "name", "marks"),
    [
        ("---\nmodel: x\n---\nhi\n", "a.md", ["front matter"]),
        ("---\ninputs:\n  a: 1\n---\nsystem:\nhi\n", "a.md", ["front matter", "role lines"]),
        ("user:\nhi\n", "a.prompty", ["role lines"]),
        ("user:\nhi\n", "a.md", []),
        ("---\ntitle: x\n---\nhi\n", "a.md", []),
        ("---\nmodel: x\n", "a.md", []),
        ("model: x\n---\nhi\n", "a.md", []),
    ],
)
def test_what_only_other_tools_read_as_no_text(text, name, marks):
    found = format_fault(text, name)
    told = f"{name}: {' and '.join(marks)} are sent as text"
    assert (None if found is None else found[0]) == (told if marks else None)
