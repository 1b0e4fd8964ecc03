"""promptfoo's assertions as the expectations of a flow.

https://www.promptfoo.dev/docs/configuration/expected-outputs/ lists them.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.flowfile.patterns import PatternError, compiled
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.bot_names import BotNames
from poeflow.operations.imports.foreign_file import FILE, Source, dict_in, list_in

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


class AssertionReader:
    """Reads the assertions of a configuration; `bots` finds the models of judges."""

    def __init__(self, source: Source, bots: BotNames) -> None:
        self._source = source
        self._bots = bots

    def read(self, given: Json, at: KeyPath, judge: Json = None) -> Iterator[Assertion]:
        """Yield the assertions of a test that can be taken over, and note the others.

        `judge` is the provider of those that a model judges, if they name none.
        """
        for index, one in enumerate(list_in(given)):
            entry, place = dict_in(one), (*at, index)
            if entry.get("type") == "assert-set":
                self._source.note(place, "the assertions of a set are judged one by one")
                self._source.note_rest(place, entry, frozenset({"type", "assert"}))
                yield from self.read(entry.get("assert"), (*place, "assert"), judge)
                continue
            found = self._one(entry, place, judge)
            if found is not None:
                yield found

    def _one(self, entry: dict[str, Json], at: KeyPath, judge: Json) -> Assertion | None:
        said = str(entry.get("type") or "without a type")
        known = _in_words(entry)
        is_negated = str(known.get("type")).startswith("not-")
        kind = str(known.get("type")).removeprefix("not-")
        value = known.get("value")
        if kind in _KINDS and isinstance(value, str) and value.startswith(FILE):
            value = (self._source.read(value, (*at, "value")) or "").rstrip("\n")
        text = _said(value)
        problem = _problem(kind, text, value, known) if kind in _KINDS else "is not taken over"
        if is_negated and kind not in _NEGATED:
            problem = "is not taken over"
        if problem:
            hint = "" if entry.get("weight") == 0 else _meant(kind) or _HINT
            self._source.note(at, f"the assertion {said} {problem}", hint)
            return None
        rest: dict[str, Json] = {key: known[key] for key in ("threshold", "weight") if key in known}
        if text is None and value is not None:
            rest["value"] = value
        if kind == "is-json" and value is not None:
            hint = "write it in `output: {schema: ...}` of the step"
            self._source.note((*at, "value"), "the schema of is-json is not taken over", hint)
            rest.pop("value", None)
            text = None
        self._source.note_rest(at, entry, _KNOWN | ({"provider"} if kind in _JUDGED else set()))
        if kind in _JUDGED:
            rest |= self._judge(known.get("provider", judge), at)
        return Assertion(kind, is_negated, text, encode_json(rest).decode())

    def _judge(self, provider: Json, at: KeyPath) -> dict[str, Json]:
        """Return the model of a judge that an assertion or the options of a test name."""
        entry = {"id": provider} if isinstance(provider, str) else dict_in(provider)
        entry = dict_in(entry.get("text")) or entry
        name = entry.get("id")
        if not isinstance(name, str):
            return {}
        self._source.note_rest((*at, "provider"), entry, frozenset({"id", "label"}))
        return {"model": self._bots.find(name, self._source, at)}


def _meant(kind: str) -> str:
    """Return a hint for a misspelt kind; promptfoo has others whose names are a little alike."""
    from difflib import get_close_matches

    near = [] if kind in _KINDS else get_close_matches(kind, _KINDS, n=1, cutoff=_ALIKE)
    return f'did you mean "{near[0]}"?' if near else ""


def _said(value: Json) -> str | None:
    """Return a value as a text, None if it is none."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def _problem(kind: str, text: str | None, value: Json, entry: Mapping[str, Json]) -> str:
    """Return why an assertion of a known kind is not taken over, empty if it is."""
    if entry.get("weight") == 0:
        return "of weight 0 is left out: it never fails"
    if kind in _LIMITS:
        return "" if isinstance(entry.get("threshold"), int | float) else "has no threshold"
    if kind in _OF_TEXT and not text:
        return "has no text as its value"
    if kind in _OF_TEXTS and not (text or list_in(value)):
        return "has no texts as its value"
    if kind == "regex":
        try:
            compiled(text or "")
        except PatternError as error:
            return f"is not taken over: {error}"
    return ""


