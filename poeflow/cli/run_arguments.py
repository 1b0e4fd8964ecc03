"""What commands on earlier runs have in common: which run and instance, and the server of pages."""

import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec

from poeflow.cli.private_files_options import say, trusts_state
from poeflow.cli.targets import named_instead
from poeflow.errors import UsageError
from poeflow.operations.run_context import prices_of
from poeflow.operations.run_options import RunOptions
from poeflow.operations.state import own_workspace
from poeflow.project.project import Project
from poeflow.records import InstanceRecord, RunFilter, RunRow, named
from poeflow.redact import Scrubber, masked
from poeflow.report.pages.source import Pictures, ScrubbedRecords, Shown
from poeflow.settings import known_keys
from poeflow.store.history import History
from poeflow.store.workspace import Workspace

_LAST: Final = re.compile(r"last(?:~([0-9]{1,6}))?")
_SOME: Final = 1000
_DIGITS: Final = 18


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and an instance of it where one is named: `instance` is None where it did not end."""

    run: RunRow
    name: str | None = None
    instance: InstanceRecord | None = None


def history_here() -> History:
    """Return the history of the project around the working folder. Raises `UsageError`."""
    project = Project.find(Path.cwd())
    history = History(trusted_workspace(project).history_path, told=_warn)
    if not history.exists:
        hint = "run a flow first"
        raise UsageError(f"there is no history in {project.root}", hint=hint)
    return history


def trusted_workspace(project: Project) -> Workspace:
    """Return the state of a project. Raises `UsageError` where git tracks it without trust."""
    return own_workspace(project, RunOptions(environ=os.environ, trust_state=trusts_state()))


def place_of(history: History, written: str) -> Place:
    """Return what `RUN[/STEP[@KEY]]` means. Raises `UsageError`."""
    number, _, step = written.partition("/")
    run = _run(history, number)
    if not step:
        return Place(run=run)
    found = {one.id: one for one in history.instances(run.id)}
    name = named(step, found)
    if name not in found and not history.requests(run.id, name):
        message = f'run {run.id} has no instance "{step}"'
        raise UsageError(message, hint=named_instead(name, found))
    return Place(run=run, name=name, instance=found.get(name))


def with_result(history: History, one: InstanceRecord) -> InstanceRecord:
    """Return an instance that was current with the result that an earlier run had of it."""
    if one.text is not None or one.status != "ok" or one.fingerprint is None:
        return one
    made = history.made(one.fingerprint)
    if made is None:
        return one
    return msgspec.structs.replace(
        one,
        model=made.model,
        answered_by=made.answered_by,
        request=made.request,
        text=made.text,
        reasoning=made.reasoning,
        data=made.data,
    )


def before(history: History, run: RunRow) -> RunRow:
    """Return the run of the same flow before this one. Raises `UsageError`."""
    record = run.record
    alike = RunFilter(flow=record.flow, simulated=record.simulated, limit=_SOME)
    rows = history.runs(alike)
    earlier = [row for row in rows if row.id < run.id]
    if not earlier:
        message = f"{record.flow[2:]} was not run before run {run.id}"
        raise UsageError(message, hint="poeflow history lists all runs")
    return earlier[0]


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


def _warn(message: str) -> None:
    say(f"warning: {message}")


if TYPE_CHECKING:
    from poeflow.report.pages.site import Serving

_EXTRA: Final = ("starlette", "uvicorn")


@contextlib.asynccontextmanager
async def served(project: Project, *, port: int = 0) -> AsyncIterator["Serving"]:
    """Serve the pages of a project while the block lasts, on this machine alone.

    Raises `UsageError` where the port cannot be taken or the extra `ui` is not installed.
    """
    try:
        from poeflow.report.pages.site import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        hint = "pip install 'poeflow[ui]'"
        raise UsageError("the pages need starlette and uvicorn", hint=hint) from None
    with History(trusted_workspace(project).history_path, told=_warn) as history:
        async with serve(shown_of(project, history), port=port) as serving:
            yield serving


def shown_of(project: Project, history: History) -> Shown:
    """Return what pages show of a project, with the secrets of the environment masked."""
    scrubber = Scrubber(*known_keys(os.environ))

    def completed(record: InstanceRecord) -> InstanceRecord:
        return cast("InstanceRecord", masked(with_result(history, record), scrubber))

    return Shown(
        records=ScrubbedRecords(history, scrubber),
        pictures=Pictures(project, Workspace(project, offline=True).outputs()),
        prices=prices_of(project, os.environ),
        completed=completed,
    )
