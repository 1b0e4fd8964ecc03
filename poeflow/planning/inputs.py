"""The values inputs have before anyone gives them: their defaults, and the file beside the flow."""

from collections.abc import Iterator

import msgspec

from poeflow.flowfile import inputs_file
from poeflow.flowfile.hints import one_of
from poeflow.flowfile.inputs import misfit
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.yaml_tree import MAX_BYTES
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project
from poeflow.templates.reader import Reader


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The canonical paths of the files that inputs are, and what is wrong with values."""

    files: frozenset[str]
    problems: tuple[Problem, ...]


def given(project: Project, file: FlowFile, reader: Reader) -> Given:
    """Check defaults and the file beside the flow, and look for the files they name."""
    files: set[str] = set()
    problems = [*_defaults(project, file, files), *_beside(project, file, reader, files)]
    return Given(files=frozenset(files), problems=tuple(problems))


def _defaults(project: Project, file: FlowFile, files: set[str]) -> Iterator[Problem]:
    for name, spec in file.flow.inputs.items():
        if spec.type == "file" and isinstance(spec.default, str):
            place = file.document.place(("inputs", name, "default"))
            yield from _file(project, spec.default, file.path, place, files)


def _beside(project: Project, file: FlowFile, reader: Reader, files: set[str]) -> Iterator[Problem]:
    path = inputs_file.beside(file.path)
    shown = reader.shown(path)
    if not project.has(path):
        return
    files.add(path)
    try:
        data = project.read_bytes(path, limit=MAX_BYTES)
    except FileProblem as error:
        yield Problem(Place(shown), error.message, error.hint)
        return
    document = inputs_file.parsed(data, shown=shown)
    yield from document.problems
    for name, node in (document.root.values if document.root is not None else {}).items():
        spec = file.flow.inputs.get(name)
        if spec is None:
            hint = one_of(name, file.flow.inputs)
            yield Problem(document.key_place((name,)), f'unknown input "{name}"', hint)
            continue
        reason = misfit(spec, node.data)
        place = document.place((name,))
        if reason:
            yield Problem(place, f'the input "{name}" {reason}', spec.description)
        elif spec.type == "file":
            yield from _file(project, str(node.data), path, place, files)


def _file(
    project: Project, written: str, relative_to: str, place: Place, files: set[str]
) -> Iterator[Problem]:
    try:
        canonical = project.canonical(written, relative_to=relative_to)
        project.size_of(canonical)
    except FileProblem as error:
        yield Problem(place, error.message, error.hint)
    else:
        files.add(canonical)