def _in_words(entry: dict[str, Json]) -> dict[str, Json]:
    """Return an assertion; one of a short kind of code as the assertion that says the same."""
    if entry.get("type") not in ("javascript", "python"):
        return entry
    code = str(entry.get("value", "")).strip().removeprefix("return ").rstrip(";").strip()
    for pattern, kind in _CODE:
        match = pattern.fullmatch(code)
        if match is not None:
            return {**entry, "type": kind, "value": match["value"]}
    match = _LENGTH.fullmatch(code)
    if match is None:
        return entry
    sign = match["sign"].replace("===", "==").replace("!==", "!=")
    return {**entry, "type": "length", "value": f"{sign} {match['value']}"}


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
        settings = (rest.get(key) for key in ("value", "threshold", "model"))
        given = _Given(assertion, text, lists, *settings)
        weight = {"weight": rest["weight"]} if rest.get("weight", 1) not in (0, 1) else {}
        found.append({**_KINDS[assertion.kind](given), "level": "score", **weight})
    return found


def _words(assertion: Assertion, value: Json) -> list[str]:
    """Return the texts of an assertion: a list, or words with commas."""
    if assertion.text is not None:
        row = next(csv.reader([assertion.text], skipinitialspace=True), [])
        return [word.strip() for word in row]
    return [said for one in list_in(value) if (said := _said(one))]


class _Given(msgspec.Struct, frozen=True):
    """An assertion with its text as a template, its texts if it has several, and its settings."""

    assertion: Assertion
    text: str
    texts: list[str]
    value: Json
    threshold: Json
    model: Json

    @property
    def no(self) -> str:
        """What an expression of the assertion begins with."""
        return "not " if self.assertion.is_negated else ""

    @property
    def expression(self) -> str:
        return _expression(self.text)


def _expression(text: str) -> str:
    """Return a text in an expression: without its braces, if it is all in them, else quoted."""
    parts = re.split(r"\{\{(.*?)\}\}", text)
    words = [
        f"({one.strip()})" if at % 2 and "|" in one else one.strip() if at % 2 else _quoted(one)
        for at, one in enumerate(parts)
        if one or at % 2
    ]
    return " ~ ".join(words) or '""'


def _quoted(text: str) -> str:
    return encode_json(text).decode()


def _contains(given: _Given) -> dict[str, Json]:
    return {"not_contains" if given.assertion.is_negated else "contains": given.text}


def _icontains(given: _Given) -> dict[str, Json]:
    return _has(given, [given.text], is_folded=True)


def _several(given: _Given) -> dict[str, Json]:
    """Return an expectation for several texts; those without an own kind are an expression."""
    kind = given.assertion.kind
    if kind.startswith("i") or given.assertion.is_negated:
        return _has(given, given.texts, is_folded=kind.startswith("i"))
    return {kind.replace("-", "_"): [*given.texts]}


def _has(given: _Given, texts: Sequence[str], *, is_folded: bool) -> dict[str, Json]:
    """Return an expectation for texts in the answer, of which one or all must be there."""
    fold = " | lower" if is_folded else ""
    found = []
    for text in texts:
        word = _expression(text.lower() if is_folded and "{" not in text else text)
        if "{" in text:
            word = f"({word}){fold}" if " ~ " in word else f"{word}{fold}"
        found.append(f"{word} in output.text{fold}")
    if len(found) == 1:
        one = found[0]
        return {"that": one.replace(" in output", " not in output") if given.no else one}
    joined = (" and " if given.assertion.kind.endswith("all") else " or ").join(found)
    return {"that": f"not ({joined})" if given.no else joined}


