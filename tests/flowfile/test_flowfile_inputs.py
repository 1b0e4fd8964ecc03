"""Inputs: what was given, else the default, read and checked as their types ask."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.errors import InvalidFlowError
from poeflow.flowfile import inputs as inputs_file
from poeflow.flowfile.inputs import InputProblem, read_text, resolve_inputs, value_problem
from poeflow.flowfile.model import Flow, InputSpec


def flow(**inputs):
    specs = {name: {"type": "string", **spec} for name, spec in inputs.items()}
    steps = {"a": {"render": "x"}}
    return msgspec.convert({"poeflow": 1, "inputs": specs, "steps": steps}, Flow)


def spec(kind="string", **rest):
    return msgspec.convert({"type": kind, **rest}, InputSpec)


def test_texts_win_over_values_and_values_over_defaults():
    several = flow(a={"default": "d"}, b={"default": "d"}, c={"default": "d"})
    assert resolve_inputs(several, {"b": "v", "c": "v"}, {"c": "t"}) == (
        {"a": "d", "b": "v", "c": "t"},
        (),
    )


def test_a_default_may_be_the_value_of_another_input():
    several = flow(a={"default_from": "b"}, b={"default_from": "c"}, c={"default": "d"}, e={})
    given = {"e": "e"}
    assert resolve_inputs(several, given, {})[0] == {"a": "d", "b": "d", "c": "d", "e": "e"}
    assert resolve_inputs(several, given, {"c": "t"})[0]["a"] == "t"
    assert resolve_inputs(several, {**given, "b": "v"}, {})[0] == {
        "a": "v",
        "b": "v",
        "c": "d",
        "e": "e",
    }


def test_a_default_from_another_input_is_checked_and_missed_once():
    several = flow(a={"default_from": "b", "enum": ["x"]}, b={})
    (missing,) = resolve_inputs(several, {}, {})[1]
    assert missing.message == 'the input "b" is missing'
    (wrong,) = resolve_inputs(several, {"b": "y"}, {})[1]
    assert wrong.message == "the input \"a\" must be one of x, not 'y'"


def test_what_is_missing_or_unknown_is_told():
    wanted = flow(topic={"description": "what it is about"}, tone={})
    assert resolve_inputs(wanted, {"tpic": 1}, {"zzz": "1"}) == (
        {},
        (
            InputProblem("tpic", 'unknown input "tpic"', 'did you mean "topic"?'),
            InputProblem("zzz", 'unknown input "zzz"', "known: tone, topic"),
            InputProblem(
                "topic", 'the input "topic" is missing', "pass --input topic=... (what it is about)"
            ),
            InputProblem("tone", 'the input "tone" is missing', "pass --input tone=..."),
        ),
    )


def test_a_value_that_does_not_fit_is_told_and_kept():
    assert resolve_inputs(
        flow(n={"type": "integer", "description": "how many"}), {"n": "x"}, {}
    ) == (
        {"n": "x"},
        (InputProblem("n", "the input \"n\" must be an integer, not 'x'", "how many"),),
    )


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "12", "12"),
        ("string", " x ", " x "),
        ("file", "a.md", "a.md"),
        ("integer", " 12 ", 12),
        ("integer", "012", "012"),
        ("number", "1e3", 1000.0),
        ("boolean", "true", True),
        ("boolean", "yes", "yes"),
        ("array", "[a, 1]", ["a", 1]),
        ("array", "- a\n- b", ["a", "b"]),
        ("object", "{a: {b: 1}}", {"a": {"b": 1}}),
        ("array", "[a", "[a"),
        ("object", "*a", "*a"),
    ],
)
def test_a_text_is_read_as_the_type_asks(kind, text, value):
    assert read_text(spec(kind), text) == value


@pytest.mark.parametrize(
    ("given_spec", "value", "reason"),
    [
        (spec(), "x", ""),
        (spec(), 1, "must be text, not 1"),
        (spec(), None, "must be text, not null"),
        (spec("integer"), 1.0, "must be an integer, not 1.0"),
        (spec("integer"), True, "must be an integer, not true"),
        (spec("number"), 1, ""),
        (spec("number"), "1", "must be a number, not '1'"),
        (spec("boolean"), False, ""),
        (spec("boolean"), 0, "must be true or false, not 0"),
        (spec("file"), 1, "must be a path, not 1"),
        (spec("object"), [], "must be an object, not []"),
        (spec("array"), {}, "must be an array, not {}"),
        (spec(enum=["a", "b"]), "c", "must be one of a, b, not 'c'"),
        (spec("integer", minimum=1, maximum=3), 0, "must be at least 1, not 0"),
        (spec("integer", minimum=1, maximum=3), 4, "must be at most 3, not 4"),
        (spec("number", minimum=0.5), 0.5, ""),
        (spec("array", items={"type": "string"}), ["a", 5], "item 2 must be text, not 5"),
        (spec("array", items={"enum": ["a"]}), ["b"], "item 1 must be one of a"),
        (spec("array", items={"type": "integer"}), [1, 2], ""),
        (spec(), ["x" * 100], 'must be text, not ["' + "x" * 55 + "..."),
    ],
)
def test_why_a_value_does_not_fit(given_spec, value, reason):
    assert value_problem(given_spec, value) == reason


@given(st.sampled_from(["integer", "number", "boolean", "array", "object"]), st.text())
def test_any_text_becomes_a_value_that_fits_or_is_told(kind, text):
    value = read_text(spec(kind), text)
    faults = resolve_inputs(flow(a={"type": kind}), {}, {"a": text})[1]
    assert bool(faults) == bool(value_problem(spec(kind), value))


def test_a_file_of_inputs_is_yaml_or_json():
    assert inputs_file.inputs_in(b"a: 1\nb: [x]\n", shown="i") == {"a": 1, "b": ["x"]}
    assert inputs_file.inputs_in(b'{"a": {"b": null}}', shown="i") == {"a": {"b": None}}
    assert inputs_file.inputs_in(b"# nothing\n", shown="i") == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"- a\n", "i:1:1: the file must be a mapping; write one NAME: VALUE a line"),
        (b"a: 1\na: 2\n", 'i:2:1: the key "a" is here twice, first in line 1; keep one'),
        (b"\xff", "i:1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"a: @x\n", "i:1:4: not YAML: a value cannot begin with @; quote it, or use |"),
    ],
)
def test_a_faulty_file_of_inputs_is_told_with_its_place(data, message):
    with pytest.raises(InvalidFlowError) as caught:
        inputs_file.inputs_in(data, shown="i")
    assert [str(problem) for problem in caught.value.problems] == [message]


def test_the_file_beside_a_flow():
    assert inputs_file.inputs_path("//flows/notes.yaml") == "//flows/notes.inputs.yaml"


@pytest.mark.parametrize(
    ("kind", "text", "message", "hint"),
    [
        ("array", "x,y", "must be an array, not 'x,y'", """--input n='["x", "y"]'"""),
        ("object", "a=b", "must be an object, not 'a=b'", """--input n='{"name": "x"}'"""),
    ],
)
def test_a_list_or_mapping_on_the_command_line_is_told_with_an_example(kind, text, message, hint):
    [fault] = resolve_inputs(flow(n={"type": kind, "description": "those"}), {}, {"n": text})[1]
    assert fault == InputProblem("n", f'the input "n" {message}', f"for example {hint}")
    example = hint.partition("=")[2].strip("'")
    assert resolve_inputs(flow(n={"type": kind}), {}, {"n": example})[1] == ()
