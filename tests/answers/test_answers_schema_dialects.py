"""Schemas that mean another thing elsewhere are told what to write here."""

import pytest

from poeflow.answers.schemas import schema_faults

AGE = {"type": "object", "required": ["age"]}
DEEPER = "the schema is deeper, under {}; write that one here"
ANYTHING = "it has no keyword of JSON Schema, so that anything fits"
OLDER = "is of an older draft and not read"
ADDITIONAL = f"additionalItems {OLDER}; write items, with what comes first under prefixItems"
DEPENDENCIES = (
    f"dependencies {OLDER}; write dependentRequired for lists of keys, dependentSchemas for schemas"
)
ITEMS = "a list of schemas is prefixItems since 2020-12; write that"
REQUIRED = "required is a list of keys, beside properties"
NULLABLE = "nullable is a word of OpenAPI; write null among the types: [string, null]"
LIMIT = "exclusiveMinimum is a number since draft 6"


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ({"name": "person", "strict": True, "schema": AGE}, (), DEEPER.format("schema")),
        ({"description": "x", "schema": AGE}, (), DEEPER.format("schema")),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": AGE}},
            (),
            DEEPER.format("json_schema.schema"),
        ),
        ({"type": "json_schema", "name": "x", "schema": AGE}, (), DEEPER.format("schema")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": AGE}}},
            (),
            DEEPER.format("response_format.json_schema.schema"),
        ),
        ({"format": {"type": "json_schema", "schema": AGE}}, (), DEEPER.format("format.schema")),
        ({"name": "f", "input_schema": AGE}, (), DEEPER.format("input_schema")),
        ({"age": {"type": "integer"}}, (), f"{ANYTHING}; put its keys under properties:"),
        ({"age": "a number"}, (), f"{ANYTHING}; begin with type:"),
        ({"items": {"of": 1}}, ("items",), f"{ANYTHING}; begin with type:"),
        ({"type": "array", "items": [AGE]}, ("items",), ITEMS),
        ({"additionalItems": False}, ("additionalItems",), ADDITIONAL),
        ({"dependencies": {}}, ("dependencies",), DEPENDENCIES),
        ({"divisibleBy": 2}, ("divisibleBy",), f"divisibleBy {OLDER}; write multipleOf"),
        (
            {"minimum": 1, "exclusiveMinimum": True},
            ("exclusiveMinimum",),
            f"{LIMIT}; write it in place of minimum",
        ),
        ({"minimum": 1, "exclusiveMinimum": False}, ("exclusiveMinimum",), f"{LIMIT}; remove it"),
        (
            {"properties": {"a": {"type": "null", "required": True}}},
            ("properties", "a", "required"),
            f"{REQUIRED}; write the name of this key there",
        ),
        (
            {"properties": {"a": {"required": False}}},
            ("properties", "a", "required"),
            f"{REQUIRED}; remove it",
        ),
        (
            {"$defs": {"a": {"type": "string", "nullable": True}}},
            ("$defs", "a", "nullable"),
            NULLABLE,
        ),
        (
            {"allOf": [{"min_length": 1}]},
            ("allOf", 0, "min_length"),
            '"min_length" is not a keyword; write minLength',
        ),
        (
            {"additionalproperties": False},
            ("additionalproperties",),
            '"additionalproperties" is not a keyword; write additionalProperties',
        ),
        ({"type": "STRING"}, ("type",), '"STRING" is not a type; write string'),
        ({"not": {"type": "int"}}, ("not", "type"), '"int" is not a type; write integer'),
        ({"type": "any"}, ("type",), '"any" is not a type; remove type: to allow any'),
        ({"type": "date"}, ("type",), '"date" is not a type; write string, and format: date'),
        (
            {"properties": {"a": "string"}},
            ("properties", "a"),
            '"string" is not a schema by itself; write {type: string}',
        ),
        ({"items": "Int"}, ("items",), '"Int" is not a schema by itself; write {type: integer}'),
    ],
)
def test_a_schema_copied_from_elsewhere_is_told_what_to_write(schema, path, message):
    assert schema_faults(schema) == ((path, message),)


def test_what_else_is_wrong_is_told_beside_it():
    schema = {"items": [{"type": 5}], "minLength": "x", "additionalItems": True}
    assert [path for path, _ in schema_faults(schema)] == [
        ("items",),
        ("additionalItems",),
        ("minLength",),
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"title": "Anything"},
        {"x-order": 1},
        {"$comment": "the rest", "properties": {"a": {}, "b": {"description": "anything"}}},
        {"$ref": "#/$defs/pets/dog", "$defs": {"pets": {"dog": {"type": "string"}}}},
        {"properties": {"schema": {"type": "null", "nullable": False}, "required": True}},
        {"const": {"nullable": True, "items": []}, "default": {"min_length": 1}},
        {"$ref": "#/definitions/a", "definitions": {"a": {"type": ["string", "null"]}}},
    ],
)
def test_what_is_of_2020_12_is_right(schema):
    assert schema_faults(schema) == ()
