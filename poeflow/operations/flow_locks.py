"""All locks of a flow: its own, and one for each inputs file; and the locks of other flows.

A lock has no path of its inputs file, only its name without the suffix.
"""

import glob
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from poeflow.errors import DiskError, PoeflowError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.inputs import read_inputs
from poeflow.operations.run_options import RunOptions
from poeflow.project.globs import matches
from poeflow.project.output_paths import claim_of
from poeflow.project.project import FileProblem, Project
from poeflow.store.lockfile import Lock, LockFile
from poeflow.store.workspace import Workspace

_ENDINGS: Final = (".yaml", ".yml", ".json")
LOCK_ENDING: Final = ".lock.json"
_MOST_VISITED: Final = 200_000
"""Among how many entries of folders the locks of other flows are looked for."""
_NO_FLOWS: Final = frozenset({".git", ".poeflow", "node_modules", "__pycache__", "venv", ".venv"})


def lock_at(workspace: Workspace, flow: str, options: RunOptions) -> LockFile:
    """Return the lock of a flow at a project path, with the inputs file of the options."""
    own = lock_path(flow, options.inputs_file)
    folder = f"{workspace.shown}/offline/" if options.offline else ""
    return LockFile(workspace.output_tree().path_of(own), shown=f"{folder}{own[2:]}")


def lock_path(flow: str, inputs_file: Path | None = None) -> str:
    """Return the project path of a flow's lock, or of that for other inputs."""
    path = PurePosixPath(flow[2:])
    inputs = f".{inputs_file.stem}" if inputs_file is not None else ""
    return f"//{path.with_name(f'{path.stem}{inputs}{LOCK_ENDING}').as_posix()}"


def read_lock(project: Project, path: str, *, inputs_file: Path | None = None) -> Lock | None:
    """Return the lock of a flow, its first side if it has conflict marks.

    None if there is none, or none that can be read.
    """
    return lock_or_fault(project, path, inputs_file)[0]


def lock_or_fault(
    project: Project, path: str, inputs_file: Path | None = None
) -> tuple[Lock | None, str]:
    """Return what `read_lock` does, and what is wrong with the lock, empty if nothing is."""
    own = lock_path(path, inputs_file)
    try:
        found = LockFile(project.path_of(own), shown=own[2:]).sides()
    except PoeflowError as error:
        return None, error.message
    marks = f"{own[2:]} has conflict marks; its first side is compared" if len(found) > 1 else ""
    return (found[0] if found else None), marks


class InputsLock(msgspec.Struct, frozen=True, kw_only=True):
    """The lock of a flow with an inputs file, and the files that may be it, by their name.

    `lock` is None if it cannot be read.
    """

    path: str
    name: str
    lock: Lock | None
    files: tuple[str, ...] = ()


def inputs_locks(project: Project, file: FlowFile) -> tuple[InputsLock, ...]:
    """Return the locks of a flow with inputs files, sorted."""
    flow = PurePosixPath(file.path[2:])
    begin, found = f"{flow.stem}.", []
    for path in sorted(
        project.path_of(file.path).parent.glob(f"{glob.escape(begin)}*{LOCK_ENDING}")
    ):
        name = path.name[len(begin) : -len(LOCK_ENDING)]
        others = (f"//{flow.with_name(f'{begin}{name}{end}').as_posix()}" for end in _ENDINGS[:2])
        if not name or any(map(project.has, others)):
            continue  # of a flow whose name begins with the name of this one
        inputs = Path(f"{name}.yaml")
        files = tuple(sorted(_named(project, file, name)))
        lock = read_lock(project, file.path, inputs_file=inputs)
        own = lock_path(file.path, inputs)
        found.append(InputsLock(path=own, name=name, lock=lock, files=files))
    return tuple(found)


def _named(project: Project, file: FlowFile, name: str) -> Iterator[str]:
    """Yield the files of a project with such a name that hold inputs of a flow."""
    quiet = msgspec.structs.replace(project, log=None)
    for suffix in _ENDINGS:
        try:
            paths = matches(quiet, f"//**/{glob.escape(name)}{suffix}")
        except FileProblem:
            continue
        for path in paths:
            try:
                values = read_inputs(quiet, path, shown=path[2:])
            except PoeflowError:
                values = {}  # a file with a fault may be meant
            if values is not None and values.keys() <= file.flow.inputs.keys():
                yield path


def locks_of(project: Project, file: FlowFile) -> dict[str, Lock | None]:
    """Return all locks of a flow by their project paths, None for one that cannot be read."""
    own = lock_path(file.path)
    found = {own: read_lock(project, file.path)} if project.has(own) else {}
    return found | {one.path: one.lock for one in inputs_locks(project, file)}


def named_elsewhere(
    project: Project, workspace: Workspace, flow: str, options: RunOptions
) -> Callable[[Collection[str]], frozenset[str]]:
    """Return a function that returns which of some output files the project's other locks name.

    It returns all if that cannot be known: a lock cannot be read, or there are too many files. A
    lock whose flow is gone does not count.
    """
    own = lock_at(workspace, flow, options).path
    tree = workspace.output_tree().root

    def named(paths: Collection[str]) -> frozenset[str]:
        claims: set[str] = set()
        try:
            for path in _locks_below(tree, project.root):
                for side in LockFile(path, shown=path.name).sides() if path != own else ():
                    claims.update(claim_of(one) for row in side.rows.rare() for one in row.outputs)
        except PoeflowError:
            return frozenset(paths)
        return frozenset(path for path in paths if claim_of(path) in claims)

    return named


def _locks_below(tree: Path, flows: Path) -> Iterator[Path]:
    """Yield the locks in a folder whose flows are at the same places in the folder `flows`.

    Raises `DiskError` if there is too much to look at.
    """
    visited = 0
    for folder, folders, files in os.walk(tree):
        folders[:] = (name for name in folders if name not in _NO_FLOWS)
        visited += len(folders) + len(files)
        if visited > _MOST_VISITED:
            raise DiskError(f"{tree} has over {_MOST_VISITED:,} files")
        beside = flows / Path(folder).relative_to(tree)
        for name in files:
            if name.endswith(LOCK_ENDING) and has_flow(beside, name.removesuffix(LOCK_ENDING)):
                yield Path(folder, name)


def has_flow(folder: Path, stem: str) -> bool:
    """Whether a folder has the flow of a lock: the stem may end in the name of an inputs file."""
    parts = stem.split(".")
    stems = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return any((folder / f"{one}{end}").is_file() for one in stems for end in _ENDINGS)
