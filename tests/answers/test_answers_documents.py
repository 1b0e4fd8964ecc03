"""The one JSON document of an answer: strict, nearly strict, in a fence, among words."""

import contextlib
import json
import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poeflow.answers.json_text import MAX_TEXT, NotJsonError, UnusableError, find_document


def only(text):
    return find_document(text, lambda _data: True)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": 1}', {"a": 1}),
        ("  [1, 2]\n", [1, 2]),
        ('"text"', "text"),
        ("null", None),
        ('\ufeff{"a": "é☃"}', {"a": "é☃"}),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ('"\\u00e9"', "é"),
    ],
)
def test_strict_json_is_read(text, data):
    assert only(text) == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": [1, 2,],}', {"a": [1, 2]}),
        ("{'a': 'it\\'s: so', b: +.5}", {"a": "it's: so", "b": 0.5}),
        ('{"a": 1, // one: "x"\n /* two: */ "b": "//:"}', {"a": 1, "b": "//:"}),
        ("{\"a\": '\"', 'b': \"'\", c: 0x10,}", {"a": '"', "b": "'", "c": 16}),
    ],
)
def test_json5_is_read(text, data):
    assert only(text) == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("\n```JSON5 \r\n{a: 1,}\r\n```\n\n", {"a": 1}),
        ("```\n[]```\n```", []),
        ('```json\n{"a": "```"}\n```', {"a": "```"}),
        ("Use `x`:\n```py\nf([1])\n```\nThen:\n```json\n[2]\n```\nor [3]", [2]),
        ("```json\n7\n```", 7),
        ("```\n7\n```\n```\n[8]\n```", [8]),
        ("```json\n[1]", [1]),
        ("```json\n[1]\n```\nthat is\n```json\n[1.0]\n```", None),
    ],
)
def test_a_document_in_a_fence_is_read(text, data):
    if data is None:
        with pytest.raises(UnusableError, match="several different documents"):
            only(text)
    else:
        assert only(text) == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('Sure! {"a": 1} Hope that helps.', {"a": 1}),
        ('As [noted] in {this}: {"a": ["}"]}\n', {"a": ["}"]}),
        ("Here: {a: 1, 'b': [2,],}ok", {"a": 1, "b": [2]}),
        ("It is {'a': 1}, as {asked}.", {"a": 1}),
        ('{"a": 1} is {"a":1}.', {"a": 1}),
        ("Words, then [] and nothing.", []),
        ("[a] " * 999 + "[1]", [1]),
    ],
)
def test_a_document_among_words_is_read(text, data):
    assert only(text) == data


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("\ufeff \n", "it is empty"),
        ("Sure, no problem.", "there is no JSON document in it"),
        ("[see below]", '"s" in line 1, column 2 is not expected'),
        ('{"a":', "what begins in line 1, column 1 does not end"),
        ('{"é": 1,\n "b": x}', '"x" in line 2, column 7 is not expected'),
        ('{"m": {"x": 1}, "i": [1 2]}', '"2" in line 1, column 25 is not expected'),
        ("\n[1 2]", '"2" in line 2, column 4 is not expected'),
        ('Here:\n\n {"a": 1 "b": {"c": 2}}', '"\\"" in line 3, column 10 is not expected'),
        ('```json\n{"a" 1}\n```', 'in the fenced block, "1" in line 1, column 6 is not expected'),
        ('"a\nb"', "what begins in line 1, column 1 does not end"),
    ],
)
def test_what_is_not_json_is_told_with_its_place(text, why):
    with pytest.raises(NotJsonError) as caught:
        only(text)
    assert str(caught.value) == why


DEEP = "it is nested deeper than 64 levels"
LONG = "a number has too many digits"
RANGE = "NaN, Infinity and numbers beyond 1.8e308 are not JSON"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": {"b": 1, "c": 2, "b": 1}}', 'the key "b" is in one object twice'),
        ("{'a': 1, a: ':',}", "an object has the same key twice"),
        ("{'a': {b: 1}, 'c': [{b: 1, 'b': 1}]}", "an object has the same key twice"),
        ("[NaN]", RANGE),
        ("[-Infinity,]", RANGE),
        ("1e999", RANGE),
        ("[" * 65 + "]" * 65, DEEP),
        ("[" * 65 + "1," + "]" * 65, DEEP),
        ("[" * 100_000, DEEP),
        ('{"a":' * 100_000, DEEP),
        ("9" * 400, LONG),
        ("9" * 5_000, LONG),
        ("+0x" + "f" * 9_000, LONG),
        ('"\ud800"', "it holds half a character"),
        ('{"\\udfff": 1}', "it holds half a character"),
        ("{'\ud800': 1}", "it holds half a character"),
        (
            " " * (MAX_TEXT + 1),
            f"it has {MAX_TEXT + 1:,} characters, at most {MAX_TEXT:,} are read",
        ),
        ('{"a": 1}\n{"a": 2}', "there are several different documents, and one is wanted"),
        ("[a] " * 1_001, "there are too many brackets among its words"),
        ("[1] and [2]", "there are several different documents, and one is wanted"),
    ],
)
def test_json_that_cannot_be_used_is_told(text, why):
    with pytest.raises((UnusableError, NotJsonError)) as caught:
        only(text)
    assert str(caught.value) == why


