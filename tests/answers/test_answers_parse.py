"""An answer's text becomes what its step asks for, or sentences saying why it cannot."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.answers.parse import Reading, json_in, read
from poeflow.answers.schemas import compile_schema
from poeflow.errors import StepError
from poeflow.flowfile.model import Output

JSON = Output(format="json")
YAML = Output(format="yaml")
CSV = Output(format="csv")
FENCED = Output(extract="fenced")
SEVERAL = "there are several different documents, and one is wanted"
COUNT = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def test_a_text_is_itself():
    text = " As it *is*.\n"
    assert read(Output(), text, None) == Reading(text=text)


def test_a_schema_means_json():
    schema = compile_schema(COUNT)
    text = 'Here: {"n": 1}'
    assert read(Output(schema=COUNT), text, schema) == Reading(text=text, data={"n": 1})


def test_data_that_does_not_fit_is_there_with_its_faults():
    schema = compile_schema(COUNT)
    assert read(JSON, '{"n": "x"}', schema) == Reading(
        text='{"n": "x"}', data={"n": "x"}, faults=('n: "x" is not a whole number',)
    )


def test_of_several_documents_the_one_that_fits_is_meant():
    schema = compile_schema(COUNT)
    text = 'See [1]. Not {"m": 2} but {"n": 3}.'
    assert read(JSON, text, schema).data == {"n": 3}
    [fault] = read(JSON, text, None).faults
    assert fault == f"the answer's JSON cannot be used: {SEVERAL}"


def test_an_empty_answer_is_fine_where_it_is_accepted():
    assert read(Output(format="json", accept=["empty"]), " \n", None) == Reading(text=" \n")
    assert read(JSON, " \n", None).faults == ("the answer is not JSON: it is empty",)


# fenced blocks


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("Sure:\n```python\nprint(1)\n```\nDone.", "print(1)"),
        ("~~~\na\n```\nb\n~~~~", "a\n```\nb"),
        ("````md\n```\nx\n```\n````", "```\nx\n```"),
        ("- item\n  ```\n  a\n    b\n  ```", "a\n  b"),
        ("```\r\na\r\nb\r\n```", "a\nb"),
        ("```\nnever closed", "never closed"),
        ("```\n```", ""),
        ("```\nx\n```\nagain:\n```\nx\n```", "x"),
    ],
)
def test_the_fenced_block_is_taken_out(text, block):
    assert read(FENCED, text, None) == Reading(text=block)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("no fence, only ```code``` here", "the answer has no fenced block"),
        ("```\na\n```\n```\nb\n```", "the answer has 2 fenced blocks, and one is wanted"),
    ],
)
def test_no_block_and_several_are_faults(text, fault):
    assert read(FENCED, text, None) == Reading(text=text, faults=(fault,))


def test_the_block_of_the_format_is_meant():
    output = Output(format="json", extract="fenced")
    text = "```sh\nrun\n```\n```json\n[1]\n```"
    assert read(output, text, None) == Reading(text="[1]", data=[1])
    assert read(output, "[1]", None) == Reading(text="[1]", data=[1])


# one of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("bug", "bug"),
        ("  BUG\n", "bug"),
        ("**Bug**.", "bug"),
        ('"bug."', "bug"),
        ("`feature`", "Feature"),
        ("```\nbug\n```", "bug"),
        ("“new Idea”!", "new idea"),
        ("C++", "C++"),
        ("**C++.**", "C++"),
        ("STRASSE", "Straße"),
        ("cafe\u0301", "café"),
    ],
)
def test_the_option_is_given_as_declared(text, value):
    options = ["bug", "Feature", "new idea", "C++", "Straße", "café"]
    assert read(Output(one_of=options), text, None) == Reading(text=text, value=value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("follow\u2011up", "follow-up"),
        ("**Follow\u2013up**\u3002", "follow-up"),
        ("follow\u2212up\ufeff", "follow-up"),
        ("don\u2019t\u00a0know", "don't know"),
        ("don\u02bct\u2003 know", "don't know"),
        ("\u201dbug\u201d", "bug"),
        ("\u300cbug\u300d", "bug"),
        ("\uff42\uff55\uff47\uff0e", "bug"),
        ("bu\u200bg\u2026", "bug"),
        ("\U0001d5ef\U0001d602\U0001d5f4", "bug"),
        ("\U0001f44d", "\U0001f44d\ufe0f"),
        ("don't\n  know", "don't know"),
        ("```text\nbug\n```", "bug"),
        ('```json\n"follow\\u2011up"\n```', "follow-up"),
        ('"caf\\u00e9"', "café"),
        ("a\u2013b", "a\u2013b"),
        ("a-b", "a-b"),
    ],
)
def test_what_the_eye_cannot_tell_apart_does_not_count(text, value):
    options = ["follow-up", "don't know", "bug", "\U0001f44d\ufe0f", "café", "a-b", "a\u2013b"]
    assert read(Output(one_of=options), text, None) == Reading(text=text, value=value)


@pytest.mark.parametrize("text", ["a\u2014b", "x\u00b2", "followup", "follow up", "\u0441at", "1"])
def test_what_could_be_another_word_counts(text):
    options = ["a-b", "a\u2013b", "x2", "follow-up", "cat", "\u2460"]
    assert len(read(Output(one_of=options), text, None).faults) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "bugs", "bug or feature", "It is a bug", "*bug", "b" * 99_999),
        *("```\nbug\n```\n```\nbug\n```", '"bug\\u00zz"', "``` bug"),
    ],
)
def test_an_answer_that_is_no_option_is_a_fault(text):
    [fault] = read(Output(one_of=["bug", "feature"]), text, None).faults
    assert fault.startswith('the answer is none of "bug", "feature": "')
    assert len(fault) < 140


# YAML


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: 1\nb: [x, true]", {"a": 1, "b": ["x", True]}),
        ("- no\n- 012", ["no", "012"]),
        ("Here you are:\n```yaml\na: 1\n```\nBye!", {"a": 1}),
        ("Both:\n```sh\nls\n```\n```yml\na: 1\n```", {"a": 1}),
        ("7", 7),
        ("a: 1  # one\nb: x # a word\nc: 2 #3\nd: 'x #1'", {"a": 1, "b": "x", "c": 2, "d": "x #1"}),
        (r"""{a: "\t\\d \n\x41 'x'", b: 'C:\New'}""", {"a": "\t\\d \nA 'x'", "b": r"C:\New"}),
        ("- 1e22\n- 12345678901234567890\n- .5", [1e22, 12345678901234567890, 0.5]),
    ],
)
def test_yaml_is_read_bare_and_in_a_fence(text, data):
    assert read(YAML, text, None) == Reading(text=text, data=data)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the answer is empty, not a YAML mapping or list"),
        ("Sorry.", 'the answer is the plain text "Sorry.", not a YAML mapping or list'),
        (
            "a: 1\na: 2",
            'the answer is not YAML: line 2, column 1: the key "a" is here twice, first in line 1',
        ),
        ("x" * (4 * 1024 * 1024 + 1), "the answer is not YAML: it is over 4 MiB"),
        (
            "[" * 100_000,
            "the answer is not YAML: line 1, column 65: nested deeper than 64 levels",
        ),
        (f"- {'9' * 400}", "the answer's YAML cannot be used: a number has too many digits"),
        (
            "a: {b: [9007199254740993.0]}",
            (
                "the answer's YAML cannot be used: the number 9007199254740993.0 has more digits"
                " than can be stored; write it as text"
            ),
        ),
        (
            "a: &x 1e-400\nb: *x",
            (
                "the answer's YAML cannot be used: the number 1e-400 is too small to be stored;"
                " write it as text"
            ),
        ),
        (
            "a: 1\ntitle: Mend #12",
            (
                "the answer's YAML cannot be used: the text in line 2 ends before the #, which"
                " begins a comment; put it in quotes"
            ),
        ),
        (
            r'a: ["x", "\\frac \\\frac"]',
            (
                "the answer's YAML cannot be used: the backslash in line 1, column 20 makes a"
                r" control character of \f; write two for one that is meant"
            ),
        ),
        (
            'b: "C:\\New"',
            (
                "the answer's YAML cannot be used: the backslash in line 1, column 7 makes a"
                r" control character of \N; write two for one that is meant"
            ),
        ),
        (
            'a: "\ud800"',
            "the answer is not YAML: line 1, column 5: U+D800 (half a character) is in the file",
        ),
    ],
)
def test_what_is_no_yaml_is_told(text, fault):
    assert read(YAML, text, None).faults == (fault,)


def test_an_alias_bomb_is_no_yaml():
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]" for n in range(1, 9)]
    [fault] = read(YAML, "\n".join(lines), None).faults
    assert fault.startswith("the answer is not YAML: line 5, column ")
    assert "aliases expand too far" in fault


# CSV


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a,b\n1,x\n2,y\n", [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]),
        ('a,b\r\n"1, ""one""","x\ny"\r\n', [{"a": '1, "one"', "b": "x\ny"}]),
        ("Here:\n```csv\na\n1\n```", [{"a": "1"}]),
        ("\ufeffa,b\n\n1,\n", [{"a": "1", "b": ""}]),
        ("a,b", []),
        (" name , price\nraft , 12\n", [{"name": "raft ", "price": " 12"}]),
        ('a,b\n" ""x""",2\n', [{"a": ' "x"', "b": "2"}]),
        ("a,b|c;d\n1,2\n", [{"a": "1", "b|c;d": "2"}]),
    ],
)
def test_csv_is_a_list_of_objects(text, data):
    assert read(CSV, text, None) == Reading(text=text, data=data)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("a,b\n1,2\n3\n", "row 2 (line 3) has 1 value, not 2"),
        ('a,b\n"1\n\n",2\n3,4,5', "row 2 (line 5) has 3 values, not 2"),
        ("a,,c\n", "column 2 of the header has no name"),
        ("a,b,a\n", 'the header has the column "a" twice'),
        ('a\n"x', "the row that begins in line 2 cannot be read: unexpected end of data"),
        ("a, a\n1,2\n", 'the header has the column "a" twice'),
        ("a, \n1,2\n", "column 2 of the header has no name"),
        ("a;b\n1;2\n", "its columns are divided by ;, not by commas"),
        ("sep=;\na;b\n1;2\n", "its columns are divided by ;, not by commas"),
        ("| a | b |\n|---|---|\n", "its columns are divided by |, not by commas"),
        ("a\tb\n1\t2\n", "its columns are divided by tabs, not by commas"),
        (
            'a, "b"\n1,2\n',
            "line 1 has a space before the quote that begins a value; remove it",
        ),
        (
            'a,b\n\n1, "2"\n',
            "line 3 has a space before the quote that begins a value; remove it",
        ),
        ('a\n"x"y', "the row that begins in line 2 cannot be read: ',' expected after '\"'"),
    ],
)
def test_what_is_no_table_is_told(text, why):
    assert read(CSV, text, None).faults == (f"the answer is not CSV: {why}",)


def test_half_a_character_is_no_value():
    [fault] = read(CSV, "a\nx\ud83d\n", None).faults
    assert fault == "the answer's CSV cannot be used: it holds half a character"


# all formats


HOSTILE = st.text() | st.from_regex(r"(```|[\[\]{}\",:'/*\\&!|>0-9a \n-])*", fullmatch=True)


@given(
    HOSTILE,
    st.sampled_from(["text", "json", "yaml", "csv"]),
    st.sampled_from([None, "fenced"]),
    st.sampled_from([None, ["a", "b"]]),
    st.booleans(),
)
def test_no_answer_raises(text, form, extract, options, has_schema):
    output = Output(format=form, extract=extract, one_of=options)
    reading = read(output, text, compile_schema({"type": "array"}) if has_schema else None)
    assert json.loads(json.dumps(reading.data, allow_nan=False)) == reading.data


@given(HOSTILE)
def test_asking_for_a_document_gives_what_reading_gives(text):
    reading = read(JSON, text, None)
    if reading.faults:
        with pytest.raises(StepError) as caught:
            json_in(text)
        assert (caught.value.message,) == reading.faults
    else:
        assert json_in(text) == reading.data
