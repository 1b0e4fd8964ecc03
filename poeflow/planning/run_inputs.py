"""The inputs of one run: given values, else the inputs file beside the flow, else defaults.

Without a run those are known that their declarations name.
"""

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from poeflow.answers.schema_errors import sentence
from poeflow.answers.schemas import Fault, compile_schema
from poeflow.digest import Json
from poeflow.errors import InvalidFlowError, StepError, UsageError
from poeflow.flowfile import inputs as inputs_file
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.inputs import (
    InputProblem,
    default_order,
    how_to_give,
    known_values,
    resolve_inputs,
)
from poeflow.flowfile.model import Flow, InputSpec
from poeflow.flowfile.yaml_tree import MAX_BYTES, Document
from poeflow.problems import errors_only
from poeflow.project.places import read_given
from poeflow.project.project import FileProblem, Project


class MissingInputsError(UsageError):
    """A run needs inputs that nobody gave; `names` are theirs."""

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


class GivenInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller gave: typed `inputs`, `texts` of a command line, a file of values.

    Paths in the file are relative to it, others to `folder`. `secrets` are stand-ins for the values
    of secret inputs, which come from the environment.
    """

    inputs: Mapping[str, Json]
    texts: Mapping[str, str]
    inputs_file: Path | None
    folder: Path
    secrets: Mapping[str, str] = {}


def inputs_of(project: Project, file: FlowFile, given: GivenInputs) -> dict[str, Json]:
    """Return the inputs of a run, with project paths for files.

    Given values win over `NAME.inputs.yaml` beside the flow, and that over the defaults. Raises
    `UsageError`, which is a `MissingInputsError` if that is all there is to say.
    """
    flow = file.flow
    beside = inputs_file.inputs_path(file.path)
    shown = project.shown(beside, given.folder)
    stored = inputs_file.read_inputs(project, beside, shown=shown) or {}
    here = _folder_marker(project, given.folder)
    document = _inputs_document(given.inputs_file)
    values = {
        **_anchored(project, file, stored, beside),
        **_of_file(project, file, given, document),
        **_anchored(project, file, given.inputs, here),
    }
    _refuse_secrets(flow, {**values, **given.texts})
    values |= given.secrets
    texts = _anchored(project, file, given.texts, here)
    defaults = {
        name: spec.default
        for name, spec in flow.inputs.items()
        if spec.type == "file" and isinstance(spec.default, str)
    }
    values = {**_anchored(project, file, defaults, file.path), **values}
    inputs, problems = checked_inputs(flow, values, {k: str(v) for k, v in texts.items()})
    if problems:
        own = given.texts.keys() | given.inputs.keys()
        message = "\n".join(_line(problem, document, own) for problem in problems)
        if all(one.name in flow.inputs and one.name not in inputs for one in problems):
            raise MissingInputsError(message, tuple(one.name for one in problems))
        raise UsageError(message)
    return inputs


def _refuse_secrets(flow: Flow, given: Collection[str]) -> None:
    """Raise `UsageError` if a secret is given where others can read it."""
    for name, spec in flow.inputs.items():
        if spec.secret and name in given:
            message = f'the input "{name}" is a secret, and this way it would be shown and stored'
            raise UsageError(message, hint=how_to_give(name))


def _line(problem: InputProblem, document: Document | None, own: Collection[str]) -> str:
    """Return a problem as a line, with its place if the value is from the file of inputs."""
    line = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    if document is None or problem.name in own or document.node((problem.name,)) is None:
        return line
    return f"{document.place((problem.name, *problem.path))}: {line}"


def checked_inputs(
    flow: Flow, values: Mapping[str, Json], texts: Mapping[str, str]
) -> tuple[dict[str, Json], tuple[InputProblem, ...]]:
    """Return the inputs of a run and the problems with them, those by their schemas included."""
    inputs, problems = resolve_inputs(flow, values, texts)
    wrong = {problem.name for problem in problems}
    by_schema = (
        InputProblem(name, f'the input "{name}": {sentence(path, message)}', spec.description, path)
        for name, spec in flow.inputs.items()
        if name in inputs and name not in wrong
        for path, message in input_faults(spec, inputs[name])
    )
    return inputs, (*problems, *by_schema)


def input_faults(spec: InputSpec, value: Json) -> tuple[Fault, ...]:
    """Return why a list or mapping does not fit the schema of its input, each with its place.

    None if the schema itself is not valid, which is reported as a problem of the flow.
    """
    if not spec.schema or not isinstance(value, list | dict):
        return ()
    try:
        return compile_schema(spec.schema).located(value)
    except StepError:
        return ()


def early_inputs(
    project: Project, file: FlowFile, inputs: Mapping[str, Json] | None = None
) -> dict[str, Json]:
    """Return the inputs of a flow as far as they are known without a run, files as project paths.

    These `inputs` win over the first value that each declaration names.
    """
    found = dict(inputs or {})
    for name in default_order(file.flow):
        spec = file.flow.inputs[name]
        other = spec.default_from
        if name not in found and other in found:
            found[name] = found[str(other)]
        if name not in found and (known := known_values(file.flow, name).values):
            found[name] = known[0]
        if spec.type == "file" and name in found:
            with contextlib.suppress(FileProblem):  # reported where inputs are checked
                found[name] = project.canonical(str(found[name]), relative_to=file.path)
    return found


def _of_file(
    project: Project, file: FlowFile, given: GivenInputs, document: Document | None
) -> dict[str, Json]:
    """Return the inputs in the document of `--inputs-file`."""
    if document is None or given.inputs_file is None:
        return {}
    values = document.root.data if document.root is not None else {}
    if not isinstance(values, dict):
        raise AssertionError("another root than a mapping is a problem")
    return _anchored(project, file, values, _folder_marker(project, given.inputs_file.parent))


def _inputs_document(path: Path | None) -> Document | None:
    """Return the document of `--inputs-file`, which may be outside the project."""
    if path is None:
        return None
    try:
        data = read_given(path, limit=MAX_BYTES)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise UsageError(f"{path}: {reason}", hint="name a YAML or JSON file of inputs") from None
    document = inputs_file.parse_inputs(data, shown=path.as_posix())
    if errors_only(document.problems):
        raise InvalidFlowError(errors_only(document.problems))
    return document


def _anchored(
    project: Project, file: FlowFile, values: Mapping[str, Json], relative_to: str | None
) -> dict[str, Json]:
    """Return `values` with those of type file as canonical paths of readable files."""
    anchored: dict[str, Json] = dict(values)
    for name, value in values.items():
        spec = file.flow.inputs.get(name)
        if spec is None or spec.type != "file" or not isinstance(value, str):
            continue
        try:
            anchored[name] = _canonical(project, value, relative_to)
            project.size_of(str(anchored[name]))
        except FileProblem as error:
            raise UsageError(f'the input "{name}": {error.message}', hint=error.hint) from None
    return anchored


def _canonical(project: Project, value: str, relative_to: str | None) -> str:
    path = Path(value)
    if path.is_absolute() and not value.startswith("//") and path.is_relative_to(project.root):
        return "//" + path.relative_to(project.root).as_posix()
    if relative_to is None and not value.startswith("//"):
        hint = f"go into {project.root}, or write //path from there"
        raise FileProblem(f"{value} is not inside the project", hint=hint)
    return project.canonical(value, relative_to=relative_to or "//")


def _folder_marker(project: Project, folder: Path) -> str | None:
    """Return a project path inside `folder`, None if that is outside the project."""
    folder = folder.resolve()
    if not folder.is_relative_to(project.root):
        return None
    return f"//{(folder.relative_to(project.root) / '_').as_posix()}"
