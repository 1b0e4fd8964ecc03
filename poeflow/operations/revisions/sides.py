"""A flow at one of two revisions, and why it cannot be used there.

It is read as any flow is: checked, with its inputs and its lock, and nothing is run.
"""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import PoeflowError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.operations.check import Checkup, checkup
from poeflow.operations.flow_locks import lock_or_fault
from poeflow.operations.revisions.flow_reads import FileRead, flow_reads
from poeflow.operations.run_options import RunOptions
from poeflow.planning.run_inputs import GivenInputs, MissingInputsError, inputs_of
from poeflow.problems import errors_only
from poeflow.project.project import FileProblem, Project
from poeflow.store.lockfile import Lock

_LEFT_OUT: Final = "it is a link that leaves the project, or that this file system cannot have"


class UnreadableFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A file at one revision in which no flow can be read, and the reason."""

    path: str
    problem: str


class FlowSide(msgspec.Struct, frozen=True, kw_only=True):
    """A flow at one revision. `file` may be a draft without its invalid parts.

    `problem` is the first reason why it cannot run, empty if there is none; `lacks_input` if that
    is only an input that nobody gave. `inputs` are None if they are not known, `lock_problem` says
    what is wrong with the lock.
    """

    path: str
    project: Project
    found: Checkup
    file: FlowFile
    lock: Lock | None
    inputs: Mapping[str, Json] | None
    reads: tuple[FileRead, ...]
    problem: str = ""
    lacks_input: bool = False
    lock_problem: str = ""


Side = FlowSide | UnreadableFlow | None
"""A flow at one revision, None if it has no such file."""


def side_of(project: Project, path: str, options: RunOptions, *, left_out: Collection[str]) -> Side:
    """Return a flow of a project, whose folder may lack files that were `left_out`."""
    if not project.has(path):
        if path in left_out:
            return UnreadableFlow(path=path, problem=f"{path[2:]}: {_LEFT_OUT}")
        return None
    try:
        return _side_of(project, path, options)
    except PoeflowError as error:
        return UnreadableFlow(path=path, problem=without_root(error.message, project, options))


def _side_of(project: Project, path: str, options: RunOptions) -> FlowSide | UnreadableFlow:
    found = checkup(project, path, path[2:])
    file = found.loaded.file or found.loaded.draft
    errors = errors_only(found.problems)
    problem = without_root(str(errors[0]), project, options) if errors else ""
    if file is None:
        return UnreadableFlow(path=path, problem=problem)
    lock, lock_problem = lock_or_fault(project, path)
    inputs, lacking = _inputs_at(project, file) if found.loaded.file else (None, None)
    lacking = None if problem else lacking
    return FlowSide(
        path=path,
        project=found.project,
        found=found,
        file=file,
        lock=lock,
        inputs=inputs,
        reads=flow_reads(found, lock),
        problem=without_root(lacking.message, project, options) if lacking is not None else problem,
        lacks_input=isinstance(lacking, MissingInputsError),
        lock_problem=lock_problem,
    )


def _inputs_at(
    project: Project, file: FlowFile
) -> tuple[Mapping[str, Json] | None, PoeflowError | None]:
    """Return the inputs of a flow, or why there are none."""
    given = GivenInputs(
        inputs={},
        texts={},
        inputs_file=None,
        folder=project.root,
        secrets={name: "[secret]" for name, spec in file.flow.inputs.items() if spec.secret},
    )  # both sides have the same secrets, those of the environment
    try:
        return inputs_of(project, file, given), None
    except PoeflowError as error:
        return None, error


def without_root(message: str, project: Project, options: RunOptions) -> str:
    """Return a message without the temporary folder that a project is in."""
    shown = project.shown("//", options.folder)
    return message.replace(f"{project.root}/", "").replace(f"{shown}/", "")


def content_at(project: Project, path: str, *, limit: int) -> bytes | None:
    """Return a file's bytes, None if it is missing, private, or larger than `limit`.

    Line ends of a text are LF: a checkout may have made them CRLF.
    """
    try:
        project.size_of(path)  # which refuses a private one
        data = project.peek(path, limit=limit)
    except FileProblem:
        return None
    return data if b"\0" in data else data.replace(b"\r\n", b"\n")
