"""Which flows read a file that differs from a revision of git, for commands with `--since`."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from poeflow.errors import StaleError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.project_settings import PYPROJECT, settings_files
from poeflow.operations.check import Checkup
from poeflow.operations.flow_locks import inputs_locks, lock_path, locks_of, read_lock
from poeflow.operations.revisions.flow_reads import FileRead, flow_reads, reads_of_run
from poeflow.problems import Place, errors_only
from poeflow.project.globs import has_shape, is_pattern, matches
from poeflow.project.project import FileProblem, Project
from poeflow.store.git import Git
from poeflow.store.lock.rows import rows_of
from poeflow.store.lockfile import Lock, LockFile
from poeflow.store.revisions.revision_names import repository_of, span_since
from poeflow.store.revisions.trees import changed_since, committed_paths


class ChangedFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The project paths of files that differ from a revision: changed, new or gone."""

    root: Path
    since: str
    paths: frozenset[str]


def changed_files(project: Project, written: str, environ: Mapping[str, str]) -> ChangedFiles:
    """Return the files of a project that differ from the revision that a user wrote.

    New files count unless git ignores them. Raises `UsageError` outside of git, or if there is no
    such revision.
    """
    git = repository_of(project.root, environ, asked=f"--since {written}")
    commit = span_since(git, written).old.commit
    return ChangedFiles(root=project.root, since=written, paths=changed_since(git, commit))


def flows_since(
    found: Iterable[Checkup],
    written: str,
    environ: Mapping[str, str],
    *,
    given: Collection[Path] = (),
    is_locked: bool = False,
) -> list[Checkup]:
    """Return the flows that read a file that differs from a revision; git is asked once a project.

    `given` are files that the command line names for inputs. If `is_locked`, the lock of a flow and
    the outputs in it count, too. Raises `UsageError`.
    """
    changed: dict[Path, ChangedFiles] = {}
    different: list[Checkup] = []
    for one in found:
        root = one.project.root
        if root not in changed:
            changed[root] = changed_files(one.project, written, environ)
        file = one.loaded.file or one.loaded.draft
        made = _made_files(_locks(file, one.project)) if is_locked else frozenset()
        if made & changed[root].paths or changed_reads(one, changed[root], given=given):
            different.append(one)
    return different


def flows_reading(
    found: Iterable[Checkup],
    files: Collection[Path],
    environ: Mapping[str, str],
    *,
    is_locked: bool = False,
) -> list[Checkup]:
    """Return the flows that read one of some files, or have an error: a file may be gone.

    The locks of a flow and the outputs in them count, too. If `is_locked`, only flows with a lock,
    or with one in the last commit.
    """
    committed: dict[Path, _CommittedFiles] = {}
    real = [path.parent.resolve() / path.name for path in files]
    reading: list[Checkup] = []
    for one in found:
        project, file = one.project, one.loaded.file or one.loaded.draft
        paths = frozenset(_canonical(project, real))
        locks = {} if file is None else locks_of(project, file)
        if is_locked and file is not None and not locks:
            if project.root not in committed:
                committed[project.root] = _CommittedFiles(project.root, environ)
            locks = committed[project.root].locks(lock_path(file.path))
        if is_locked and not locks:
            continue
        given = ChangedFiles(root=project.root, since="", paths=paths)
        own = _made_files(locks)
        if errors_only(one.problems) or own & paths or changed_reads(one, given):
            reading.append(one)
    return reading


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


def _made_files(locks: Mapping[str, Lock | None]) -> frozenset[str]:
    """Return the project paths of locks and of the outputs in them.

    An older lock need not be looked into: if it differs, its path is among what does.
    """
    known = [rows_of(lock.instances) for lock in locks.values() if lock is not None]
    outputs = (path for rows in known for more in rows.rare() for path in more.outputs)
    return frozenset({*locks, *outputs})


def _locks(file: FlowFile | None, project: Project) -> dict[str, Lock | None]:
    """Return all locks of a flow, and its own even if it is gone."""
    return {} if file is None else {lock_path(file.path): None, **locks_of(project, file)}


class _CommittedFiles:
    """The files of a project in the last commit; none without git."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._git = Git.find(root, environ)
        self._commit = None if self._git is None else self._git.revision("HEAD")
        self._names = frozenset[str]()
        if self._git is not None and self._commit is not None:
            self._names = committed_paths(self._git, self._commit)

    def locks(self, path: str) -> dict[str, Lock | None]:
        """Return the lock at a project path, None for one that cannot be read, if there is one."""
        if self._git is None or path not in self._names:
            return {}
        data = self._git.ask("cat-file", "blob", f"{self._commit}:./{path[2:]}")
        lock = LockFile(self._root / path[2:], shown=path[2:])
        with contextlib.suppress(StaleError):
            return {path: lock.decoded(data or b"")}
        return {path: None}


def changed_reads(
    found: Checkup, changed: ChangedFiles, *, given: Collection[Path] = ()
) -> tuple[str, ...]:
    """Return the files that a flow reads and that differ, sorted; empty if none does.

    What a check of the flow has read counts, and by its locks what only a run knows. `given` are
    files that the command line names for inputs.
    """
    project = found.project
    paths: set[str] = set()
    patterns: set[str] = set()
    inputs_file = next(iter(given), None)
    for read in reads_by_locks(found, given=inputs_file):
        (patterns if is_pattern(read.path) else paths).add(read.path)
    log = project.log
    if log is not None:
        patterns |= log.patterns.keys()
        paths |= set(_canonical(project, log.files))
    if PYPROJECT not in settings_files(project):
        paths.discard(PYPROJECT)  # it is looked into by every check, and has nothing of ours
    paths |= set(_canonical(project, [path.resolve() for path in given]))
    matched = {path for pattern in patterns for path in _fitting(project, pattern, changed.paths)}
    return tuple(sorted((paths & changed.paths) | matched))


def _canonical(project: Project, paths: Collection[Path]) -> Iterator[str]:
    for path in paths:
        if path.is_relative_to(project.root):
            yield f"//{path.relative_to(project.root).as_posix()}"


def _fitting(project: Project, pattern: str, changed: frozenset[str]) -> Iterator[str]:
    """Yield the changed files that a pattern matches, or would if they were not gone."""
    shaped = [path for path in changed if has_shape(pattern, path)]
    if not shaped:
        return
    try:
        there = set(matches(project, pattern))
    except FileProblem:
        there = set(shaped)
    yield from (one for one in shaped if one in there or not project.path_of(one).exists())
