"""What is said of a tool before anything of it is imported."""

import pytest

from poeflow.answers.schemas import Inspection
from poeflow.flowfile.model import Tool
from poeflow.planning.schema_checks import tool_faults

CITY = {"city": {"type": "string"}}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"type": "object"},
        {"properties": CITY},
        {"type": "object", "properties": CITY, "required": ["city"]},
        {"$ref": "#/$defs/place", "$defs": {"place": {"properties": CITY}}, "required": ["city"]},
        {"allOf": [{"properties": CITY}], "required": ["city"]},
        {"type": "object", "additionalProperties": True, "required": ["city"]},
        {"patternProperties": {"^c": {}}, "required": ["city"]},
    ],
)
def test_an_object_of_arguments_is_right(parameters):
    assert (
        tool_faults(Tool(name="a" * 64, parameters=parameters, run="no.such:thing"), Inspection())
        == ()
    )


@pytest.mark.parametrize(
    ("parameters", "path", "sentence"),
    [
        (
            CITY,
            ("parameters",),
            "it does not describe arguments; put their names under properties:",
        ),
        (
            {"type": "array", "items": {}},
            ("parameters", "type"),
            "arguments are an object; write type: object",
        ),
        (
            {"type": ["object", "null"]},
            ("parameters", "type"),
            "arguments are an object; write type: object",
        ),
        (
            {"properties": CITY, "required": ["city", "town"]},
            ("parameters", "required", 1),
            '"town" is required but not declared; add it to properties:',
        ),
        (
            {"required": ["city"]},
            ("parameters", "required", 0),
            '"city" is required but not declared; add it to properties:',
        ),
    ],
)
def test_what_is_no_object_of_arguments_is_told(parameters, path, sentence):
    assert tool_faults(Tool(name="get", parameters=parameters), Inspection()) == ((path, sentence),)


def test_what_is_no_schema_is_told_where_it_stands():
    parameters = {"properties": {"city": {"type": "text"}}, "required": ["town"]}
    [(path, sentence)] = tool_faults(Tool(name="get", parameters=parameters), Inspection())
    assert path == ("parameters", "properties", "city", "type")
    assert "text" in sentence


def test_a_name_has_at_most_64_characters():
    assert tool_faults(Tool(name="a" * 65), Inspection()) == (
        (("name",), "the name has 65 characters; at most 64 are allowed"),
    )
