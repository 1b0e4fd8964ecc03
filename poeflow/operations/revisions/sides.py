"""The two sides of a comparison: the project at a revision, and each of its flows there.

A revision is written into a temporary folder and then read as any project is: checked, planned
and compared with its lock, without running, rendering for a model, or sending anything.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from poeflow.digest import Json
from poeflow.errors import PoeflowError, StaleError
from poeflow.flowfile.load import FlowFile
from poeflow.operations.check import Checkup, checkup
from poeflow.operations.revisions.flow_reads import FileRead, flow_reads
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import statuses_of
from poeflow.planning.run_inputs import GivenInputs, inputs_of
from poeflow.problems import errors_only
from poeflow.project.project import FileProblem, Project
from poeflow.records import InstanceStatus
from poeflow.store.git import Git
from poeflow.store.lockfile import Lock, LockFile
from poeflow.store.revisions.revision_names import Span
from poeflow.store.revisions.trees import (
    changed_between,
    changed_since,
    files_of,
    write_files,
)


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """A project at two revisions, and the project paths of the files that differ."""

    old: Project
    new: Project
    changed: frozenset[str]


class FlowSide(msgspec.Struct, frozen=True, kw_only=True):
    """A flow at one revision. `file` may be a draft without its invalid parts.

    `problem` is the first reason why it cannot run, empty if there is none.
    """

    path: str
    project: Project
    found: Checkup
    file: FlowFile
    lock: Lock | None
    inputs: Mapping[str, Json]
    reads: tuple[FileRead, ...]
    problem: str = ""


@contextlib.contextmanager
def opened_sides(git: Git, span: Span, project: Project) -> Iterator[Sides]:
    """Yield the project at the revisions of a span. Raises `UsageError` if git cannot read one."""
    before = files_of(git, span.old.commit)
    after = files_of(git, span.new.commit) if span.new is not None else ()
    if span.new is None:
        changed = changed_since(git, span.old.commit)
    else:
        changed = changed_between(before, after)
    with tempfile.TemporaryDirectory(prefix="poeflow-") as name:
        folder = Path(name).resolve()
        sides = {"old": before, "new": after}
        projects = {side: Project(folder / side) for side in sides}
        for side, files in sides.items():
            (folder / side).mkdir()
            if changed:
                write_files(git, files, folder / side)
        new = project if span.new is None else projects["new"]
        yield Sides(old=projects["old"], new=new, changed=changed)


def flow_side(project: Project, path: str, options: RunOptions) -> FlowSide | None:
    """Return a flow of a project, None if it is not there or is no flow at all."""
    if not project.has(path):
        return None
    found = checkup(project, path, path[2:])
    file = found.loaded.file or found.loaded.draft
    errors = errors_only(found.problems)
    if file is None:
        return None
    lock = read_lock(project, path)
    problem = str(errors[0]) if errors else ""
    inputs: Mapping[str, Json] = {}
    given = GivenInputs(
        inputs={},
        texts={},
        inputs_file=None,
        folder=project.root,
        secrets={name: "[secret]" for name, spec in file.flow.inputs.items() if spec.secret},
    )  # both sides have the same secrets, those of the environment
    try:
        inputs = inputs_of(project, file, given) if not problem else {}
    except PoeflowError as error:
        problem = error.message
    return FlowSide(
        path=path,
        project=found.project,
        found=found,
        file=file,
        lock=lock,
        inputs=inputs,
        reads=flow_reads(found, lock),
        problem=without_root(problem, project, options),
    )


def lock_path(path: str, inputs_file: Path | None = None) -> str:
    """Return the project path of a flow's lock, or of that for other inputs."""
    flow = PurePosixPath(path[2:])
    inputs = f".{inputs_file.stem}" if inputs_file is not None else ""
    return f"//{flow.with_name(f'{flow.stem}{inputs}.lock.json').as_posix()}"


def read_lock(project: Project, path: str, *, inputs_file: Path | None = None) -> Lock | None:
    """Return the lock of a flow, its first side if it has conflict marks.

    None if there is none, or none that can be read.
    """
    own = lock_path(path, inputs_file)
    try:
        found = LockFile(project.path_of(own), shown=own[2:]).sides()
    except (StaleError, PoeflowError):
        return None
    return found[0] if found else None


def statuses_at(side: FlowSide, options: RunOptions) -> tuple[tuple[InstanceStatus, ...], str]:
    """Return the status of a flow's instances, and why there is none."""
    if side.problem:
        return (), side.problem
    try:
        return statuses_of(side.found, options), ""
    except PoeflowError as error:
        return (), without_root(error.message, side.project, options)


def without_root(message: str, project: Project, options: RunOptions) -> str:
    """Return a message without the temporary folder that a project is in."""
    shown = project.shown("//", options.folder)
    return message.replace(f"{project.root}/", "").replace(f"{shown}/", "")


def content_at(project: Project, path: str, *, limit: int) -> bytes | None:
    """Return a file's bytes, None if it is missing, private, or larger than `limit`."""
    try:
        return project.read_bytes(path, limit=limit)
    except FileProblem:
        return None
