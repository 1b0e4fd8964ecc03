"""Writes a run's history record and its lock while the run goes on; reads the last run's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from poeflow.clock import Clock
from poeflow.digest import Json, json_pieces
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.record import MaskingRecorder
from poeflow.engine.run import BUG
from poeflow.errors import DiskError, PoeflowError
from poeflow.events import Event, Listener, RunFinished
from poeflow.operations.check import Checkup
from poeflow.operations.run_options import RunOptions, warner
from poeflow.operations.state import workspace_of
from poeflow.planning.plan import Plan
from poeflow.project.project import Project
from poeflow.records import Recorder, RunEnd, RunFilter, RunRecord
from poeflow.redact import Scrubber, masked
from poeflow.settings import UserConfig, keys_of
from poeflow.store.git import Git
from poeflow.store.lockfile import Lock, LockFile
from poeflow.store.workspace import Workspace
from poeflow.version import __version__

MAX_OUTPUTS: Final = 1024 * 1024
"""Bytes of a flow's outputs that are stored with its run. Larger ones are left to the instances,
whose results they are: these are stored once."""
PAUSE: Final = 2.0
"""Seconds between two writes of a lock, at least."""
SHARE: Final = 20.0
"""The least pause between two writes of a large lock, as a multiple of the time that a write takes.
Answers are stored anyway."""


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
        except PoeflowError as error:
            begun.close(error.exit_code, str(error))
            raise
        except (asyncio.CancelledError, KeyboardInterrupt):
            begun.close(options.cut_short())
            raise
        except BaseException:
            begun.close(BUG)
            raise
        begun.close()


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
        rows = workspace.history(lambda _message: None).runs(wanted)
    except DiskError:
        return {}
    return rows[0].end.outputs if rows and rows[0].end is not None else {}


class Recording:
    """The record of a run in the history. `elapsed` gives the seconds since it began."""

    def __init__(self, recorder: Recorder, elapsed: Callable[[], float]) -> None:
        self.recorder = recorder
        self._elapsed = elapsed
        self._end: RunEnd | None = None

    def heard(self, listen: Listener) -> Listener:
        """Return a listener that remembers how the run ends, and passes every event on."""

        def hear(event: Event) -> None:
            if isinstance(event, RunFinished):
                fields = msgspec.structs.asdict(event)
                end = RunEnd(
                    **{name: fields[name] for name in RunEnd.__struct_fields__ if name in fields}
                )
                is_small = sum(map(len, json_pieces(end.outputs))) <= MAX_OUTPUTS
                self._end = end if is_small else msgspec.structs.replace(end, outputs={})
            listen(event)

        return hear

    def close(self, exit_code: int | None = None, reason: str = "") -> None:
        """Store how the run ended; `exit_code` is that of the error or signal that ended it.

        `reason` is what that error says.
        """
        end = self._end or RunEnd(exit_code=BUG, seconds=self._elapsed())
        if exit_code is not None:
            end = msgspec.structs.replace(end, exit_code=exit_code, reason=reason)
        self.recorder.ended(end)


@contextlib.asynccontextmanager
async def writing_lock(
    lock: LockFile | None, lock_update: LockUpdate, inputs: str, clock: Clock
) -> AsyncIterator[None]:
    """Write the lock now and then while a run goes on, and the whole lock when it has ended.

    `inputs` is the hash of the run's inputs. If the run is cut short, the lock has its entries and
    the other ones of the last run. Raises `DiskError`.
    """
    if lock is None:
        yield
        return
    writing = asyncio.create_task(_write_so_far(lock, lock_update, inputs, clock))
    try:
        yield
    except BaseException:
        await _ended(writing)
        if lock_update.count:
            with contextlib.suppress(DiskError):
                _write(lock, lock_update, lock_update.lock_so_far(inputs))
        raise
    await _ended(writing)
    _write(lock, lock_update, lock_update.lock(inputs))


def _write(file: LockFile, lock_update: LockUpdate, lock: Lock) -> None:
    """Write a lock, unless the file has it already. Raises `DiskError`."""
    if not (file.is_as_read and lock_update.is_unchanged(lock)):
        file.write(lock)


async def _ended(writing: asyncio.Task[None]) -> None:
    """End the task that writes the lock. A full disk is reported at the last write."""
    writing.cancel()
    await asyncio.wait([writing])
    if not writing.cancelled():
        writing.exception()


async def _write_so_far(lock: LockFile, lock_update: LockUpdate, inputs: str, clock: Clock) -> None:
    written, pause = 0, PAUSE
    while True:
        await clock.asleep(pause)
        if lock_update.count != written:
            written = lock_update.count
            began = clock.monotonic()
            so_far = lock_update.lock_so_far(inputs)
            write = asyncio.ensure_future(asyncio.to_thread(_write, lock, lock_update, so_far))
            try:
                await asyncio.shield(write)
            except asyncio.CancelledError:
                await write  # else it would replace the whole lock later
                raise
            pause = max(PAUSE, SHARE * (clock.monotonic() - began))
