import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from poeflow.simulator.schema_values import NoInstanceError, looks_like_schema, made_up_value

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "required": ["value"],
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
}
SCHEMAS: list[Any] = [
    True,
    {},
    {"type": "string"},
    {"type": "string", "minLength": 200},
    {"type": "string", "maxLength": 3},
    {"type": "string", "minLength": 5, "maxLength": 5},
    {"type": "string", "pattern": "^[A-Z]{2}-\\d{3,5}$"},
    {"type": "string", "pattern": "^(draft|final) v\\d+\\.\\d+$", "maxLength": 12},
    {"type": "integer", "minimum": 10, "maximum": 10},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "multipleOf": 7, "minimum": 50},
    {"type": "integer", "minimum": -5, "maximum": -1},
    {"type": "integer", "maximum": -1},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 3},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["null", "string"]},
    {"enum": ["bug", "feature", 3, None]},
    {"type": "string", "enum": [1, "one"]},
    {"const": {"a": [1]}},
    {"type": "array", "items": {"type": "string"}, "minItems": 4, "maxItems": 4},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
    {"type": "array", "contains": {"const": 5}, "minContains": 2},
    {"type": "array", "items": {"type": "integer"}, "contains": {"minimum": 50}},
    {"type": "array", "maxItems": 0},
    {"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}},
    {"type": "object", "additionalProperties": {"type": "boolean"}},
    {"type": "object", "minProperties": 3},
    {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "maxProperties": 1},
    {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]{3}$"},
        "minProperties": 2,
        "additionalProperties": {"type": "null"},
    },
    {"type": "object", "properties": {"no": False, "yes": True}, "additionalProperties": False},
    {"anyOf": [False, {"type": "integer"}]},
    {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    {"type": "integer", "anyOf": [{"minimum": 5, "maximum": 6}, {"minimum": 9, "maximum": 9}]},
    {
        "allOf": [
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}},
            {"required": ["b"], "properties": {"a": {"minimum": 7}, "b": {"const": "x"}}},
        ]
    },
    {"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 4]}]},
    {
        "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
        "$defs": {
            "a": {"allOf": [{"type": "object", "required": ["x"]}]},
            "b": {"allOf": [{"required": ["y"], "properties": {"x": {"const": 1}}}]},
        },
    },
    {"allOf": [{"type": "number"}, {"type": "integer"}], "minimum": 3.5, "maximum": 4.5},
    {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}},
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "a"}}},
        "then": {"required": ["more"]},
    },
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer"}}},
    {"$ref": "#/$defs/s", "minLength": 60, "$defs": {"s": {"type": "string"}}},
    {"definitions": {"s": {"type": "string"}}, "items": {"$ref": "#/definitions/s"}},
    TREE,
    {"type": "array", "items": {"$ref": "#"}},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
@pytest.mark.parametrize("seed", ["one", "two", "three"])
def test_an_instance_fits_its_schema(schema, seed):
    validator = Draft202012Validator(schema)
    value = made_up_value(schema, seed)
    assert [error.message for error in validator.iter_errors(value)] == []
    assert made_up_value(schema, seed) == value


FORMATS = ["date", "date-time", "email", "ipv4", "ipv6", "uuid", "regex", "time", "hostname"]


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_met(name):
    value = made_up_value({"type": "string", "format": name}, "seed")
    Draft202012Validator.FORMAT_CHECKER.check(value, name)
    assert value != made_up_value({"type": "string", "format": name}, "other")


def test_free_text_is_named_after_its_property_and_differs_by_seed():
    schema = {"type": "object", "properties": {"bullets": {"type": "array", "items": {}}}}
    one, other = made_up_value(schema, "a"), made_up_value(schema, "b")
    assert one["bullets"][0].startswith("Simulated bullet ")
    assert one != other


DOUBLING: dict[str, Any] = {
    f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)
} | {"a40": {"type": "integer"}}


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"$ref": "#/$defs/a0", "$defs": DOUBLING},
        {"type": "array", "minItems": 1000, "items": {"type": "string", "minLength": 90_000}},
        {"type": "array", "minItems": 900, "items": {"type": "array", "minItems": 900}},
        {"type": "string", "pattern": "^((((){9999}){9999}){9999})$"},
        {"type": "string", "pattern": "^((a{9999}){9999}){9999}$"},
        {"allOf": [{"anyOf": [{"const": n} for n in range(300)]}] * 8, "type": "null"},
        {"$ref": "https://example.com/schema"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"enum": []},
        {"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True},
        {"type": "object", "required": ["x"], "properties": {"x": False}},
        {"type": "object", "required": ["x"], "properties": {"x": {"$ref": "#"}}},
        {"type": "string", "pattern": "(?=x)"},
        {"type": "string", "pattern": "[z"},
        {"type": "string", "pattern": "^aaaa$", "maxLength": 2},
        {
            "type": "object",
            "required": list("abcdefgh"),
            "additionalProperties": {"$ref": "#"},
        },
        {"allOf": [{"const": 1}, {"const": 2}]},
        {"const": 3, "enum": [1, 2]},
    ],
    ids=lambda schema: str(schema)[:50],
)
def test_what_no_value_fits_is_told_in_bounded_time(schema):
    with pytest.raises(NoInstanceError):
        made_up_value(schema, "seed")


_SCALARS = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-1000, 1000),
        st.integers(0, 50),
    ),
    st.builds(
        lambda low, span: {"type": "number", "minimum": low, "maximum": low + span},
        st.floats(-1e6, 1e6),
        st.floats(0, 1e3),
    ),
    st.builds(
        lambda low, span: {"type": "string", "minLength": low, "maxLength": low + span},
        st.integers(0, 40),
        st.integers(0, 40),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers(), min_size=1)),
)
_SCHEMAS = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.builds(
            lambda items, low, span: {
                "type": "array",
                "items": items,
                "minItems": low,
                "maxItems": low + span,
            },
            inner,
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        st.builds(
            lambda parts: {
                "type": "object",
                "properties": parts,
                "required": sorted(parts)[::2],
                "additionalProperties": False,
            },
            st.dictionaries(st.text(max_size=8), inner, max_size=4),
        ),
        st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=12,
)


@given(schema=_SCHEMAS, seed=st.text(max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_ordinary_schema_gets_a_fitting_instance(schema, seed):
    assert Draft202012Validator(schema).is_valid(made_up_value(schema, seed))


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "properties", "required", "items", "enum", "anyOf", "allOf", "$ref"),
                    *(
                        "minimum",
                        "maximum",
                        "multipleOf",
                        "minLength",
                        "maxLength",
                        "pattern",
                        "if",
                    ),
                    *("minItems", "maxItems", "prefixItems", "contains", "minProperties", "then"),
                    *("additionalProperties", "propertyNames", "format", "uniqueItems"),
                ]
            ),
            inner | st.sampled_from(["object", "array", "string", "number", "#", "^a+$", 3, -2]),
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(schema=_JUNK)
@settings(max_examples=150)
def test_a_schema_that_is_none_brings_nothing_down(schema):
    looks_like_schema(schema)
    try:
        json.dumps(made_up_value(schema, "seed"))
    except NoInstanceError:
        return