def no_escape(column):
    told = f"the backslash in line 1, column {column} begins no escape of JSON"
    return f"{told}; write two for one that is meant"


def undoubled(column, escape):
    told = f"the backslash in line 1, column {column} makes a control character of {escape}"
    return f"{told}; write two for one that is meant"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (r'{"s": "\alpha \d+"}', no_escape(8)),
        (r'{"re": "^\s+$",}', no_escape(10)),
        (r"['\vec']", no_escape(3)),
        (r"['\0']", no_escape(3)),
        (r"['\x41']", no_escape(3)),
        ("['a\\\nb']", no_escape(4)),
        (r'["C:\Users"]', no_escape(5)),
        (r'["\underline"]', no_escape(3)),
        (r'["\u00zz"]', no_escape(3)),
        (r'["a \frac{1}{2}"]', undoubled(5, r"\f")),
        (r'["\bword\b"]', undoubled(3, r"\b")),
        (r'["\textbf{a}",]', undoubled(3, r"\t")),
        (r'["\\\theta"]', undoubled(5, r"\t")),
        (r'See ["\nabla f"].', undoubled(7, r"\n")),
    ],
)
def test_a_backslash_that_would_be_lost_is_told(text, why):
    with pytest.raises((UnusableError, NotJsonError)) as caught:
        only(text)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r'["\b\f\n\r\t\/\"\\\u0041"]', '\b\f\n\r\t/"\\A'),
        (r'["\\frac \\d"]', r"\frac \d"),
        (r'["a\nb\tc\textual"]', "a\nb\tc\textual"),
        (r"""['it\'s "so"',]""", 'it\'s "so"'),
    ],
)
def test_what_json_escapes_is_read(text, data):
    assert only(text) == [data]


DIGITS = "has more digits than can be stored; write it as text"
SMALL = "is too small to be stored; write it as text"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("9007199254740993.0", DIGITS),
        ("12345678901234567890e1", DIGITS),
        ("0.123456789012345678901", DIGITS),
        ("-3.14159265358979323846", DIGITS),
        ("1e-400", SMALL),
        ("0.1e-99999999999999999999", SMALL),
    ],
)
@pytest.mark.parametrize("form", ["[{}]", "[{},]", "It is [{}]."])
def test_a_number_that_no_double_holds_is_told(written, why, form):
    with pytest.raises(UnusableError) as caught:
        only(form.format(written))
    assert str(caught.value) == f"the number {written} {why}"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0.30000000000000004", 0.30000000000000004),
        ("0.33333333333333333", 1 / 3),
        ("1e23", 1e23),
        ("0e99999999999999999999", 0.0),
        ("9007199254740992.000000000000000000", 9007199254740992.0),
        ("12345678901234567890123", 12345678901234567890123),
        ("5e-324", 5e-324),
    ],
)
@pytest.mark.parametrize("form", ["[{}]", "[{},]", "{{a1: {}, $2: 1}}"])
def test_a_number_that_fits_is_read(written, value, form):
    data = only(form.format(written))
    assert (data[0] if isinstance(data, list) else data["a1"]) == value


def test_64_levels_are_fine():
    text = "[" * 64 + "]" * 64
    assert json.dumps(only(text)) == text
    assert json.dumps(only("[" * 64 + "1," + "]" * 64)) == "[" * 64 + "1" + "]" * 64


@pytest.mark.parametrize(
    "text",
    [
        "[" * 400_000,
        "[a] " * 100_000,
        '["' * 200_000,
        "{'a': [" * 50_000,
        "```\n" * 100_000,
        "[1] " * 100_000,
        "{a: 1} " * 50_000,
        "x" * 400_000 + "{" + '"' * 100_000,
        "[" + "1," * 200_000 + " [x] }",
    ],
)
def test_hostile_text_takes_little_time(text):
    started = time.process_time()
    with contextlib.suppress(NotJsonError, UnusableError):
        only(text)
    assert time.process_time() - started < 3


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | FLOATS
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab:'\"/*\\\n"), inner),
    max_leaves=20,
)


UNDOUBLED = re.compile(r"\\[bf][A-Za-z]")


@given(VALUES, st.sampled_from([None, 1]))
def test_what_json_writes_is_read_back(data, indent):
    text = json.dumps(data, indent=indent)
    assume(UNDOUBLED.search(text) is None)
    assert only(text) == only(f"```json\n{text}\n```") == data


@given(VALUES.filter(lambda data: isinstance(data, list | dict) and data))
def test_a_document_nearly_json_is_read_the_same(data):
    text = json.dumps(data)
    assume(UNDOUBLED.search(text) is None)
    nearly = f"{text[:-1]}, // a 'comment': \"here\"\n /* {{a: 1}} */ {text[-1]}"
    assert only(nearly) == only(f"So it is {nearly}") == data
