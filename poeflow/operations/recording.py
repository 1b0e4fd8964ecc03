"""Writes a run's history record while the run goes on, and reads what earlier runs left there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from typing import Final

import msgspec

from poeflow import errors
from poeflow.digest import Json, json_pieces
from poeflow.engine.asking.context import exit_code_of
from poeflow.engine.lock_update import Length
from poeflow.events import Event, LeavingError, RunFinished, ignore, leaving
from poeflow.operations.check import Checkup
from poeflow.operations.run_options import RunOptions, warner
from poeflow.operations.state import workspace_of
from poeflow.planning.plan import Plan
from poeflow.project.project import Project
from poeflow.records import (
    AnswerRecord,
    InstanceRecord,
    Recorder,
    RequestRecord,
    RunEnd,
    RunFilter,
    RunRecord,
    step_of,
    wholes_of,
)
from poeflow.redact import Scrubber, masked
from poeflow.settings import UserConfig, keys_of
from poeflow.store.git import Git
from poeflow.store.workspace import Workspace
from poeflow.version import __version__

MAX_OUTPUTS: Final = 1024 * 1024
"""Bytes of a flow's outputs that are stored with its run. Larger ones are left to the instances,
whose results they are: these are stored once."""
_RUNS: Final = 100
"""Among how many runs the last one with the same models is looked for."""


@contextlib.asynccontextmanager
async def recording(
    project: Project, workspace: Workspace, plan: Plan, options: RunOptions, config: UserConfig
) -> AsyncIterator["Recording"]:
    """Store a run of `plan`, and how it ends, in the history.

    An error of the history is a warning and stops no run.
    """
    git = Git.find(project.root, options.environ)
    state = await asyncio.to_thread(git.commit_and_dirty) if git is not None else (None, None)
    began = options.clock.monotonic()
    record = RunRecord(
        flow=plan.file.path,
        name=plan.file.name,
        started=options.clock.now(),
        simulated=options.offline,
        models=dict(options.models),
        version=__version__,
        inputs=dict(plan.inputs),
        steps=dict(plan.edges),
        commit=state[0],
        is_dirty=state[1],
        is_part=options.is_part,
    )
    scrubber = Scrubber(*keys_of(options.environ, config.key_variables))
    safe = masked(record, scrubber)
    with workspace.history(warner(options)) as history:
        begun = Recording(
            MaskingRecorder(history.begin(safe), scrubber),
            elapsed=lambda: options.clock.monotonic() - began,
        )
        try:
            yield begun
        except BaseException as error:
            reason = str(error) if isinstance(error, errors.PoeflowError) else ""
            begun.close(exit_code_of(error, options.cut_short), reason)
            if isinstance(error, LeavingError):
                raise error.error from None
            raise
        begun.close()


class Recording:
    """The record of a run in the history. `elapsed` gives the seconds since it began."""

    def __init__(self, recorder: Recorder, elapsed: Callable[[], float]) -> None:
        self.recorder = recorder
        self._elapsed = elapsed
        self._end: RunEnd | None = None

    def heard_by(self, options: RunOptions) -> RunOptions:
        """Return options whose listener remembers how the run ends, and passes every event on.

        What ends programs comes out of the tasks of a run as a `LeavingError`.
        """
        listen = leaving(options.listener)

        def hear(event: Event) -> None:
            if isinstance(event, RunFinished):
                fields = msgspec.structs.asdict(event)
                end = RunEnd(
                    **{name: fields[name] for name in RunEnd.__struct_fields__ if name in fields}
                )
                is_small = sum(map(len, json_pieces(end.outputs))) <= MAX_OUTPUTS
                self._end = end if is_small else msgspec.structs.replace(end, outputs={})
            listen(event)

        return msgspec.structs.replace(options, listen=hear, stop=leaving(options.stop))

    def close(self, exit_code: int | None = None, reason: str = "") -> None:
        """Store how the run ended; `exit_code` is that of the error or signal that ended it.

        `reason` is what that error says.
        """
        end = self._end or RunEnd(exit_code=errors.BUG, seconds=self._elapsed())
        if exit_code is not None:
            end = msgspec.structs.replace(end, exit_code=exit_code, reason=reason)
        self.recorder.ended(end)


class MaskingRecorder:
    """A recorder that masks the secrets in records, then passes them to `recorder`."""

    def __init__(self, recorder: Recorder, scrubber: Scrubber) -> None:
        self._recorder = recorder
        self._scrubber = scrubber

    async def requested(self, record: RequestRecord) -> int:
        return await self._recorder.requested(masked(record, self._scrubber))

    def answered(self, number: int, record: AnswerRecord, *, stored: str | None = None) -> None:
        self._recorder.answered(number, masked(record, self._scrubber), stored=stored)

    def instance(self, record: InstanceRecord) -> None:
        self._recorder.instance(masked(record, self._scrubber))

    def ended(self, record: RunEnd) -> None:
        self._recorder.ended(masked(record, self._scrubber))


def last_outputs(found: Checkup, options: RunOptions) -> Mapping[str, Json]:
    """Return the outputs of the last run of a flow that succeeded; none if they are not known.

    A trial of other models does not count.
    """
    workspace = workspace_of(found.project, options)
    if found.loaded.file is None or workspace.is_tracked:
        return {}
    wanted = RunFilter(
        flow=found.loaded.file.path,
        simulated=options.offline,
        state="ok",
        is_trial=False,
        limit=1,
    )
    try:
        rows = workspace.history(ignore).runs(wanted)
    except errors.DiskError:
        return {}
    return rows[0].end.outputs if rows and rows[0].end is not None else {}


def lengths_in(
    workspace: Workspace, plan: Plan, options: RunOptions
) -> Callable[[], Mapping[str, Length]]:
    """Return a function that reads the lengths of a flow's requests from the history, if any."""

    def read() -> Mapping[str, Length]:
        history = workspace.history(ignore)
        try:
            found = history.lengths(plan.file.path, simulated=options.offline)
        except errors.DiskError:
            return {}
        return {name: Length(*known) for name, known in found.items()}

    return read


def failed_instances(
    plan: Plan, workspace: Workspace, options: RunOptions
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the instances that failed in the flow's last run with the same models.

    The second ones use a flow of which no turn was good enough, so that all in it failed.
    """
    if workspace.is_tracked:
        return frozenset(), frozenset()
    history = workspace.history(ignore)
    wanted = RunFilter(flow=plan.file.path, simulated=options.offline, limit=_RUNS)
    runs = (one for one in history.runs(wanted) if one.record.models == options.models)
    found = [one for run in islice(runs, 1) for one in history.instances(run.id)]
    failed = frozenset(one.id for one in found if one.status == "failed")
    above = {step_of(one.id).rpartition("/")[0] for one in found} - {""}
    using = failed & {whole for one in above for whole in wholes_of(one)}
    unmet = frozenset(one.id for one in found if one.id in using and one.verdicts)
    return failed - unmet, unmet
