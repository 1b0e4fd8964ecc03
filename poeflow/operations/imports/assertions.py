"""promptfoo's assertions as the expectations of a flow.

https://www.promptfoo.dev/docs/configuration/expected-outputs/ lists them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.operations.imports.foreign_file import Source, dict_in, list_in, texts_of

Texts: TypeAlias = Callable[[str], str]
"""Gives a template of the other tool as one of the flow."""


class Assertion(msgspec.Struct, frozen=True):
    """One assertion of a test: `text` is its value if that is a text, `rest` is all else of it.

    Tests whose assertions differ in their texts alone can share a step.
    """

    kind: str
    is_negated: bool
    text: str | None
    rest: str

    @property
    def shape(self) -> tuple[object, ...]:
        """All that the tests of a step must have in common."""
        own = None if self.kind in _BY_TEXT else self.text
        return (self.kind, self.is_negated, self.text is None, own, self.rest)


def assertions_in(given: Json, source: Source, at: KeyPath) -> Iterator[Assertion]:
    """Yield the assertions of a test that can be taken over, and note the others."""
    for index, one in enumerate(list_in(given)):
        entry = dict_in(one)
        kind = str(entry.get("type", ""))
        if kind == "assert-set":
            source.note((*at, index), "the assertions of a set are judged one by one")
            yield from assertions_in(entry.get("assert"), source, (*at, index, "assert"))
            continue
        is_negated = kind.startswith("not-")
        kind = kind.removeprefix("not-")
        value = entry.get("value")
        if (kind not in _KINDS) or (is_negated and kind not in _NEGATED):
            source.note((*at, index), f"the assertion {entry.get('type')} is not taken over", _HINT)
            continue
        text = str(value) if isinstance(value, str | int | float) else None
        rest = {
            key: part
            for key, part in entry.items()
            if key in ("threshold", "weight") or (key == "value" and text is None)
        }
        source.note_rest((*at, index), entry, _KNOWN)
        yield Assertion(kind, is_negated, text, encode_json(rest).decode())


def expectations(
    assertions: Sequence[Assertion], columns: Sequence[str | None], rewritten: Texts
) -> list[Json]:
    """Return expectations for the assertions that tests share.

    Each of `columns` is the expression for a text that differs among the tests, or None.
    `rewritten` gives a text of the tool as a template of the flow.
    """
    found: list[Json] = []
    for assertion, column in zip(assertions, columns, strict=True):
        rest = json.loads(assertion.rest)
        text = f"{{{{ {column} }}}}" if column else rewritten(assertion.text or "")
        lists = [rewritten(one) for one in _words(assertion, rest.get("value"))]
        given = _Given(assertion, text, lists, rest.get("value"), rest.get("threshold"))
        weight = {"weight": rest["weight"]} if rest.get("weight", 1) not in (0, 1) else {}
        found.append({**_KINDS[assertion.kind](given), "level": "score", **weight})
    return found


def _words(assertion: Assertion, value: Json) -> list[str]:
    """Return the texts of an assertion: a list, or words with commas."""
    if assertion.text is not None:
        return [word.strip() for word in assertion.text.split(",")]
    return texts_of(value)


class _Given(msgspec.Struct, frozen=True):
    """An assertion with its text as a template, its texts if it has several, and its settings."""

    assertion: Assertion
    text: str
    texts: list[str]
    value: Json
    threshold: Json

    @property
    def expression(self) -> str:
        """The text in an expression: without its braces, if it is all in them, else quoted."""
        inner = self.text.strip().removeprefix("{{").removesuffix("}}")
        is_one = len(inner) == len(self.text.strip()) - 4 and "{{" not in inner
        return inner.strip() if is_one else encode_json(self.text).decode()


def _contains(given: _Given) -> dict[str, Json]:
    return {"not_contains" if given.assertion.is_negated else "contains": given.text}


def _icontains(given: _Given) -> dict[str, Json]:
    word = "not in" if given.assertion.is_negated else "in"
    return {"that": f"{given.expression} | lower {word} output.text | lower"}


def _equals(given: _Given) -> dict[str, Json]:
    if given.assertion.is_negated:
        return {"that": f"output.text != {given.expression}"}
    return {"equals": given.text if given.assertion.text is not None else given.value}


def _regex(given: _Given) -> dict[str, Json]:
    if given.assertion.is_negated:
        return {"that": f"not output.text | regex_find({given.expression})"}
    return {"matches": given.assertion.text}


def _json(given: _Given) -> dict[str, Json]:
    return {"is_json": True} if given.value is None else {"json_schema": given.value}


def _rubric(given: _Given) -> dict[str, Json]:
    least = {} if given.threshold is None else {"threshold": given.threshold}
    return {"judge": {"rubric": given.text, **least}}


def _cost(given: _Given) -> dict[str, Json]:
    return {"max_cost": given.threshold}


def _latency(given: _Given) -> dict[str, Json]:
    limit = given.threshold
    return {"max_seconds": limit / 1000 if isinstance(limit, int | float) else limit}


_KINDS: Final[Mapping[str, Callable[[_Given], dict[str, Json]]]] = {
    "contains": _contains,
    "icontains": _icontains,
    "contains-any": lambda given: {"contains_any": [*given.texts]},
    "contains-all": lambda given: {"contains_all": [*given.texts]},
    "starts-with": lambda given: {"starts_with": given.text},
    "equals": _equals,
    "regex": _regex,
    "is-json": _json,
    "contains-json": _json,
    "llm-rubric": _rubric,
    "model-graded-closedqa": _rubric,
    "g-eval": _rubric,
    "cost": _cost,
    "latency": _latency,
}
_NEGATED: Final = frozenset({"contains", "icontains", "equals", "regex"})
_BY_TEXT: Final = frozenset({"contains", "icontains", "starts-with", "equals", "llm-rubric"})
"""Kinds whose text may come from the data of a test."""
_KNOWN: Final = frozenset({"type", "value", "threshold", "weight", "metric"})
_HINT: Final = "write it as `that:` an expression, or `judge:`"
