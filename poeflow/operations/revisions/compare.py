"""Compares the flows of a project at two revisions, from what is committed alone.

A revision is written into a temporary folder, and then read as any project is.
"""

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from poeflow.costs import Prices
from poeflow.flowfile.project_settings import settings_files
from poeflow.operations.budgets import prices_of
from poeflow.operations.flow_locks import lock_path, read_lock
from poeflow.operations.revisions.compare_flow import compared_flow
from poeflow.operations.revisions.made_results import MAX_OUTPUT, written_files
from poeflow.operations.revisions.sides import FlowSide, Side, UnreadableFlow, content_at, side_of
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project, marked_root
from poeflow.store.git import Git
from poeflow.store.revisions.comparisons import ComparedRevision, Comparison, FlowComparison
from poeflow.store.revisions.revision_names import Span, repository_of, span_of, span_since
from poeflow.store.revisions.trees import changed_between, changed_since, files_of, write_files

_FLOWS: Final = (".yaml", ".yml")


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """A project at two revisions, and the project paths of the files that differ.

    `left_out` are files of a revision that could not be written into its folder, by that project.
    """

    old: Project
    new: Project
    changed: frozenset[str]
    left_out: Mapping[Path, frozenset[str]] = {}

    def side(self, project: Project, path: str, options: RunOptions) -> Side:
        """Return a flow of one of the two projects."""
        left_out = self.left_out.get(project.root, frozenset())
        return side_of(project, path, options, left_out=left_out)

    def other_projects(self) -> list[str]:
        """Return the folders of projects below this one that have files which differ."""
        found: set[str] = set()
        for folder in {path.rpartition("/")[0] for path in self.changed}:
            for project in (self.old, self.new):
                root = marked_root(project.path_of(f"{folder}/"))
                if root is not None and project.root in root.parents:
                    found.add(root.relative_to(project.root).as_posix())
        return sorted(found)


def compare_revisions(
    project: Project,
    written: str,
    options: RunOptions,
    *,
    is_since: bool,
    choose: Callable[[Sides], Collection[str]],
) -> Comparison:
    """Return what differs between the revisions in `A..B`, or `is_since` since a revision.

    `choose` returns the project paths of the flows to compare. Nothing is sent, run or written. A
    flow that is not there on one side was added or removed; one that cannot be used there is
    compared as far as it can be. Raises `UsageError` if git does not know a revision.
    """
    asked = f"--since {written}" if is_since else written
    git = repository_of(project.root, options.environ, asked=asked)
    span = span_since(git, written) if is_since else span_of(git, written)
    with _opened(git, span, project) as sides:
        prices = prices_of(project, options.environ)
        return _compared(span, sides, choose(sides), options, prices)


@contextlib.contextmanager
def _opened(git: Git, span: Span, project: Project) -> Iterator[Sides]:
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
        left_out = {
            projects[side].root: frozenset(
                one.path for one in files if one.kind == "link" and not projects[side].has(one.path)
            )
            for side, files in sides.items()
        }
        yield Sides(old=projects["old"], new=new, changed=changed, left_out=left_out)


def _compared(
    span: Span, sides: Sides, paths: Collection[str], options: RunOptions, prices: Prices
) -> Comparison:
    found: list[FlowComparison] = []
    settings = {*settings_files(sides.old), *settings_files(sides.new)}
    is_shared_touched = not settings.isdisjoint(sides.changed)
    renamed = dict(_renamed(sides))
    now = {before: after for after, before in renamed.items()}
    for path in sorted({now.get(path, path) for path in paths}):
        new = sides.side(sides.new, path, options)
        is_touched = is_shared_touched or _is_touched(new, sides.changed)
        if not (is_touched or _may_read_more(new)):
            continue  # what it read before can differ only if one of these files does
        old = sides.side(sides.old, renamed.get(path, path), options)
        if is_touched or _is_touched(old, sides.changed):
            one = compared_flow(old, new, options, prices)
            found += [one] if one is not None else []
    new_name = span.new.name if span.new is not None else "the files on disk"
    new_commit = span.new.commit if span.new is not None else None
    return Comparison(
        old=ComparedRevision(name=span.old.name, commit=span.old.commit),
        new=ComparedRevision(name=new_name, commit=new_commit),
        flows=tuple(found),
    )


def _renamed(sides: Sides) -> Iterator[tuple[str, str]]:
    """Yield the new and the old path of each flow that has another path now.

    Its lock is that of a flow that is gone, or its file, word for word.
    """
    gone, come = (
        [path for path in sorted(sides.changed) if path.endswith(_FLOWS) and _is_only(path, *pair)]
        for pair in ((sides.old, sides.new), (sides.new, sides.old))
    )
    for find in (_made_at, _written_at):
        before = {data: path for path in reversed(gone) if (data := find(sides.old, path))}
        for path in tuple(come):
            data = find(sides.new, path)
            if data is not None and data in before:
                old = before.pop(data)
                come.remove(path)
                gone.remove(old)
                yield path, old


def _is_only(path: str, here: Project, there: Project) -> bool:
    return here.has(path) and not there.has(path)


def _made_at(project: Project, path: str) -> bytes | None:
    """Return the lock of a flow as it is written, None if no instance is in it."""
    lock = read_lock(project, path)
    return content_at(project, lock_path(path), limit=MAX_OUTPUT) if lock and lock.rows else None


def _written_at(project: Project, path: str) -> bytes | None:
    return content_at(project, path, limit=MAX_OUTPUT)


def _is_touched(side: Side, changed: frozenset[str]) -> bool:
    """Return whether a file differs that a flow reads or writes, or its lock."""
    if side is None:
        return False
    if not changed.isdisjoint({side.path, lock_path(side.path)}):
        return True
    if isinstance(side, UnreadableFlow):
        return False
    is_written = not changed.isdisjoint(written_files(side))
    return is_written or any(read.is_of(path) for read in side.reads for path in changed)


def _may_read_more(side: Side) -> bool:
    """Return whether a flow may read files that are not known, as it is gone or has a problem."""
    return not isinstance(side, FlowSide) or (bool(side.problem) and not side.lacks_input)
