"""Checks an answer by a step's expectations, by rules; `judge` has the verdicts of models.

`EXPECTATIONS` at the end has the kinds of expectations by name. Nothing is asked here: a stored
answer is judged again without a request.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from poeflow.answers.differences import (
    MAX_COMPARED,
    around,
    data_difference,
    lines,
    similarity,
    text_difference,
    unified,
)
from poeflow.answers.display import MAX_FAULTS, MAX_OPTIONS, counted, one_line, quoted, shown
from poeflow.answers.json_text import is_json
from poeflow.answers.parse import Reading, json_in
from poeflow.answers.schemas import Fault, Inspection, compile_schema, schema_faults
from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.events import Verdict
from poeflow.flowfile.key_marks import Renders, templates_of
from poeflow.flowfile.model import Expectation, Similar
from poeflow.flowfile.patterns import HINT, PatternError, compiled

_TEMPLATES: Final = templates_of(Expectation)


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is judged: an answer, and whether the expectation's expression holds, or why not.

    `cost` is that of the answer in USD, `seconds` how long it took, each None if it is not known.
    """

    reading: Reading
    holds: bool | str | None = None
    cost: float | None = None
    seconds: float | None = None


Finding = tuple[str, str | None] | tuple[str, str | None, float]
"""What was expected, what was found instead (None if it is met), and maybe how well it is met."""


def _no_faults(_wanted: Any, _inspection: Inspection) -> tuple[Fault, ...]:
    return ()


class ExpectationKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of expectation, by the value that a flow file gives.

    `about` and `example` describe it in the schema and its page. `finding` judges an answer by
    the value with rendered templates, and raises `StepError` for an invalid value; it is None if a
    model or a function judges. `faults` returns what is wrong with a value before a run: (path of
    keys inside it, sentence) pairs.
    """

    about: str
    example: Json
    finding: Callable[[Any, Subject], Finding] | None
    faults: Callable[[Any, Inspection], tuple[Fault, ...]] = _no_faults


def verdict(
    expectation: Expectation,
    reading: Reading,
    *,
    holds: bool | str | None,
    cost: float | None = None,
    seconds: float | None = None,
) -> Verdict:
    """Judge an answer by one expectation whose templates are rendered.

    `holds` is the truth of `that`, or why it is not true, and None for all others, `cost` that of
    the answer in USD, `seconds` how long it took; if that is not known it is a warning. A `judge`
    is judged by `judge_verdict`, a `call` by what its function gives. Raises `StepError` for a
    pattern, a schema or a text that cannot be used.
    """
    kind = kind_of(expectation)
    finding = EXPECTATIONS[kind].finding
    if finding is None:
        raise AssertionError("it is judged by a model or a function")
    subject = Subject(reading=reading, holds=holds, cost=cost, seconds=seconds)
    expected, found, *scores = finding(getattr(expectation, kind), subject)
    message = f"expected {expected}" if found is None else f"expected {expected}, found {found}"
    is_unknown = kind == "max_seconds" and seconds is None
    is_error = expectation.level == "error"
    return Verdict(
        kind=kind,
        passed=found is None,
        level="warn" if is_unknown and is_error else expectation.level,
        message=message,
        score=scores[0] if scores else None,
        weight=expectation.weight,
    )


def is_ruled(expectation: Expectation) -> bool:
    """Return whether an expectation is judged by a rule, without a model or a function."""
    return EXPECTATIONS[kind_of(expectation)].finding is not None


def is_of_text(expectation: Expectation) -> bool:
    """Return whether the text of an answer alone decides: no model or function, price or time."""
    return is_ruled(expectation) and kind_of(expectation) not in ("max_cost", "max_seconds")


def kind_of(expectation: Expectation) -> str:
    """Return the key of the one check an expectation holds."""
    for kind in EXPECTATIONS:
        if getattr(expectation, kind) not in (None, msgspec.UNSET):
            return kind
    return "equals"  # equals: null


def templates_in(expectation: Expectation) -> Iterator[tuple[str, Json, Renders]]:
    """Yield each key with a template, its value as written, and the type that it renders to.

    The rubric and the model of a `judge` are templates of their own.
    """
    kind = kind_of(expectation)
    if kind in _TEMPLATES:
        yield kind, msgspec.to_builtins(getattr(expectation, kind)), _TEMPLATES[kind]


def expectation_faults(expectation: Expectation, inspection: Inspection) -> tuple[Fault, ...]:
    """Return what is wrong with an expectation itself: (path of keys inside it, sentence) pairs."""
    kind = kind_of(expectation)
    faults = EXPECTATIONS[kind].faults(getattr(expectation, kind), inspection)
    return tuple(((kind, *path), message) for path, message in faults)


_MAX_REASON: Final = 300


def judge_verdict(
    expectation: Expectation, *, score: float, reason: str, rubric: str = ""
) -> Verdict:
    """Return whether a judge's score reaches the threshold of an expectation.

    The weight of the expectation is shared by its rubrics.
    """
    if expectation.judge is None:
        raise AssertionError("only a judge's expectation has a threshold")
    threshold = expectation.judge.threshold
    expected = f"expected a score of at least {threshold:g}"
    where = f" for {rubric}" if rubric else ""
    why = one_line(reason, _MAX_REASON) or "no reason given"
    return Verdict(
        kind="judge",
        passed=score >= threshold,
        level=expectation.level,
        message=f"{expected}{where}, found {score:g}: {why}",
        score=score,
        weight=expectation.weight / len(expectation.judge.rubrics or [""]),
        reason=reason,
        rubric=rubric,
    )


def score_of(expectations: Sequence[Expectation], verdicts: Iterable[Verdict]) -> float:
    """Return how well an answer meets what is expected of it, from 0 to 1, by weight.

    What was not judged, as something else was amiss already, is not met.
    """
    whole = sum(expectation.weight for expectation in expectations)
    return round(sum(one.weight * one.grade for one in verdicts) / whole, 6) if whole else 1.0


def judgement_of(
    expectations: Sequence[Expectation], verdicts: Sequence[Verdict]
) -> dict[str, Json]:
    """Return what templates see of how an answer was judged.

    A warning has not passed, and neither has a default, which is not judged.
    """
    is_judged = bool(verdicts) or not expectations
    return {
        "verdicts": [
            {
                "kind": one.kind,
                "passed": one.passed,
                "level": one.level,
                "score": one.grade,
                "weight": one.weight,
                "message": one.message,
                "reason": one.reason,
                "rubric": one.rubric,
            }
            for one in verdicts
        ],
        "score": score_of(expectations, verdicts),
        "passed": is_judged and all(one.passed for one in verdicts),
    }


def _contains(wanted: str, subject: Subject) -> Finding:
    text = unified(wanted)
    is_met = text in unified(subject.reading.text)
    return f"to contain {quoted(text)}", None if is_met else _beginning(subject.reading)


def _not_contains(unwanted: str, subject: Subject) -> Finding:
    unwanted, text = unified(unwanted), unified(subject.reading.text)
    expected, at = f"not to contain {quoted(unwanted)}", text.find(unwanted)
    if at < 0:
        return expected, None
    return expected, f"{around(text, at)} in line {text.count(chr(10), 0, at) + 1}"


def _contains_any(wanted: Json, subject: Subject) -> Finding:
    texts, text = _texts_in(wanted, "contains_any"), unified(subject.reading.text)
    expected = f"to contain one of {_listed(texts)}"
    is_met = any(one in text for one in texts)
    return expected, None if is_met else _beginning(subject.reading)


def _contains_all(wanted: Json, subject: Subject) -> Finding:
    texts, text = _texts_in(wanted, "contains_all"), unified(subject.reading.text)
    missing = [one for one in texts if one not in text]
    found = f"{_beginning(subject.reading)} without {_listed(missing)}" if missing else None
    return f"to contain {_listed(texts)}", found, 1 - len(missing) / len(texts)


def _texts_in(wanted: Json, key: str) -> list[str]:
    """Return the texts of a list, a list in it taken for its items. Raises `StepError`."""
    texts: list[str] = []
    waiting = [wanted]
    while waiting:
        match waiting.pop():
            case list() as inner:
                waiting += reversed(inner)
            case str() as text if text:
                texts.append(unified(text))
            case other:
                message = f"expect: {key} must be a list of texts, and {shown(other)} is in it"
                raise StepError(message, hint="check its templates")
    if not texts:
        raise StepError(f"expect: {key} has no text", hint="check its templates")
    return texts


def _listed(texts: Sequence[str]) -> str:
    rest = len(texts) - MAX_OPTIONS
    words = [quoted(one) for one in texts[:MAX_OPTIONS]] + ([f"{rest} more"] if rest > 0 else [])
    return ", ".join(words)


def _starts_with(wanted: str, subject: Subject) -> Finding:
    """Compare what follows the space that an answer begins with."""
    text = unified(wanted)
    is_met = unified(subject.reading.text).lstrip().startswith(text.lstrip())
    return f"to start with {quoted(text)}", None if is_met else _beginning(subject.reading)


def _ends_with(wanted: str, subject: Subject) -> Finding:
    text, own = unified(wanted), unified(subject.reading.text).rstrip()
    expected = f"to end with {quoted(text)}"
    if own.endswith(text.rstrip()):
        return expected, None
    return expected, around(own, max(len(own) - len(text), 0)) if own else "nothing"


def _equals(wanted: Json, subject: Subject) -> Finding:
    """Compare with `.value`, `.data` or the text, whichever exists and has the wanted type."""
    reading = subject.reading
    if isinstance(wanted, str):
        if wanted in (reading.value, reading.data):
            return quoted(wanted), None
        return text_difference(wanted, reading.text) or (quoted(wanted), None)
    try:
        data = json_in(reading.text) if reading.data is None else reading.data
    except StepError:
        return shown(wanted), _beginning(reading)
    return data_difference(wanted, data) or (shown(wanted), None)


def _similar_to(wanted: Json, subject: Subject) -> Finding:
    """Compare as many characters as can be compared in bounded time, without the space around."""
    similar = _similar(wanted)
    one, other = "\n".join(lines(similar.text)), "\n".join(lines(subject.reading.text))
    expected = f"to be {similar.threshold:.0%} like {quoted(one)}"
    if len(one) > MAX_COMPARED:
        message = f"expect: similar_to has {len(one):,} characters"
        raise StepError(message, hint=f"only {MAX_COMPARED:,} can be compared")
    if len(other) > MAX_COMPARED:
        return expected, f"{len(other):,} characters, which are not compared", 0.0
    score = round(similarity(one, other), 6)
    found = None if score >= similar.threshold else f"{score:.1%}: {_beginning(subject.reading)}"
    return expected, found, score


def _similar(wanted: Json) -> Similar:
    try:
        found = msgspec.convert(wanted, str | Similar)
    except msgspec.ValidationError as error:
        raise StepError(f"expect: similar_to: {error}", hint="check its template") from None
    similar = Similar(text=found) if isinstance(found, str) else found
    if not similar.text.strip():
        raise StepError("expect: similar_to has no text", hint="check its template")
    return similar


def _similar_faults(wanted: str | Similar, _inspection: Inspection) -> tuple[Fault, ...]:
    text = wanted if isinstance(wanted, str) else wanted.text
    path = () if isinstance(wanted, str) else ("text",)
    if len(text) > MAX_COMPARED:
        return ((path, f"only {MAX_COMPARED:,} characters can be compared"),)
    return tuple((path, fault) for _, fault in _blank_faults(text, _inspection))


def _blank_faults(wanted: str, _inspection: Inspection) -> tuple[Fault, ...]:
    """Refuse a blank text where the space around an answer does not count: all would meet it."""
    return (
        ()
        if wanted.strip()
        else (((), "the text is blank, and space there is not compared; write what it must be"),)
    )


_MAX_EXPRESSION: Final = 200


def _matches(wanted: str, subject: Subject) -> Finding:
    """Search the text, with and without the space around it: `$` takes no final line break."""
    try:
        pattern = compiled(wanted)
    except PatternError as error:
        raise StepError(f"expect: matches: {error}", hint=HINT) from None
    text = unified(subject.reading.text)
    is_met = pattern.is_in(text) or pattern.is_in(text.strip())
    expected = f"to match {one_line(wanted, _MAX_EXPRESSION)}"
    return expected, None if is_met else _beginning(subject.reading)


def _pattern_faults(wanted: str, inspection: Inspection) -> tuple[Fault, ...]:
    fault = inspection.pattern(wanted) if "{{" not in wanted else None
    return (((), fault),) if fault else ()


def _min_length(least: int, subject: Subject) -> Finding:
    has = len(subject.reading.text)
    return f"at least {counted(least, 'character')}", None if has >= least else f"{has:,}"


def _max_length(most: int, subject: Subject) -> Finding:
    has = len(subject.reading.text)
    return f"at most {counted(most, 'character')}", None if has <= most else f"{has:,}"


def _is_json(wanted: Json, subject: Subject) -> Finding:
    """Read the text as one JSON document with nothing around it."""
    expected = "JSON and nothing else" if wanted else "no JSON"
    is_met = is_json(subject.reading.text) is bool(wanted)
    return expected, None if is_met else _beginning(subject.reading)


def _json_schema(wanted: dict[str, Json], subject: Subject) -> Finding:
    schema, reading = compile_schema(wanted), subject.reading
    expected = "to fit json_schema"
    try:
        data = json_in(reading.text, schema) if reading.data is None else reading.data
    except StepError as error:
        return expected, f"that {error.message}"
    faults = schema.faults(data)
    more = len(faults) - MAX_FAULTS
    found = "; ".join(faults[:MAX_FAULTS]) + (f"; and {more} more" if more > 0 else "")
    return expected, found or None


def _schema_faults(wanted: dict[str, Json], inspection: Inspection) -> tuple[Fault, ...]:
    return tuple(schema_faults(wanted, inspection))


def _that(expression: str, subject: Subject) -> Finding:
    if subject.holds is None:
        raise AssertionError("the caller, which has the templates, evaluates `that`")
    expected = f"that {one_line(expression, _MAX_EXPRESSION)}"
    return expected, None if subject.holds is True else subject.holds or "that it is not so"


def _max_cost(most: float, subject: Subject) -> Finding:
    expected = f"a cost of at most ${most:g}"
    if subject.cost is None:
        return expected, "that its price is not known"
    return expected, None if subject.cost <= most else f"${subject.cost:g}"


def _max_seconds(most: float, subject: Subject) -> Finding:
    expected = f"an answer within {most:g} s"
    if subject.seconds is None:
        return expected, "no time stored with it, so that this is not judged; --refresh asks again"
    return expected, None if subject.seconds <= most else f"{subject.seconds:g} s"


def _beginning(reading: Reading) -> str:
    return quoted(reading.text) if reading.text.strip() else "nothing"


EXPECTATIONS: Final[Mapping[str, ExpectationKind]] = {
    "contains": ExpectationKind(
        about="A text that the answer must contain; a template, which must not render to nothing.",
        example="poeflow",
        finding=_contains,
    ),
    "not_contains": ExpectationKind(
        about="A text that the answer must not contain; a template.",
        example="As an AI",
        finding=_not_contains,
    ),
    "contains_any": ExpectationKind(
        about="Texts of which one must be there.",
        example=["Berlin", "Paris"],
        finding=_contains_any,
    ),
    "contains_all": ExpectationKind(
        about="Texts that must all be there.", example=["Berlin", "Paris"], finding=_contains_all
    ),
    "starts_with": ExpectationKind(
        about="How the text must begin; a template.",
        example="Dear",
        finding=_starts_with,
        faults=_blank_faults,
    ),
    "ends_with": ExpectationKind(
        about="How the text must end; a template.",
        example="?",
        finding=_ends_with,
        faults=_blank_faults,
    ),
    "equals": ExpectationKind(
        about="The value that the answer must equal: its text, `.data` or `.value`.",
        example="yes",
        finding=_equals,
    ),
    "similar_to": ExpectationKind(
        about="A text it must resemble, by the share of characters that need no edit.",
        example={"text": "{{ item.reference }}", "threshold": 0.9},
        finding=_similar_to,
        faults=_similar_faults,
    ),
    "matches": ExpectationKind(
        about="A regular expression (RE2 syntax) that must be found in the answer.",
        example="^# ",
        finding=_matches,
        faults=_pattern_faults,
    ),
    "min_length": ExpectationKind(
        about="Minimum length of the answer, in characters.", example=10, finding=_min_length
    ),
    "max_length": ExpectationKind(
        about="Maximum length of the answer, in characters.", example=4000, finding=_max_length
    ),
    "is_json": ExpectationKind(
        about="Whether the text must be one JSON document and nothing else.",
        example=True,
        finding=_is_json,
    ),
    "json_schema": ExpectationKind(
        about="JSON Schema that the answer's data must fit.",
        example={"type": "object"},
        finding=_json_schema,
        faults=_schema_faults,
    ),
    "that": ExpectationKind(
        about="An expression that must be true; `output` is the answer.",
        example="output.text | length < 4000",
        finding=_that,
    ),
    "max_cost": ExpectationKind(
        about="Most US dollars the answer may cost, by its tokens and the price of its model.",
        example=0.01,
        finding=_max_cost,
    ),
    "max_seconds": ExpectationKind(
        about="Most seconds the answer may take, from its first send to its end, retries included."
        " The wait for a rate limit before that does not count.",
        example=20,
        finding=_max_seconds,
    ),
    "call": ExpectationKind(
        about="A Python function of the project that judges the answer. Run only with"
        " --allow-tools.",
        example="checks:is_polite",
        finding=None,
    ),
    "judge": ExpectationKind(
        about="Another request: a model rates the answer by a rubric, from 0 to 1.",
        example={"rubric": "Is it polite?"},
        finding=None,
    ),
}
