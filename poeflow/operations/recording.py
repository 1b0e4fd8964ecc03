"""The history of a run: begun before anything is sent, and ended however the run ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import cast

import msgspec

from poeflow.engine.record import Scrubbed
from poeflow.engine.run import BUG
from poeflow.errors import PoeflowError
from poeflow.events import Event, Listener, RunFinished
from poeflow.operations.run_context import warner
from poeflow.operations.run_options import RunOptions
from poeflow.planning.plan import Plan
from poeflow.project.project import Project
from poeflow.records import Recorder, RunEnd, RunRecord
from poeflow.redact import Scrubber, masked
from poeflow.store.git import Git
from poeflow.store.history import History
from poeflow.store.workspace import Workspace
from poeflow.user_config import UserConfig, keys_of
from poeflow.version import __version__


@contextlib.asynccontextmanager
async def recording(
    project: Project, workspace: Workspace, plan: Plan, options: RunOptions, config: UserConfig
) -> AsyncIterator["Recording"]:
    """Keep a run of `plan` in the history while the block lasts, and how it ends.

    What is wrong with the history is told as a warning; it never stops a run.
    """
    git = Git.find(project.root, options.environ)
    state = await asyncio.to_thread(git.commit_and_dirty) if git is not None else (None, None)
    began = options.clock.monotonic()
    record = RunRecord(
        flow=plan.file.path,
        name=plan.file.name,
        started=options.clock.now(),
        simulated=options.offline,
        version=__version__,
        inputs=dict(plan.inputs),
        steps=dict(plan.edges),
        commit=state[0],
        is_dirty=state[1],
    )
    scrubber = Scrubber(*keys_of(options.environ, config.key_variables))
    safe = cast("RunRecord", masked(record, scrubber))
    with History(workspace.history_path, told=warner(options)) as history:
        begun = Recording(
            Scrubbed(history.begin(safe), scrubber),
            elapsed=lambda: options.clock.monotonic() - began,
        )
        try:
            yield begun
        except PoeflowError as error:
            begun.close(error.exit_code)
            raise
        except (asyncio.CancelledError, KeyboardInterrupt):
            begun.close(options.cut_short())
            raise
        except BaseException:
            begun.close(BUG)
            raise
        begun.close()


class Recording:
    """A run on its way into the history. `elapsed` gives the seconds since it began.

    What it comes to is what everybody hears when it ends.
    """

    def __init__(self, recorder: Recorder, elapsed: Callable[[], float]) -> None:
        self.recorder = recorder
        self._elapsed = elapsed
        self._end: RunEnd | None = None

    def heard(self, listen: Listener) -> Listener:
        """Return a listener that notes how the run ends, then hands every event on."""

        def hear(event: Event) -> None:
            if isinstance(event, RunFinished):
                told = msgspec.structs.asdict(event)
                self._end = RunEnd(**{name: told[name] for name in RunEnd.__struct_fields__})
            listen(event)

        return hear

    def close(self, exit_code: int | None = None) -> None:
        """Keep how the run ended; `exit_code` is that of what kept it from its end."""
        end = self._end or RunEnd(exit_code=BUG, seconds=self._elapsed())
        if exit_code is not None:
            end = msgspec.structs.replace(end, exit_code=exit_code)
        self.recorder.ended(end)
