"""Checks that the schemas of a flow are valid: those of answers and of tool parameters.

Inputs decide parts of the form of an answer: their values are put in before any step runs.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from poeflow.answers.display import quoted, shown
from poeflow.answers.expect import expectation_faults
from poeflow.answers.parse import default_reading
from poeflow.answers.schemas import Fault, Inspection, compile_schema, schema_faults
from poeflow.digest import Json
from poeflow.errors import InvalidFlowError, StepError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.model import Expectation, Output, Tool
from poeflow.flowfile.yaml_tree import Document, KeyPath
from poeflow.planning.checked import Checked
from poeflow.planning.run_inputs import early_inputs
from poeflow.problems import Place, Problem, errors_only, limited
from poeflow.project.project import FileProblem, Project
from poeflow.templates.environment import Environment
from poeflow.templates.reader import named_file, schema_in
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import TemplateFinding, Texts

MAX_NAME: Final = 64
"""The longest function name allowed: https://platform.openai.com/docs/api-reference/chat."""
_PARTS: Final = {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"}
_OPEN: Final = {"additionalProperties", "unevaluatedProperties", "patternProperties"}
_KEYWORDS: Final = _PARTS | _OPEN | {"type", "properties", "required", "$defs", "description"}


def tool_faults(tool: Tool, inspection: Inspection) -> tuple[Fault, ...]:
    """Return what is wrong with a tool: (path of keys inside it, sentence) pairs.

    The API refuses long names and parameters that are not a JSON Schema of an object.
    """
    return tuple(_tool_faults(tool, inspection))


def _tool_faults(tool: Tool, inspection: Inspection) -> Iterator[Fault]:
    if len(tool.name) > MAX_NAME:
        yield ("name",), f"the name has {len(tool.name)} characters; at most {MAX_NAME} are allowed"
    if tool.parameters and not tool.parameters.keys() & _KEYWORDS:
        yield ("parameters",), "it does not describe arguments; put their names under properties:"
        return
    faults = schema_faults(tool.parameters, inspection)
    for path, sentence in faults or _parameter_faults(tool.parameters):
        yield ("parameters", *path), sentence


def _parameter_faults(parameters: dict[str, Json]) -> Iterator[Fault]:
    """Yield why a valid schema cannot describe the arguments of a function."""
    kind = parameters.get("type", "object")
    if kind != "object":
        yield ("type",), "arguments are an object; write type: object"
        return
    properties, required = parameters.get("properties"), parameters.get("required")
    declared = properties if isinstance(properties, dict) else {}
    if parameters.keys() & (_PARTS | _OPEN) or not isinstance(required, list):
        return
    for index, name in enumerate(required):
        if name not in declared:
            sentence = f"{quoted(str(name))} is required but not declared; add it to properties:"
            yield ("required", index), sentence


_HINT: Final = "correct the schema"


class _Forms:
    """Puts the values of inputs into the forms of answers: `paths` are those of expressions.

    Those that are `unknown` are left out.
    """

    def __init__(
        self,
        document: Document,
        texts: Texts,
        paths: Collection[KeyPath],
        unknown: Collection[KeyPath],
        values: Values,
    ) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._texts = texts
        self._paths = paths
        self._unknown = unknown
        self._values = values

    def output(self, path: KeyPath, output: Output) -> Output:
        """Return the `output` of a step with these values."""
        schema, one_of = output.schema, output.one_of
        if schema is not None:
            found = self._value((*path, "schema"), schema)
            schema = found if isinstance(found, dict) else {}
        if isinstance(one_of, str):
            choices = self._value((*path, "one_of"), one_of)
            one_of = one_of if choices is msgspec.UNSET else self._choices(path, choices)
        return msgspec.structs.replace(output, schema=schema, one_of=one_of)

    def expectation(self, path: KeyPath, expectation: Expectation) -> Expectation:
        """Return an expectation with these values."""
        if expectation.json_schema is None:
            return expectation
        found = self._value((*path, "json_schema"), expectation.json_schema)
        schema = found if isinstance(found, dict) else {}
        return msgspec.structs.replace(expectation, json_schema=schema)

    def _value(self, path: KeyPath, written: Json) -> Json | msgspec.UnsetType:
        if isinstance(written, dict):
            parts = ((key, self._value((*path, key), part)) for key, part in written.items())
            return {key: part for key, part in parts if part is not msgspec.UNSET}
        if isinstance(written, list):
            items = (self._value((*path, index), part) for index, part in enumerate(written))
            return [item for item in items if item is not msgspec.UNSET]
        if path not in self._paths:
            return written
        if path in self._unknown:
            return msgspec.UNSET
        try:
            return self._texts.value(path, written, self._values)
        except TemplateError as error:
            self.problems.append(Problem(error.place, error.reason, error.hint))
            return msgspec.UNSET

    def _choices(self, path: KeyPath, found: Json) -> list[str]:
        """Return the words of `one_of` if there can be such, else one that stands for them."""
        items = found if isinstance(found, list) else []
        words = [item for item in items if isinstance(item, str) and item.strip()]
        fault = ""
        if not words or len(words) < len(items):
            fault = f"one_of must be a list of texts, not {shown(found)}"
        elif len({word.casefold() for word in words}) < len(words):
            fault = f"one_of has a word twice: {', '.join(words)}"
        if fault:
            place = self._document.place((*path, "one_of"))
            self.problems.append(Problem(place, fault, "change the input"))
        return words or ["-"]


def forms_of(found: Iterable[TemplateFinding]) -> frozenset[KeyPath]:
    """Return the places of the expressions that decide the form of an answer."""
    return frozenset(f.site.path for f in found if f.site.stage == "form")


def with_forms(
    project: Project, checked: Checked, texts: Texts, inputs: Mapping[str, Json]
) -> Checked:
    """Return a flow whose forms of answers have the values of inputs.

    Raises `InvalidFlowError` with what is wrong with these.
    """
    if not checked.forms:
        return checked
    values = checked.file.early_names(inputs)
    file, problems = _filled(checked.file, texts, checked.forms, values)
    if not problems:
        problems += schema_problems(project, file, {str(path[1]) for path in checked.forms})
    if problems:
        raise InvalidFlowError(limited(problems))
    return msgspec.structs.replace(checked, file=file)


def form_problems(
    project: Project, file: FlowFile, environment: Environment, found: Sequence[TemplateFinding]
) -> Iterator[Problem]:
    """Yield the problems in schemas, with the values of inputs as far as they are known."""
    forms, inputs = forms_of(found), early_inputs(project, file)
    if forms:
        unknown = frozenset(
            finding.site.path
            for finding in found
            if errors_only(finding.problems)
            or any(r.kind == "input" and r.name not in inputs for r in finding.references)
        )
        texts, values = Texts(file, environment.reader, environment), file.early_names(inputs)
        file, problems = _filled(file, texts, forms, values, unknown=unknown)
        yield from problems
    yield from schema_problems(project, file)


def _filled(
    file: FlowFile,
    texts: Texts,
    paths: Collection[KeyPath],
    values: Values,
    *,
    unknown: Collection[KeyPath] = (),
) -> tuple[FlowFile, list[Problem]]:
    """Return a flow whose forms of answers have the values of inputs, and what is wrong with these.

    `paths` are the places of the expressions; those that are `unknown` are left out.
    """
    forms, steps = _Forms(file.document, texts, paths, unknown, values), dict(file.flow.steps)
    for name in dict.fromkeys(str(path[1]) for path in sorted(paths, key=str)):
        step, own = steps[name], ("steps", name)
        expect = [
            forms.expectation((*own, "expect", index), one) for index, one in enumerate(step.expect)
        ]
        output = forms.output((*own, "output"), step.output)
        steps[name] = msgspec.structs.replace(step, output=output, expect=expect)
    flow = msgspec.structs.replace(file.flow, steps=steps)
    return msgspec.structs.replace(file, flow=flow), forms.problems


def schema_problems(
    project: Project, file: FlowFile, steps: Iterable[str] | None = None
) -> Iterator[Problem]:
    """Yield the problems in every schema and pattern of a flow, or of some `steps`."""
    inspection = Inspection()
    for name, spec in file.flow.inputs.items() if steps is None else ():
        faults = schema_faults(spec.schema, inspection) if spec.schema else ()
        yield from _placed(file, ("inputs", name), faults)
    for name, step in file.flow.steps.items():
        if steps is not None and name not in steps:
            continue
        path: KeyPath = ("steps", name)
        if step.output.schema is not None:
            place = (*path, "output", "schema")
            yield from _output(project, file, place, step.output.schema, inspection)
        if step.output.default is not msgspec.UNSET:
            yield from _default(project, file, name, step.output)
        for index, expectation in enumerate(step.expect):
            if named_file(expectation.json_schema or {}) is not None:
                continue  # no file is read here, which `key_conflicts` reports
            own = (*path, "expect", index)
            yield from _placed(file, own, expectation_faults(expectation, inspection))
        for index, tool in enumerate(step.readable_functions):
            yield from _placed(file, (*path, "tools", index), tool_faults(tool, inspection))


def _default(project: Project, file: FlowFile, step: str, output: Output) -> Iterator[Problem]:
    """Check that a default fits what its step's answers must be."""
    path: KeyPath = ("steps", step, "output", "default")
    if output.form == "text" and output.one_of is None and output.extract is None:
        message = "an answer that is plain text can always be read"
        hint = "remove default:, or say what an answer must be: schema, format or one_of"
        yield Problem(file.document.key_place(path), message, hint)
        return
    if output.form == "csv" and not isinstance(output.default, str):
        hint = "write the header and the rows as a text"
        yield Problem(file.document.place(path), "the default of a csv answer is a text", hint)
        return
    try:
        written = output.schema
        found = None if written is None else schema_in(project, written, file.path)
        schema = None if found is None else compile_schema(found)
    except (FileProblem, StepError):
        return  # reported as a problem of the schema
    for fault in default_reading(output, schema).faults:
        yield Problem(file.document.place(path), f"the default does not fit: {fault}", "change it")


def _output(
    project: Project,
    file: FlowFile,
    path: KeyPath,
    written: Mapping[str, Json],
    inspection: Inspection,
) -> Iterator[Problem]:
    named = named_file(written)
    if named is None:
        yield from _placed(file, path, schema_faults(written, inspection))
        return
    place = file.document.place((*path, "file"))
    try:
        found = schema_in(project, written, file.path)
    except FileProblem as error:
        yield Problem(place, error.message, error.hint)
        return
    for inner, message in schema_faults(found, inspection):
        where = ".".join(map(str, inner))
        text, _, hint = message.partition("; ")
        located = f"{named}: {where}: {text}" if where else f"{named}: {text}"
        yield Problem(Place(place.path, place.line, place.column), located, hint or _HINT)


def _placed(
    file: FlowFile, path: KeyPath, faults: Iterable[tuple[KeyPath, str]]
) -> Iterator[Problem]:
    for inner, message in faults:
        text, _, hint = message.partition("; ")
        yield Problem(file.document.place((*path, *inner)), text, hint or _HINT)