def _starts_with(given: _Given) -> dict[str, Json]:
    if not given.assertion.is_negated:
        return {"starts_with": given.text}
    return {"that": f"not output.text.startswith({given.expression})"}


def _length(given: _Given) -> dict[str, Json]:
    return {"that": f"output.text | length {given.text}"}


def _equals(given: _Given) -> dict[str, Json]:
    if given.assertion.is_negated:
        return {"that": f"output.text != {given.expression}"}
    return {"equals": given.text if given.assertion.text is not None else given.value}


def _regex(given: _Given) -> dict[str, Json]:
    if given.assertion.is_negated:
        return {"that": f"not output.text | regex_find({given.expression})"}
    return {"matches": given.assertion.text}


def _json(given: _Given) -> dict[str, Json]:
    return {"is_json": not given.assertion.is_negated}


def _rubric(given: _Given) -> dict[str, Json]:
    least = {} if given.threshold is None else {"threshold": given.threshold}
    model = {"model": given.model} if given.model else {}
    return {"judge": {"rubric": given.text, **model, **least}}


def _cost(given: _Given) -> dict[str, Json]:
    return {"max_cost": given.threshold}


def _latency(given: _Given) -> dict[str, Json]:
    limit = given.threshold
    return {"max_seconds": limit / 1000 if isinstance(limit, int | float) else limit}


_KINDS: Final[Mapping[str, Callable[[_Given], dict[str, Json]]]] = {
    "contains": _contains,
    "icontains": _icontains,
    "contains-any": _several,
    "contains-all": _several,
    "icontains-any": _several,
    "icontains-all": _several,
    "starts-with": _starts_with,
    "length": _length,
    "equals": _equals,
    "regex": _regex,
    "is-json": _json,
    "llm-rubric": _rubric,
    "model-graded-closedqa": _rubric,
    "g-eval": _rubric,
    "cost": _cost,
    "latency": _latency,
}
_NEGATED: Final = frozenset(
    {
        *("contains", "icontains", "contains-any", "contains-all", "icontains-any"),
        *("icontains-all", "starts-with", "equals", "regex", "is-json"),
    }
)
_JUDGED: Final = frozenset({"llm-rubric", "model-graded-closedqa", "g-eval"})
_LIMITS: Final = frozenset({"cost", "latency"})
_OF_TEXT: Final = frozenset({"contains", "icontains", "starts-with", "regex", *_JUDGED})
_OF_TEXTS: Final = frozenset({"contains-any", "contains-all", "icontains-any", "icontains-all"})
_BY_TEXT: Final = frozenset({"contains", "icontains", "starts-with", "equals", "llm-rubric"})
"""Kinds whose text may come from the data of a test."""
_KNOWN: Final = frozenset({"type", "value", "threshold", "weight"})
_TEXT_OF_CODE: Final = r"""["'`](?P<value>[^"'`\\]+)["'`]"""
_CODE: Final = (
    (lazy_pattern(rf"output\.toLowerCase\(\)\.includes\({_TEXT_OF_CODE}\)"), "icontains"),
    (lazy_pattern(rf"output\.includes\({_TEXT_OF_CODE}\)"), "contains"),
    (lazy_pattern(rf"!output\.includes\({_TEXT_OF_CODE}\)"), "not-contains"),
    (lazy_pattern(rf"output\.startsWith\({_TEXT_OF_CODE}\)"), "starts-with"),
    (lazy_pattern(rf"{_TEXT_OF_CODE} in output\.lower\(\)"), "icontains"),
    (lazy_pattern(rf"{_TEXT_OF_CODE} in output"), "contains"),
    (lazy_pattern(rf"{_TEXT_OF_CODE} not in output"), "not-contains"),
)
"""Code in JavaScript and Python, and the kind of assertion that says the same."""
_LENGTH: Final = lazy_pattern(
    r"(?:output\.length|len\(output\))\s*(?P<sign>[<>]=?|[!=]==?)\s*(?P<value>\d+)"
)
_ALIKE: Final = 0.85
_HINT: Final = "write it as `that:` an expression, or `judge:`"
