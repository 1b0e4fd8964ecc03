"""Every key of the model is in the schema, told and shown, and nothing else is."""

import msgspec
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry

from poeflow.flowfile import key_marks, model
from poeflow.flowfile.schema import FLOW_SCHEMA, bundled_schema

CONTRACT = bundled_schema(FLOW_SCHEMA)
DEFINED = CONTRACT["$defs"]
STEP = DEFINED["step"]["properties"]
SHAPES = {
    model.Flow: CONTRACT,
    model.InputSpec: DEFINED["input"],
    model.ModelAlias: DEFINED["model"],
    model.Params: DEFINED["params"],
    model.Defaults: CONTRACT["properties"]["defaults"],
    model.Limits: CONTRACT["properties"]["limits"],
    model.Step: DEFINED["step"],
    model.Retry: STEP["retry"],
    model.Timeout: STEP["timeout"],
    model.Samples: STEP["samples"],
    model.Loop: STEP["for_each"],
    model.Matrix: STEP["matrix"],
    model.MessageSpec: DEFINED["message"],
    model.Example: DEFINED["message"]["properties"]["few_shot"]["items"],
    model.ExampleFile: DEFINED["example_file"],
    model.MessagePart: DEFINED["message"]["properties"]["content"]["items"],
    model.Attachment: DEFINED["attachment"],
    model.Tool: DEFINED["tool"],
    model.Output: DEFINED["output"],
    model.Expectation: DEFINED["expectation"],
    model.Similar: DEFINED["expectation"]["properties"]["similar_to"],
    model.JudgedExample: DEFINED["expectation"]["properties"]["judge"]["properties"]["examples"][
        "items"
    ],
    model.Judge: DEFINED["expectation"]["properties"]["judge"],
    model.Repeat: DEFINED["step"]["properties"]["repeat"],
    model.TextFile: DEFINED["prose"],
    model.PartFile: DEFINED["step"]["properties"]["tools"],
}


def structs():
    found = vars(model).values()
    types = [t for t in found if isinstance(t, type) and issubclass(t, msgspec.Struct)]
    return [t for t in types if t.__module__ == model.__name__ and t.__struct_fields__]


def properties():
    return [
        pytest.param(owner, key, id=f"{owner.__name__}.{key}")
        for owner, shape in SHAPES.items()
        for key in shape["properties"]
    ]


def resolved(property_schema):
    reference = property_schema.get("$ref")
    return property_schema | (DEFINED[reference.split("/")[-1]] if reference else {})


def test_every_struct_of_the_model_has_its_place_in_the_schema():
    assert set(structs()) == set(SHAPES)


@pytest.mark.parametrize("struct", SHAPES, ids=lambda struct: struct.__name__)
def test_a_struct_has_the_keys_of_its_schema(struct):
    shape = SHAPES[struct]
    assert set(struct.__struct_encode_fields__) == set(shape["properties"])
    assert shape["additionalProperties"] is False


@pytest.mark.parametrize("struct", SHAPES, ids=lambda struct: struct.__name__)
def test_a_struct_needs_what_its_schema_requires(struct):
    needed = {field.encode_name for field in msgspec.structs.fields(struct) if field.required}
    assert needed == set(SHAPES[struct].get("required", ()))


@pytest.mark.parametrize(("struct", "key"), properties())
def test_a_default_in_the_schema_is_the_one_of_the_model(struct, key):
    shape = resolved(SHAPES[struct]["properties"][key])
    if "default" in shape:
        field = next(f for f in msgspec.structs.fields(struct) if f.encode_name == key)
        has_factory = field.default_factory is not msgspec.NODEFAULT
        assert shape["default"] == (field.default_factory() if has_factory else field.default)


@pytest.mark.parametrize(("struct", "key"), properties())
def test_a_key_is_described_with_an_example_that_fits(struct, key):
    shape = resolved(SHAPES[struct]["properties"][key])
    assert shape["description"].endswith((".", "`.")) or shape["description"]
    assert shape["examples"]
    validator = Draft202012Validator({**shape, "$defs": DEFINED}, registry=Registry())
    for shown in shape["examples"]:
        assert [error.message for error in validator.iter_errors(shown)] == []


@pytest.mark.parametrize("struct", [model.Step, model.Output])
def test_each_key_says_what_it_decides(struct):
    said = key_marks.decisions(struct).keys() | ({"output"} if struct is model.Step else set())
    assert set(struct.__struct_encode_fields__) == said


def test_what_a_step_takes_from_elsewhere_decides_what_its_own_key_does():
    own = set(model.Step.__struct_encode_fields__)
    assert own >= set(model.Defaults.__struct_encode_fields__)
    paces = {"requests_per_minute", "tokens_per_minute"}
    assert set(model.Limits.__struct_encode_fields__) >= paces
    assert own >= set(model.ModelAlias.__struct_encode_fields__) - paces


def test_a_change_of_some_keys_makes_no_result_stale_as_such():
    said = key_marks.decisions(model.Step)
    assert {key for key, decides in said.items() if not decides.counts_as_written} == {
        *("description", "needs", "continue_on_error", "timeout", "retry", "cache", "stream"),
        *("model", "provider", "params", "extra_body", "fallback", "attachments"),
        *("for_each", "matrix", "system"),
    }


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(CONTRACT)
