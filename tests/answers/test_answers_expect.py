"""Whether an answer is what was expected, in words a person wants to read."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.answers.expect import Verdict, expectation_faults, verdict
from poeflow.answers.parse import Reading
from poeflow.answers.schemas import Inspection
from poeflow.errors import StepError
from poeflow.flowfile.model import Expectation, Judge

LONG = "The first line.\r\nThe second line goes on and on, as an AI must.\nThe end."


def judged(reading, **expected):
    if isinstance(reading, str):
        reading = Reading(text=reading)
    return verdict(Expectation(**expected), reading, holds=expected.pop("holds", None))


def test_a_verdict_says_what_was_expected_and_found():
    assert judged("Hello", contains="bye") == Verdict(
        kind="contains",
        passed=False,
        level="error",
        message='expected to contain "bye", found "Hello"',
    )


def test_what_is_met_says_what_was_expected():
    assert judged("Hello", contains="ell", level="warn") == Verdict(
        kind="contains", passed=True, level="warn", message='expected to contain "ell"'
    )


@pytest.mark.parametrize(
    ("passed", "level", "is_failure"),
    [
        (True, "error", False),
        (True, "warn", False),
        (False, "error", True),
        (False, "warn", False),
    ],
)
def test_only_what_is_not_met_and_no_warning_is_a_failure(passed, level, is_failure):
    found = Verdict(kind="that", passed=passed, level=level, message="")
    assert found.is_failure is is_failure


MET = [
    ("a\r\nb", {"contains": "a\nb"}),
    ("A", {"not_contains": "a"}),
    ("abc", {"min_length": 3}),
    ("abc", {"max_length": 3}),
    ("42\n", {"matches": r"^\d+$"}),
    ("a\nb", {"matches": "(?m)^b$"}),
    (" \n", {"matches": "^ "}),
    ("\n Hello\r\nyou \n", {"equals": "Hello\nyou"}),
    (Reading(text="**Bug**", value="bug"), {"equals": "bug"}),
    (Reading(text='"a"', data="a"), {"equals": "a"}),
    (Reading(text="x", data={"a": [1, True]}), {"equals": {"a": [1.0, True]}}),
    ("5", {"equals": 5}),
    ("null", {"equals": None}),
    ("so: {'a': 1,}", {"equals": {"a": 1}}),
    (Reading(text="x", data=[1]), {"json_schema": {"type": "array"}}),
    ("So: [1]", {"json_schema": {"type": "array"}}),
]


@pytest.mark.parametrize(("reading", "expected"), MET)
def test_an_expectation_is_met(reading, expected):
    assert judged(reading, **expected).passed


@pytest.mark.parametrize(
    ("reading", "expected", "message"),
    [
        ("", {"contains": "x"}, 'to contain "x", found nothing'),
        (
            LONG,
            {"not_contains": "an AI"},
            'not to contain "an AI", found "… goes on and on, as an AI must. The end." in line 2',
        ),
        ("abc", {"min_length": 200}, "at least 200 characters, found 3"),
        ("x" * 4312, {"max_length": 4000}, "at most 4,000 characters, found 4,312"),
        ("ab", {"max_length": 1}, "at most 1 character, found 2"),
        ("forty", {"matches": r"^\d+$"}, r'to match ^\d+$, found "forty"'),
        ("Hi", {"equals": "Hello"}, '"Hello", found "Hi"'),
        ("a\nb\nc", {"equals": "a\nx\nc"}, '"x" in line 2, found "b"'),
        ("a", {"equals": "a\nb"}, '"b" in line 2, found no such line'),
        ("a\nb", {"equals": "a"}, 'no line 2, found "b"'),
        ("words", {"equals": 5}, '5, found "words"'),
        (Reading(text="x", data="7"), {"equals": 7}, '7, found "7"'),
        (Reading(text="x", data=True), {"equals": 1}, "1, found true"),
        (Reading(text="x", data={"a": [1, 2]}), {"equals": {"a": [1, 3]}}, "3 at a[1], found 2"),
        (Reading(text="x", data={"a": [1]}), {"equals": {"a": [1, 3]}}, "2 items at a, found 1"),
        (Reading(text="x", data={"b": 1}), {"equals": {"a": 1}}, "1 at a, found no such key"),
        (
            Reading(text="x", data={"a": 1, "b": [2]}),
            {"equals": {"a": 1}},
            "no such key at b, found [2]",
        ),
        (
            Reading(text="x", data=[1, 2, 3, 4]),
            {"json_schema": {"items": {"type": "string"}}},
            (
                "to fit json_schema, found [0]: 1 is not text; [1]: 2 is not text;"
                " [2]: 3 is not text; and 1 more"
            ),
        ),
        (
            " ",
            {"json_schema": {}},
            "to fit json_schema, found that the answer is not JSON: it is empty",
        ),
    ],
)
def test_what_is_not_met_is_told(reading, expected, message):
    assert judged(reading, **expected).message == f"expected {message}"
    assert not judged(reading, **expected).passed


def test_a_long_line_is_shown_where_it_differs():
    one = "x" * 300 + "A" + "y" * 300
    other = "x" * 300 + "B" + "y" * 300
    assert judged(other, equals=one).message == (
        f'expected "…{"x" * 20}A{"y" * 79}…", found "…{"x" * 20}B{"y" * 79}…"'
    )


@pytest.mark.parametrize(
    ("holds", "message"),
    [
        (True, "expected that output.text | length < 4"),
        (False, "expected that output.text | length < 4, found that it is not so"),
    ],
)
def test_an_expression_holds_or_not(holds, message):
    expectation = Expectation(that="output.text |\n length < 4")
    assert verdict(expectation, Reading(text="x"), holds=holds) == Verdict(
        kind="that", passed=holds, level="error", message=message
    )


@pytest.mark.parametrize(
    "expectation", [Expectation(that="x"), Expectation(judge=Judge(rubric="x"))]
)
def test_what_only_the_engine_knows_is_asked_of_it(expectation):
    with pytest.raises(AssertionError):
        verdict(expectation, Reading(text="x"), holds=None)


def test_hostile_text_is_made_visible():
    assert judged("\x1b[2J\u202e", contains="x").message == (
        r'expected to contain "x", found "\x1b[2J\u202e"'
    )


def test_a_pattern_that_would_explode_does_not():
    started = time.process_time()
    assert not judged("a" * 500_000 + "b", matches="(a+)+$").passed
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"matches": "("}, "expect: matches: the pattern is not valid: missing ): ("),
        (
            {"json_schema": {"type": 5}},
            (
                'the schema is not valid: type: 5 is none of "array", "boolean", "integer", "null",'
                ' "number", "object", "string"'
            ),
        ),
    ],
)
def test_a_pattern_or_schema_that_is_none_is_a_step_error(expected, message):
    with pytest.raises(StepError) as caught:
        judged("x", **expected)
    assert caught.value.message == message


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(JSONS, JSONS, st.text(), st.text())
def test_no_answer_raises(expected, data, text, wanted):
    reading = Reading(text=text, data=data)
    assert judged(reading, equals=expected).kind == "equals"
    assert (
        judged(reading, not_contains=wanted).passed is not judged(reading, contains=wanted).passed
    )
    assert judged(reading, equals=text).passed
    assert judged(reading, json_schema={"type": "string"}).kind == "json_schema"


# what can be said unrun

RE2 = "write it in RE2 syntax: no look-around, no back references"


@pytest.mark.parametrize(
    ("expected", "faults"),
    [
        ({"contains": "("}, ()),
        ({"matches": "a+"}, ()),
        ({"matches": "({{ item }}"}, ()),
        ({"matches": "("}, ((("matches",), f"the pattern is not valid: missing ): (; {RE2}"),)),
        ({"json_schema": {"type": "array"}}, ()),
        (
            {"json_schema": {"items": {"minLength": "1"}}},
            ((("json_schema", "items", "minLength"), '"1" is not a whole number'),),
        ),
    ],
)
def test_an_expectation_is_checked_unrun(expected, faults):
    assert expectation_faults(Expectation(**expected), Inspection()) == faults
