"""All locks of a flow: its own, and one for each inputs file that it was run with.

A lock has no path of its inputs file, only its name without the suffix.
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from poeflow.errors import PoeflowError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.inputs import read_inputs
from poeflow.operations.check import Checkup
from poeflow.operations.locks import LOCK_ENDING, lock_path
from poeflow.operations.revisions.flow_reads import FileRead, flow_reads, reads_of_run
from poeflow.operations.revisions.sides import read_lock
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import Proof, proof_of
from poeflow.problems import Place
from poeflow.project.globs import matches
from poeflow.project.project import FileProblem, Project
from poeflow.store.lockfile import Lock

_SUFFIXES: Final = (".yaml", ".yml", ".json")


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
        others = (f"//{flow.with_name(f'{begin}{name}{end}').as_posix()}" for end in _SUFFIXES[:2])
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
    for suffix in _SUFFIXES:
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


def reads_by_locks(found: Checkup, *, given: Path | None = None) -> tuple[FileRead, ...]:
    """Return what a flow reads by its file and by all its locks, also that of a `given` file."""
    file, project = found.loaded.file or found.loaded.draft, found.project
    if file is None:
        return flow_reads(found)
    reads = [*flow_reads(found, read_lock(project, file.path, inputs_file=given))]
    locks = inputs_locks(project, file)
    if given is not None:
        reads += reads_of_run(read_lock(project, file.path), file, "the last run")
    known = {(one.step, one.path) for one in reads}
    for lock in locks:
        place, shown = Place(file.document.path), PurePosixPath(lock.path).name
        for path in lock.files:
            reads.append(FileRead(path=path, place=place, why=f"the inputs file of {shown}"))
        late = reads_of_run(lock.lock, file, f"the last run, by {shown}")
        reads += [one for one in late if (one.step, one.path) not in known]
    return tuple(dict.fromkeys(reads))


def locks_of(project: Project, file: FlowFile) -> dict[str, Lock | None]:
    """Return all locks of a flow by their project paths, None for one that cannot be read."""
    own = lock_path(file.path)
    found = {own: read_lock(project, file.path)} if project.has(own) else {}
    return found | {one.path: one.lock for one in inputs_locks(project, file)}


def proof_of_all(found: Checkup, options: RunOptions) -> Proof:
    """Return whether all locks of a flow prove it current, each with its inputs.

    Without a lock of its own, a flow is proven with inputs files only. Raises what `proof_of` does.
    """
    file, project = found.loaded.file, found.project
    is_given = bool(options.inputs or options.texts or options.inputs_file)
    locks = inputs_locks(project, file) if file is not None and not is_given else ()
    if file is None or not locks:
        return proof_of(found, options)
    own = proof_of(found, options) if project.has(lock_path(file.path)) else Proof()
    faults = [line for lock in locks for line in _faults(found, lock, options)]
    return msgspec.structs.replace(own, faults=(*own.faults, *faults))


def _faults(found: Checkup, lock: InputsLock, options: RunOptions) -> list[str]:
    """Return why a lock with its inputs is not proven: one of several files is enough."""
    project, proofs = found.project, {}
    for path in lock.files:
        given = msgspec.structs.replace(options, inputs_file=project.path_of(path))
        try:
            reasons = proof_of(found, given).reasons
        except PoeflowError as error:
            reasons = [error.message]
        if not reasons:
            return []
        proofs[path] = reasons
    if len(proofs) == 1:
        path, reasons = next(iter(proofs.items()))
        return [f"with {path[2:]}: {line}" for line in reasons]
    which = "none of several files of this name proves it" if proofs else "no such file is found"
    shown = os.path.relpath(project.path_of(lock.path), options.folder)
    to_do = f"poeflow run {found.shown} --locked --inputs-file PATH/{lock.name}.yaml"
    return [f"{shown} is of the inputs file {lock.name}, and {which}; to prove it: {to_do}"]
