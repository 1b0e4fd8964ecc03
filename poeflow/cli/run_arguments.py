"""Finds the run and the instance that a command names, in the history of the project."""

import os
from pathlib import Path
from typing import Final

import msgspec

from poeflow.cli.output import warn
from poeflow.cli.private_files_options import trusts_state
from poeflow.cli.targets import named_instead
from poeflow.errors import UsageError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.run_options import RunOptions
from poeflow.operations.state import writable_workspace
from poeflow.project.project import Project
from poeflow.records import InstanceRecord, RunFilter, RunRow, named
from poeflow.store.history import History
from poeflow.store.workspace import Workspace

_LAST: Final = lazy_pattern(r"last(?:~([0-9]{1,6}))?")
_DIGITS: Final = 18


class RunArgument(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and the instance of it that is named; `instance` is None if it did not end.

    If a step that runs many times is named, `loop` has its instances.
    """

    run: RunRow
    name: str | None = None
    instance: InstanceRecord | None = None
    loop: tuple[InstanceRecord, ...] = ()


def history_here() -> History:
    """Return the history of the project around the working folder. Raises `UsageError`."""
    project = Project.find(Path.cwd())
    history = history_of(project)
    if not history.exists:
        hint = "run a flow first"
        raise UsageError(f"there is no history in {project.root}", hint=hint)
    return history


def history_of(project: Project) -> History:
    """Return the history of a project, which may be empty. Raises `UsageError`."""
    return History(trusted_workspace(project).history_path, warn=warn)


def trusted_workspace(project: Project) -> Workspace:
    """Return the state of a project. Raises `UsageError` if git tracks it and it is not trusted."""
    return writable_workspace(project, RunOptions(environ=os.environ, trust_state=trusts_state()))


def run_argument(history: History, written: str, *, with_loops: bool = False) -> RunArgument:
    """Return the run and instance that `RUN[/STEP[@KEY]]` names. Raises `UsageError`.

    A step that runs many times is no instance, and refused unless `with_loops`.
    """
    number, _, step = written.partition("/")
    run = _run(history, number)
    if not step:
        return RunArgument(run=run)
    found = {one.id: one for one in history.instances(run.id)}
    name = named(step, found)
    loop = tuple(one for one in found.values() if one.step == step) if with_loops else ()
    if loop and name not in found:
        return RunArgument(run=run, name=name, loop=loop)
    if name not in found and not history.requests(run.id, name):
        message = f'run {run.id} has no instance "{step}"'
        raise UsageError(message, hint=named_instead(name, found))
    return RunArgument(run=run, name=name, instance=found.get(name))


def with_result(history: History, one: InstanceRecord) -> InstanceRecord:
    """Return an instance; if it was current, with the result of the run that made it."""
    if one.text is not None or one.status != "ok" or one.fingerprint is None:
        return one
    made = history.made(one.fingerprint)
    if made is None:
        return one
    return msgspec.structs.replace(
        one,
        model=made.model,
        response_id=made.response_id,
        answered_by=made.answered_by,
        request=made.request,
        text=made.text,
        reasoning=made.reasoning,
        data=made.data,
        unread=made.unread,
        answer=made.answer,
    )


def _run(history: History, written: str) -> RunRow:
    found = _LAST.fullmatch(written)
    row: RunRow | None = None
    if found is not None:
        back = int(found[1] or 0)
        rows = history.runs(RunFilter(limit=back + 1))
        row = rows[back] if back < len(rows) else None
    elif written.isdecimal() and len(written) < _DIGITS:
        row = history.run(int(written))
    if row is None:
        hint = "a run is a number of `poeflow history`, last, or last~1 for the one before"
        raise UsageError(f'there is no run "{written}"', hint=hint)
    return row
