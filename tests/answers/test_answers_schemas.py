"""What keeps data from fitting a schema, and what is wrong with a schema itself."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from poeflow.answers.schemas import (
    MAX_PARTS,
    MAX_PROGRAM,
    Inspection,
    compile_schema,
    schema_faults,
)
from poeflow.errors import StepError
from poeflow.flowfile.patterns import compiled

C_MISSING = 'the key "c" is missing, "a" needs it'
OF_ITS = "of its items are what the list must contain"
EITHER = "2 is not 1; or 2 is less than 5"
FORMS = "of the forms it may have"


def faults(schema, data):
    return list(compile_schema(schema).faults(data))


@pytest.mark.parametrize(
    ("schema", "data", "told"),
    [
        ({"type": "string"}, 7, "7 is not text"),
        ({"type": ["integer", "null"]}, "x", '"x" is not a whole number or null'),
        ({"type": "object"}, [1], "[1] is not an object"),
        ({"type": "array"}, {"a": None}, '{"a": null} is not a list'),
        ({"type": "number"}, True, "true is not a number"),
        ({"type": "boolean"}, 1.5, "1.5 is not true or false"),
        ({"enum": ["a", 1]}, "b", '"b" is none of "a", 1'),
        ({"const": {"a": 1}}, None, 'null is not {"a": 1}'),
        ({"minimum": 3}, 2, "2 is less than 3"),
        ({"exclusiveMinimum": 3}, 3, "3 is not more than 3"),
        ({"maximum": 3}, 3.5, "3.5 is more than 3"),
        ({"exclusiveMaximum": 3}, 3, "3 is not less than 3"),
        ({"multipleOf": 2}, 3, "3 is not a multiple of 2"),
        ({"multipleOf": 0.1}, 0.35, "0.35 is not a multiple of 0.1"),
        ({"minLength": 2}, "a", '"a" has 1 character, at least 2 wanted'),
        ({"maxLength": 2}, "abc", '"abc" has 3 characters, at most 2 wanted'),
        ({"minItems": 1}, [], "[] has 0 items, at least 1 wanted"),
        ({"maxItems": 1}, [1, 2], "[1, 2] has 2 items, at most 1 wanted"),
        ({"minProperties": 1}, {}, "{} has 0 keys, at least 1 wanted"),
        ({"maxProperties": 0}, {"a": 1}, '{"a": 1} has 1 key, at most 0 wanted'),
        ({"pattern": "^a"}, "b", '"b" does not match the pattern ^a'),
        ({"required": ["a"]}, {}, 'the key "a" is missing'),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, 'the key "b" is missing, "a" needs it'),
        ({"dependentRequired": {"a": ["b", "c"]}}, {"a": 1, "b": 1}, C_MISSING),
        ({"additionalProperties": False}, {"a": 1}, 'the key "a" is not allowed'),
        ({"additionalProperties": {"type": "null"}}, {"a": 1}, "a: 1 is not null"),
        ({"patternProperties": {"^a": {"type": "null"}}}, {"ab": 1, "b": 1}, "ab: 1 is not null"),
        ({"unevaluatedProperties": False}, {"a": 1}, 'the key "a" is not allowed'),
        ({"unevaluatedItems": {"type": "null"}}, [1], "[0]: 1 is not null"),
        ({"propertyNames": {"const": "a"}}, {"ab": 1}, 'the key "ab" is not "a"'),
        ({"uniqueItems": True}, [1, [2], 1.0], "items 0 and 2 are the same: 1.0"),
        ({"items": {"type": "string"}}, ["a", 7], "[1]: 7 is not text"),
        ({"prefixItems": [{}], "items": False}, [1, 2], "the list has more items than it may have"),
        ({"contains": {"const": 1}}, [2], "none of its items is what the list must contain"),
        ({"contains": {"const": 1}, "maxContains": 1}, [1, 1], f"more than 1 {OF_ITS}"),
        ({"contains": {"const": 1}, "minContains": 2}, [1], f"fewer than 2 {OF_ITS}"),
        ({"not": {"type": "string"}}, "a", '"a" is what it must not be'),
        ({"properties": {"a": False}}, {"a": 1}, 'the key "a" is not allowed'),
        ({"prefixItems": [False]}, [1], "1 is not allowed here"),
        ({"patternProperties": {"a": False}}, {"a": 1}, 'the key "a" is not allowed'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "1 is not text or null"),
        ({"oneOf": [{"const": 2}, {"minimum": 1}]}, 2, f"2 fits more than one {FORMS}"),
        ({"anyOf": [{"const": 1}, {"minimum": 5}]}, 2, f"2 has none {FORMS}: {EITHER}"),
        ({"if": {"const": 1}, "else": {"type": "null"}}, 2, "2 is not null"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, 2, "2 is not null"),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"a": 1}, 'the key "b" is missing'),
    ],
)  # fmt: skip
def test_every_keyword_has_its_sentence(schema, data, told):
    assert faults(schema, data) == [told]


PERSON = {
    "$id": "https://example.com/person",
    "type": "object",
    "required": ["name", "age"],
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "odd key": {"items": {"$ref": "#/$defs/pet"}},
    },
    "$defs": {
        "pet": {
            "oneOf": [
                {"type": "object", "required": ["kind"], "properties": {"kind": {"const": "dog"}}},
                {"type": "string"},
            ]
        }
    },
}


def test_places_are_paths():
    assert faults(PERSON, {"name": 1, "odd key": ["rex", {"kind": "cat"}, 5]}) == [
        "name: 1 is not text",
        '["odd key"][1].kind: "cat" is not "dog"',
        '["odd key"][2]: 5 is not an object or text',
        'the key "age" is missing',
    ]


def test_what_fits_has_no_faults():
    assert faults(PERSON, {"name": "x", "age": 1.0, "odd key": ["rex", {"kind": "dog"}]}) == []


def test_no_more_than_ten_faults_are_told():
    assert faults({"items": {"type": "null"}}, [1] * 50) == [
        f"[{n}]: 1 is not null" for n in range(10)
    ]


def test_values_are_cut_and_made_visible():
    [told] = faults({"type": "null"}, "\u202e\x1b[2J" + "x" * 1000)
    assert told == f'"\\u202e\\u001b[2J{"x" * 63}… is not null'
    [told] = faults({"type": "null"}, [{"key": "x" * 1000}] * 1000)
    assert told == f'[{{"key": "{"x" * 69}… is not null'


def test_a_schema_is_compiled_once():
    assert compile_schema({"a": 1, "b": 2}) is compile_schema({"b": 2, "a": 1})


# agreement with jsonschema's own keywords, where the pattern is one for both

ATOMS = st.sampled_from([None, True, False, 0, 1, 1.0, 2, 0.5, "", "a", "ab", "b"])
KEYS = st.sampled_from(["a", "ab", "b"])
DATA = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner), max_leaves=8
)
PATTERNS = st.sampled_from(["^a", "b$", "."])


def schemas(inner):
    listed = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", "number", "integer"]),
            "required": st.lists(KEYS, unique=True),
            "dependentRequired": st.dictionaries(KEYS, st.lists(KEYS, unique=True)),
            "dependentSchemas": st.dictionaries(KEYS, inner),
            "properties": st.dictionaries(KEYS, inner),
            "patternProperties": st.dictionaries(PATTERNS, inner),
            "additionalProperties": inner,
            "unevaluatedProperties": inner,
            "items": inner,
            "prefixItems": listed,
            "contains": inner,
            "unevaluatedItems": inner,
            "uniqueItems": st.booleans(),
            "pattern": PATTERNS,
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "anyOf": listed,
            "oneOf": listed,
            "allOf": listed,
            "if": inner,
            "then": inner,
            "else": inner,
            "not": inner,
            "$ref": st.just("#/$defs/a"),
        },
    )


SCHEMAS = st.recursive(st.booleans() | st.just({}), schemas, max_leaves=6)


def without_reference(schema):
    match schema:
        case dict():
            return {k: without_reference(v) for k, v in schema.items() if k != "$ref"}
        case list():
            return [without_reference(part) for part in schema]
        case _:
            return schema


@given(SCHEMAS, SCHEMAS.map(without_reference), DATA)
def test_data_fits_as_by_the_standard_keywords(schema, referred, data):
    whole = {"allOf": [schema], "$defs": {"a": referred}}
    stock = Draft202012Validator(whole)
    assert (faults(whole, data) == []) is stock.is_valid(data)


REST = {"unevaluatedProperties": False}
TAIL = {"unevaluatedItems": False}


@pytest.mark.parametrize(
    ("schema", "data", "keys"),
    [
        ({**REST, "properties": {"a": {}}}, {"a": 1, "b": 1}, ["b"]),
        ({**REST, "patternProperties": {"^a": {}}}, {"ab": 1, "b": 1}, ["b"]),
        ({**REST, "additionalProperties": {}}, {"a": 1}, []),
        ({**REST, "allOf": [{"unevaluatedProperties": {}}]}, {"a": 1}, []),
        ({**REST, "allOf": [{"properties": {"a": {}}}, True]}, {"a": 1, "b": 1}, ["b"]),
        ({**REST, "anyOf": [{"properties": {"a": {"const": 2}}}, True]}, {"a": 1}, ["a"]),
        ({**REST, "oneOf": [{"required": ["b"]}, {"properties": {"a": {}}}]}, {"a": 1}, []),
        ({**REST, "if": {"properties": {"a": {}}}}, {"a": 1, "b": 1}, ["b"]),
        ({**REST, "if": {}, "then": {"properties": {"a": {}}}}, {"a": 1, "b": 1}, ["b"]),
        ({**REST, "if": False, "else": {"properties": {"a": {}}}}, {"a": 1, "b": 1}, ["b"]),
        ({**REST, "if": False, "then": {"properties": {"a": {}}}}, {"a": 1}, ["a"]),
        ({**REST, "dependentSchemas": {"a": {"properties": {"a": {}}}}}, {"a": 1, "b": 1}, ["b"]),
        ({**REST, "dependentSchemas": {"b": {"properties": {"a": {}}}}}, {"a": 1}, ["a"]),
        ({**REST, "$ref": "#/$defs/a", "$defs": {"a": {"properties": {"a": {}}}}}, {"a": 1}, []),
        ({**REST, "items": {}}, {"a": 1}, ["a"]),
        ({**TAIL, "items": {}}, [1], []),
        ({**TAIL, "allOf": [{"unevaluatedItems": {}}]}, [1], []),
        ({**TAIL, "prefixItems": [{}]}, [1, 2], [1]),
        ({**TAIL, "contains": {"const": 2}}, [1, 2], [0]),
        ({**TAIL, "anyOf": [{"prefixItems": [{}]}, {"prefixItems": [{}, {}]}]}, [1, 2], []),
        ({**TAIL, "properties": {"a": {}}, "dependentSchemas": {"a": {}}}, [5], [0]),
    ],
)
def test_what_no_keyword_speaks_of_is_unevaluated(schema, data, keys):
    told = [
        f'the key "{key}" is not allowed'
        if isinstance(key, str)
        else f"[{key}]: {data[key]} is not allowed here"
        for key in keys
    ]
    assert faults(schema, data) == told


# hostile schemas and answers

LONG_KEY = {"a" * 100_000 + "b": 1}


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ({"not": {"pattern": "(a+)+$"}}, "a" * 100_000 + "b"),
        ({"patternProperties": {"(a+)+$": False}}, LONG_KEY),
        ({"patternProperties": {"(a+)+$": {}}, "additionalProperties": {}}, LONG_KEY),
        ({"patternProperties": {"(a+)+$": {}}, "unevaluatedProperties": {}}, LONG_KEY),
        ({"uniqueItems": True}, [[n, {}, None] for n in range(50_000)]),
        ({"prefixItems": [{}] * 500, "unevaluatedItems": True}, [0] * 50_000),
        ({"multipleOf": 0.01}, 10**300),
    ],
)  # fmt: skip
def test_what_would_take_long_does_not(schema, data):
    started = time.process_time()
    assert faults(schema, data) == []
    assert time.process_time() - started < 2


def test_work_has_a_limit():
    branch = {"anyOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}]}
    schema = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": branch}}}
    data = 1
    for _ in range(30):
        data = [data]
    told = "checking it against its schema takes too long; make it shorter"
    assert faults(schema, data) == [told]
    assert faults(schema, [[]]) == []


def test_a_schema_that_never_ends_is_told():
    told = "it is nested too deep to check it against its schema"
    assert faults({"$ref": "#"}, 1) == [told]


# the schema itself

NO_SCHEMA = "leads to something that is not a schema"
NO_ADDRESS = "is not an address; correct it, or remove it"
NOWHERE = "leads to no part of this schema, and nothing is fetched; put what it means under $defs"
RE2 = "write it in RE2 syntax: no look-around, no back references"
INVALID = "the pattern is not valid:"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
OLD = "http://json-schema.org/draft-07/schema#"
OPEN = f"{INVALID} missing ): (; {RE2}"
ONLY_TOP = "only the top of a schema may say $schema; remove it"
TYPES = '"array", "boolean", "integer", "null", "number", "object", "string"'


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ({"type": "strng"}, ("type",), f'"strng" is none of {TYPES}'),
        ({"properties": {"a": {"type": 5}}}, ("properties", "a", "type"), f"5 is none of {TYPES}"),
        ({"type": ["string", "nul"]}, ("type", 1), f'"nul" is none of {TYPES}'),
        ({"required": "a"}, ("required",), '"a" is not a list'),
        ({"items": 5}, ("items",), "5 is not an object or true or false"),
        ({"minLength": -1}, ("minLength",), "-1 is less than 0"),
        ({"$ref": "#/x"}, ("$ref",), f'"#/x" {NOWHERE}'),
        ({"$ref": "#/required/x", "required": ["a"]}, ("$ref",), f'"#/required/x" {NOWHERE}'),
        ({"anyOf": [{"$ref": "https://x/y"}]}, ("anyOf", 0, "$ref"), f'"https://x/y" {NOWHERE}'),
        ({"$dynamicRef": "#a"}, ("$dynamicRef",), f'"#a" {NOWHERE}'),
        ({"$ref": "#/x", "x": 5}, ("$ref",), f'"#/x" {NO_SCHEMA}'),
        ({"$ref": "#/x", "x": {"type": 5}}, ("$ref",), f'"#/x" {NO_SCHEMA}'),
        ({"$ref": "#/x", "x": {"$schema": "urn:x"}}, ("$ref",), f'"#/x" {NO_SCHEMA}'),
        ({"$ref": "#/x", "x": {"$ref": "#/y"}}, ("x", "$ref"), f'"#/y" {NOWHERE}'),
        ({"pattern": "(?=a)"}, ("pattern",), f"{INVALID} invalid perl operator: (?=; {RE2}"),
        ({"$ref": "#/x", "x": {"pattern": "("}}, ("x", "pattern"), OPEN),
        ({"patternProperties": {"(": {}}}, ("patternProperties", "("), OPEN),
        ({"$schema": OLD}, ("$schema",), f'"{OLD}" is not read; write {DIALECT}, or remove it'),
        ({"not": {"$schema": DIALECT, "pattern": "("}}, ("not", "$schema"), ONLY_TOP),
        ({"not": {"$id": "//[a"}}, ("not", "$id"), f'"//[a" {NO_ADDRESS}'),
        ({"required": ["b", "a", "a"]}, ("required",), 'items 1 and 2 are the same: "a"'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_schema_is_told_with_its_place(schema, path, message):
    assert schema_faults(schema) == ((path, message),)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$schema": DIALECT},
        {"$ref": "#/not", "not": {"$ref": "#/$defs/b~1c"}, "$defs": {"b/c": {}}},
        {"$ref": "#b", "$defs": {"a": {"$anchor": "b"}}},
        {"$id": "http://a/", "$ref": "b", "$defs": {"a": {"$id": "http://a/b"}}},
        {"properties": {"$ref": {}, "pattern": {}, "$schema": {}}},
        {"const": {"$ref": "x", "$schema": "y", "pattern": "("}},
        {"$ref": "#/x", "x": {"type": "null"}},
        {"type": "string", "format": "date", "unknown": ["(", 5]},
    ],
)  # fmt: skip
def test_a_schema_that_is_valid_has_no_faults(schema):
    assert schema_faults(schema) == ()
    assert isinstance(faults(schema, {}), list)


def test_a_schema_nested_without_end_is_told():
    schema = {}
    for _ in range(2_000):
        schema = {"not": schema}
    assert schema_faults(schema) == (((), "it is nested too deep"),)


def test_a_schema_that_is_not_valid_is_not_compiled():
    with pytest.raises(StepError) as caught:
        compile_schema({"properties": {"a": {"minimum": "3"}}})
    assert str(caught.value) == (
        'the schema is not valid: properties.a.minimum: "3" is not a number; mend the schema'
    )


MANY = 800
NAMED = {
    name: {f"d{n}": {name: f"a{n}", "type": "integer"} for n in range(MANY)}
    for name in ("$anchor", "$id")
}


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": NAMED["$anchor"], "allOf": [{"$ref": f"#a{n}"} for n in range(MANY)]},
        {"$defs": NAMED["$id"], "allOf": [{"$ref": f"a{n}"} for n in range(MANY)]},
        {
            "$id": "http://localhost/x",
            "$defs": {
                f"d{n}": {"$id": f"a{n}", "$ref": f"a{n + 1}"} if n < MANY else {"$id": f"a{n}"}
                for n in range(MANY + 1)
            },
        },
        {"x": {"anyOf": [{}] * 100}, "allOf": [{"$ref": "#/x"} for _ in range(MANY)]},
    ],
)  # fmt: skip
def test_many_references_are_followed_in_linear_time(schema):
    started = time.process_time()
    assert schema_faults(schema) == ()
    assert faults(schema, 0) == []
    assert time.process_time() - started < 4


def test_long_lists_of_different_kinds_are_compared_in_linear_time():
    started = time.process_time()
    names = [f"n{n}" for n in range(20_000)]
    assert schema_faults({"required": [*names, 1]}) == ((("required", 20_000), "1 is not text"),)
    nested = {"properties": {"a": {"required": [*names, 1]}}}
    path = ("properties", "a", "required", 20_000)
    assert schema_faults(nested) == ((path, "1 is not text"),)
    assert time.process_time() - started < 4


def test_the_schemas_of_one_flow_have_a_limit_together():
    inspection = Inspection()
    half = {"enum": [True] * (MAX_PARTS // 2 - 1)}
    told = "schemas may have 10,000 parts in one flow, and this goes beyond; shorten them"
    assert inspection.schema(half) == ()
    assert inspection.schema({**half, "title": "x", "not": {"not": False}}) == (((), told),)
    assert inspection.schema({**half, "title": "y"}) == ()
    assert inspection.schema(dict(half)) == ()
    assert inspection.schema({}) == (((), told),)


def test_the_patterns_of_one_flow_have_a_limit_together():
    inspection = Inspection()
    large = "(a|b|c|d){1,900}" * 5
    fitting = MAX_PROGRAM // compiled(f"{large}000").size + 1
    told = "the patterns before it are as large as those of one flow may be; shorten them"
    assert {inspection.pattern(f"{large}{n:03}") for n in range(fitting)} == {None}
    assert inspection.pattern("a") == told
    assert inspection.pattern(f"{large}000") is None
    assert inspection.schema({"not": {"pattern": "a"}}) == ((("not", "pattern"), told),)


def test_patterns_that_are_too_large_to_be_made_count_as_well():
    inspection = Inspection()
    told = [inspection.pattern(rf"\p{{L}}{{1,900}}{n}") for n in range(7)]
    too_large = f"{INVALID} pattern too large - compile failed; {RE2}"
    assert told[:6] == [too_large] * 6
    assert (
        told[6] == "the patterns before it are as large as those of one flow may be; shorten them"
    )


WORDS = st.sampled_from(
    ["type", "properties", "items", "$ref", "$id", "$anchor", "$schema", "pattern", "$defs", "not"]
)
ANY = st.recursive(
    ATOMS | st.sampled_from(["#", "#/x", "urn:a", "#a", "(", "string", "%zz", "//[", "http://[a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | KEYS, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(WORDS, ANY, max_size=5), DATA)
def test_any_mapping_is_a_schema_or_has_faults(schema, data):
    if not schema_faults(schema):
        assert isinstance(faults(schema, data), list)
