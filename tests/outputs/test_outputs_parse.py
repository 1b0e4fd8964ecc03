"""An answer becomes data, or a sentence saying where it stops being JSON."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.errors import StepError
from poeflow.outputs.parse import MAX_TEXT, data_of
from poeflow.spec.model import Output

JSON = Output(format="json")
ASK = "ask for JSON only in the prompt"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": 1}', {"a": 1}),
        ("  [1, 2]\n", [1, 2]),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('\n```JSON5 \r\n{"a": 1}\r\n```\n\n', {"a": 1}),
        ("```\n[]```", []),
        ('```json\n{"a": "```"}\n```', {"a": "```"}),
        ('\ufeff{"a": "é☃"}', {"a": "é☃"}),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ('"\\u00e9"', "é"),
    ],
)
def test_json_is_read_with_or_without_a_fence_around_it(text, data):
    assert data_of(JSON, text) == data


@pytest.mark.parametrize("output", [Output(), Output(format="text")])
def test_plain_text_is_no_data(output):
    assert data_of(output, '{"a": 1}') is None


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "it ends too early", f"it is empty; {ASK}"),
        ('{"a":', "it ends too early", f'it begins "{{"a":"; {ASK}'),
        (
            'Sure! {"a": 1}',
            "invalid character in line 1, column 1",
            f'it begins "Sure! {{"a": 1}}"; {ASK}',
        ),
        (
            '{"é": 1,\n "b": x}',
            "invalid character in line 2, column 7",
            f'it begins "{{"é": 1, "b": x}}"; {ASK}',
        ),
        ("[NaN]", "invalid character in line 1, column 2", f'it begins "[NaN]"; {ASK}'),
        ('"\ud800"', "it holds half a character", f'it begins ""\ud800""; {ASK}'),
        ("[" * 100_000, "it is nested too deep", f'it begins "{"[" * 60}"; {ASK}'),
        ("1e999", "number out of range", f'it begins "1e999"; {ASK}'),
    ],
)
def test_what_is_not_json_is_told_with_its_place(text, message, hint):
    with pytest.raises(StepError) as caught:
        data_of(JSON, text)
    assert (caught.value.message, caught.value.hint) == (f"the answer is not JSON: {message}", hint)


def test_a_text_too_long_is_not_even_tried():
    with pytest.raises(StepError, match="too long to read as JSON"):
        data_of(JSON, " " * (MAX_TEXT + 1))


@given(st.text() | st.from_regex(r"(```|[\[\]{}\",:0-9a \n])*", fullmatch=True))
def test_any_text_gives_data_or_a_step_error(text):
    try:
        data = data_of(JSON, text)
    except StepError:
        return
    assert msgspec.json.decode(msgspec.json.encode(data)) == data


@given(st.recursive(st.none() | st.booleans() | st.text(), st.lists))
def test_what_json_writes_is_read_back(data):
    text = json.dumps(data, indent=1)
    assert data_of(JSON, text) == data_of(JSON, f"```json\n{text}\n```") == data
