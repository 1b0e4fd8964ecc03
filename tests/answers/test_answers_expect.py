"""Whether an answer is what was expected, in words a person wants to read."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.answers.differences import similarity
from poeflow.answers.display import quoted
from poeflow.answers.expect import (
    Verdict,
    expectation_faults,
    score_of,
    templates_in,
    verdict,
)
from poeflow.answers.parse import Reading
from poeflow.answers.schemas import Inspection
from poeflow.errors import StepError
from poeflow.flowfile.key_marks import TO_TEXT, TO_TRUTH, TO_VALUE
from poeflow.flowfile.model import Expectation, Judge, Similar

LONG = "The first line.\r\nThe second line goes on and on, as an AI must.\nThe end."
LISTED = ", ".join(map(quoted, "abcdefghijklmnopqrst"))


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
    ("Paris", {"contains_any": ["Berlin", ["Rome", "Paris"]]}),
    ("a\r\nb, c", {"contains_all": ["a\nb", "c"]}),
    ("\n Dear reader", {"starts_with": "Dear"}),
    ("Well?\n", {"ends_with": "?"}),
    (' {"a": [1]}\n', {"is_json": True}),
    ('Sure: {"a": 1}', {"is_json": False}),
    ('{"a": 1, "a": 2}', {"is_json": False}),
    (" A solar lamp.\n", {"similar_to": "A solar lamp."}),
    ("A polar lamp", {"similar_to": {"text": "A solar lamp", "threshold": 0.9}}),
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
        (
            "Rome",
            {"contains_any": ["Berlin", "Paris"]},
            'to contain one of "Berlin", "Paris", found "Rome"',
        ),
        (
            "Berlin",
            {"contains_all": ["Berlin", "Paris"]},
            'to contain "Berlin", "Paris", found "Berlin" without "Paris"',
        ),
        (
            "x",
            {"contains_any": list("abcdefghijklmnopqrstuv")},
            f'to contain one of {LISTED}, 2 more, found "x"',
        ),
        ("Hi, dear", {"starts_with": "Dear"}, 'to start with "Dear", found "Hi, dear"'),
        ("Yes.", {"ends_with": "?"}, 'to end with "?", found "Yes."'),
        ("", {"ends_with": "?"}, 'to end with "?", found nothing'),
        ("Sure: {}", {"is_json": True}, 'JSON and nothing else, found "Sure: {}"'),
        ("[]", {"is_json": False}, 'no JSON, found "[]"'),
        ("kitten", {"similar_to": "sitting"}, 'to be 80% like "sitting", found 57.1%: "kitten"'),
        (
            "x" * 20_001,
            {"similar_to": {"text": "x", "threshold": 0.0}},
            'to be 0% like "x", found 20,001 characters, which are not compared',
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
    ("cost", "found"),
    [
        (0.02, None),
        (0.0, None),
        (0.0201, "$0.0201"),
        (None, "that its price is not known"),
    ],
)
def test_an_answer_costs_at_most_so_much(cost, found):
    judgement = verdict(Expectation(max_cost=0.02), Reading(text="x"), holds=None, cost=cost)
    assert judgement.passed is (found is None)
    expected = "expected a cost of at most $0.02"
    assert judgement.message == (f"{expected}, found {found}" if found else expected)


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        (2.5, None),
        (2.501, "2.501 s"),
        (None, "no time stored with it, so that this is not judged; --refresh asks again"),
    ],
)
def test_an_answer_takes_at_most_so_long(seconds, found):
    judgement = verdict(
        Expectation(max_seconds=2.5), Reading(text="x"), holds=None, seconds=seconds
    )
    assert judgement.passed is (found is None)
    assert judgement.level == ("warn" if seconds is None else "error")
    expected = "expected an answer within 2.5 s"
    assert judgement.message == (f"{expected}, found {found}" if found else expected)


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
    "expectation",
    [Expectation(that="x"), Expectation(judge=Judge(rubric="x")), Expectation(call="a:b")],
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
        (
            {"contains_any": [["a", 5]]},
            "expect: contains_any must be a list of texts, and 5 is in it; check its templates",
        ),
        (
            {"contains_all": [[]]},
            "expect: contains_all has no text; check its templates",
        ),
        (
            {"similar_to": {"text": 5}},
            "expect: similar_to: Expected `str`, got `int` - at `$.text`; check its template",
        ),
        (
            {"similar_to": "x" * 20_001},
            "expect: similar_to has 20,001 characters; only 20,000 can be compared",
        ),
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
    assert message in (caught.value.message, str(caught.value))


SHORT = st.text(alphabet="ab\n", max_size=12)


def edits(one, other):
    """Count as the definition does, one character after the other."""
    row = list(range(len(other) + 1))
    for i, character in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            changed = before + (character != wanted)
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, changed)
    return row[-1]


@given(SHORT, SHORT)
def test_similarity_is_the_share_of_characters_that_need_no_edit(one, other):
    longest = max(len(one), len(other), 1)
    assert similarity(one, other) == pytest.approx(1 - edits(one, other) / longest)
    assert similarity(one, other) == similarity(other, one)


def test_the_longest_texts_that_are_compared_take_no_time():
    started = time.process_time()
    found = judged("ab" * 10_000, similar_to="abc" * 6_666)
    assert (found.passed, found.score) == (False, 0.5)
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    ("reading", "expected", "score"),
    [
        ("a b", {"contains_all": ["a", "b", "c", "d"]}, 0.5),
        ("kitten", {"similar_to": "sitting"}, 0.571429),
        ("", {"similar_to": "x"}, 0.0),
        ("a", {"contains": "a"}, None),
    ],
)
def test_some_kinds_say_how_well_they_are_met(reading, expected, score):
    assert judged(reading, **expected).score == score


@pytest.mark.parametrize(
    ("graded", "score"),
    [
        ([], 1.0),
        ([(1, True, None)], 1.0),
        ([(1, True, None), (3, False, None)], 0.25),
        ([(1, False, 0.4), (1, True, 0.8)], 0.6),
        ([(3, True, None), (1, None, None)], 0.75),
    ],
)
def test_the_score_of_an_answer_is_weighted_and_what_was_not_judged_is_not_met(graded, score):
    expectations = [Expectation(contains="x", weight=weight) for weight, _, _ in graded]
    verdicts = [
        Verdict(kind="x", passed=passed, level="error", message="", score=own, weight=weight)
        for weight, passed, own in graded
        if passed is not None
    ]
    assert score_of(expectations, verdicts) == score


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
        ({"similar_to": "x" * 20_000}, ()),
        (
            {"similar_to": Similar(text="x" * 20_001)},
            ((("similar_to", "text"), "only 20,000 characters can be compared"),),
        ),
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


@pytest.mark.parametrize(
    ("expected", "templates"),
    [
        ({"contains": "{{ a }}"}, [("contains", "{{ a }}", TO_TEXT)]),
        ({"equals": None}, [("equals", None, TO_VALUE)]),
        ({"equals": {"a": "{{ a }}"}}, [("equals", {"a": "{{ a }}"}, TO_VALUE)]),
        ({"that": "a"}, [("that", "a", TO_TRUTH)]),
        ({"contains_any": ["{{ a }}"]}, [("contains_any", ["{{ a }}"], TO_VALUE)]),
        (
            {"similar_to": Similar(text="{{ a }}")},
            [("similar_to", {"text": "{{ a }}", "threshold": 0.8}, TO_VALUE)],
        ),
        ({"max_length": 3}, []),
        ({"json_schema": {}}, []),
        ({"judge": Judge(rubric="{{ a }}")}, []),
    ],
)
def test_an_expectation_says_which_of_its_values_are_templates(expected, templates):
    assert list(templates_in(Expectation(**expected, level="warn"))) == templates
