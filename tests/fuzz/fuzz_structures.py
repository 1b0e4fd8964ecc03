"""Strategies for inputs that are well formed, so that they get past the first look."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from fuzz_seeds import words
from hypothesis import strategies as st

from poeflow.digest import Json
from poeflow.flowfile.schema import bundled_schema
from poeflow.simulator.schema_values import NoInstanceError, made_up_value

Strategy = st.SearchStrategy[Any]
_NAMES: Final = st.sampled_from(["a", "b", "item", "draft", "", "$ref", "é", "a b"])
_NUMBERS: Final = st.one_of(
    st.integers(-3, 9), st.sampled_from([2**63, -(2**64), 10**40, 0.1, 1e308, -0.0, 1e-320])
)
_LEAVES: Final = st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=6))
_TYPES: Final = st.sampled_from(
    ["string", "integer", "number", "boolean", "array", "object", "null", "any", ["null", "object"]]
)
_PATTERNS: Final = st.sampled_from(
    ["^a+$", "(a|b){2,9}", "^(a+)+$", "\\d{1,900}", "[", "(?=x)", ""]
)
_REFERENCES: Final = st.sampled_from(
    ["#", "#/$defs/a", "#/$defs/b", "#a", "#/properties/a/items", "http://x/y", "b", "#/%zz", ""]
)


def jsons() -> Strategy:
    """Any JSON."""
    return st.recursive(
        _LEAVES,
        lambda one: st.lists(one, max_size=3) | st.dictionaries(_NAMES, one, max_size=3),
        max_leaves=8,
    )


def schemas() -> Strategy:
    """JSON Schemas, some of them senseless."""
    return st.recursive(st.booleans() | st.just({}), _keywords, max_leaves=8)


_OF_SCHEMAS: Final = (
    *("items", "contains", "not", "if", "then", "else", "additionalProperties", "propertyNames"),
    *("unevaluatedProperties", "unevaluatedItems"),
)
_OF_NUMBERS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength"),
    *("maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains"),
)


def _keywords(inner: Strategy) -> Strategy:
    some, named = st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)
    values: dict[Strategy, Sequence[str]] = {
        inner: _OF_SCHEMAS,
        some: ["allOf", "anyOf", "oneOf", "prefixItems"],
        named: ["properties", "$defs", "dependentSchemas"],
        st.dictionaries(_PATTERNS, inner, max_size=2): ["patternProperties"],
        _TYPES: ["type"],
        _PATTERNS: ["pattern"],
        _REFERENCES: ["$ref", "$dynamicRef", "$id", "$schema"],
        st.sampled_from(["a", "b", "a b"]): ["$anchor", "$dynamicAnchor", "format", "title"],
        _NUMBERS: _OF_NUMBERS,
        st.booleans(): ["uniqueItems"],
        st.lists(_NAMES, max_size=3): ["required"],
        st.lists(jsons(), max_size=3): ["enum"],
        jsons(): ["const", "default", "dependentRequired"],
    }
    known = {name: strategy for strategy, names in values.items() for name in names}
    pairs = st.sampled_from(sorted(known)).flatmap(
        lambda name: st.tuples(st.just(name), st.one_of(known[name], known[name], jsons()))
    )
    return st.lists(pairs, min_size=1, max_size=4).map(dict)


_ATOMS: Final = (
    *("inputs.topic", "inputs.rows", "inputs", "steps.draft.data", "steps.draft", "item", "x", "m"),
    *("loop.index", "1", "-7", "2.5", "10**9", "'a'", "'%s'", "''", "[]", "{}", "none", "true"),
    *("range(3)", "inputs.rows[0]", "namespace(a=1)"),
)
_OPERATORS: Final = ("+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or", "is")


def templates() -> Strategy:
    """Templates whose blocks are closed, around expressions that can be parsed, mostly."""
    filters = [word.decode() for word in words("template") if word.startswith(b"|")]
    expressions = st.recursive(
        st.sampled_from(_ATOMS),
        lambda one: st.one_of(
            st.tuples(one, st.sampled_from(filters)).map("".join),
            st.tuples(
                one,
                st.sampled_from(
                    ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or", "is"]
                ),
                one,
            ).map(lambda three: f"({' '.join(three)})"),
            st.tuples(one, one).map(lambda two: f"{two[0]}[{two[1]}]"),
            st.tuples(one, one, one).map(lambda three: "({} if {} else {})".format(*three)),
            st.lists(one, max_size=3).map(lambda those: f"[{', '.join(those)}]"),
            st.tuples(one, one).map(lambda two: f"{two[0]}({two[1]})"),
        ),
        max_leaves=5,
    )
    return st.recursive(st.text(max_size=4) | expressions.map("{{{{ {} }}}}".format), _blocks)


def _blocks(inner: Strategy) -> Strategy:
    openings = {
        "for": ["for x in inputs.rows", "for x in range(9) if x", "for a, b in {'a': 1}|items"],
        "if": ["if item", "if x is defined and x", "if inputs.rows | length > 1"],
        "macro": ["macro m()", "macro m(a, b=m)"],
        "call": ["call m()", "call(y) m(1, a=2)"],
        "set": ["set x", "set x | upper"],
        "filter": ["filter upper", "filter indent(2)"],
        "raw": ["raw"],
        "with": ["with x = item"],
        "autoescape": ["autoescape true"],
    }
    pairs = [(opening, name) for name, those in openings.items() for opening in those]
    return st.tuples(st.sampled_from(pairs), st.lists(inner, max_size=3).map("".join)).map(
        lambda both: f"{{% {both[0][0]} %}}{both[1]}{{% end{both[0][1]} %}}"
    ) | st.lists(inner, max_size=3).map("".join)


def documents(schema: str) -> Strategy:
    """Documents of a bundled schema, some texts of which are templates."""

    def document(seed: int, texts: list[str]) -> bytes:
        try:
            made = made_up_value(bundled_schema(schema), str(seed))
        except NoInstanceError:
            made = {}
        return json.dumps(_templated(made, Random(seed), texts)).encode()

    texts = st.lists(templates(), min_size=1, max_size=3)
    return st.builds(document, st.integers(0, 10_000), texts)


def _templated(value: Json, random: Random, texts: list[str]) -> Json:
    match value:
        case str() if random.random() < 0.3:
            return random.choice(texts)
        case dict():
            return {key: _templated(one, random, texts) for key, one in value.items()}
        case list():
            return [_templated(one, random, texts) for one in value]
        case _:
            return value
