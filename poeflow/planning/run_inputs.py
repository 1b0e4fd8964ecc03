"""The inputs of one run: what was given, else the file beside the flow, else the defaults."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from poeflow.digest import Json
from poeflow.errors import UsageError
from poeflow.flowfile import inputs as inputs_file
from poeflow.flowfile.inputs import gather
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.yaml_tree import MAX_BYTES
from poeflow.project.places import read_given
from poeflow.project.project import FileProblem, Project


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller gave: typed `inputs`, `texts` of a command line, a file of values.

    Paths among them are relative to that file, else to `folder`.
    """

    inputs: Mapping[str, Json]
    texts: Mapping[str, str]
    inputs_file: Path | None
    folder: Path


def inputs_of(project: Project, file: FlowFile, given: Given) -> dict[str, Json]:
    """Return the inputs of a run, files among them as project paths.

    Given ones win over `NAME.inputs.yaml` beside the flow, and that over the defaults.
    """
    flow = file.flow
    beside = inputs_file.beside(file.path)
    shown = project.shown(beside, given.folder)
    kept = inputs_file.read(project, beside, shown=shown) or {}
    here = _marker(project, given.folder)
    values = {
        **_anchored(project, file, kept, beside),
        **_of_file(project, file, given),
        **_anchored(project, file, given.inputs, here),
    }
    texts = _anchored(project, file, given.texts, here)
    defaults = {
        name: spec.default
        for name, spec in flow.inputs.items()
        if spec.type == "file" and isinstance(spec.default, str)
    }
    values = {**_anchored(project, file, defaults, file.path), **values}
    inputs, faults = gather(flow, values, {k: str(v) for k, v in texts.items()})
    if faults:
        told = "\n".join(
            f"{fault.message}; {fault.hint}" if fault.hint else fault.message for fault in faults
        )
        raise UsageError(told)
    return inputs


def _of_file(project: Project, file: FlowFile, given: Given) -> dict[str, Json]:
    """Return the inputs of `--inputs-file`, which may lie anywhere."""
    path = given.inputs_file
    if path is None:
        return {}
    try:
        data = read_given(path, limit=MAX_BYTES)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise UsageError(f"{path}: {reason}", hint="name a YAML or JSON file of inputs") from None
    values = inputs_file.values_of(data, shown=path.as_posix())
    return _anchored(project, file, values, _marker(project, path.parent))


def _anchored(
    project: Project, file: FlowFile, values: Mapping[str, Json], relative_to: str | None
) -> dict[str, Json]:
    """Return `values` with what inputs of type file hold as canonical, readable project paths."""
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


def _marker(project: Project, folder: Path) -> str | None:
    """Return a project path that lies in `folder`, None where that is outside the project."""
    folder = folder.resolve()
    if not folder.is_relative_to(project.root):
        return None
    return f"//{(folder.relative_to(project.root) / '_').as_posix()}"
