"""The history of a run: begun before anything is sent, and ended however the run ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

from poeflow.engine.plan import Plan
from poeflow.engine.recording import Scrubbed
from poeflow.engine.run import Outcome
from poeflow.errors import PoeflowError
from poeflow.files import Project
from poeflow.records import Recorder, RunEnd, RunRecord
from poeflow.redact import Scrubber, masked
from poeflow.store.git_state import git_state
from poeflow.store.history import History
from poeflow.store.workspace import Workspace
from poeflow.user_config import UserConfig, keys_of
from poeflow.version import __version__
from poeflow.wiring.means import warner
from poeflow.wiring.options import RunOptions

CANCELLED: Final = 130
"""The exit code of a run that was cut short by a signal, whichever it was."""
BUG: Final = 70


@contextlib.asynccontextmanager
async def recording(
    project: Project, workspace: Workspace, plan: Plan, options: RunOptions, config: UserConfig
) -> AsyncIterator["Recording"]:
    """Keep a run of `plan` in the history while the block lasts, and how it ends.

    What is wrong with the history is told as a warning; it never stops a run.
    """
    commit, is_dirty = await asyncio.to_thread(git_state, project.root, options.environ)
    began = options.clock.monotonic()
    record = RunRecord(
        flow=plan.file.path,
        name=plan.file.name,
        started=options.clock.now(),
        simulated=options.offline,
        version=__version__,
        inputs=dict(plan.inputs),
        steps=dict(plan.edges),
        commit=commit,
        is_dirty=is_dirty,
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
        except asyncio.CancelledError:
            begun.close(CANCELLED)
            raise
        except BaseException:
            begun.close(BUG)
            raise
        begun.close(BUG)


class Recording:
    """A run on its way into the history. `elapsed` gives the seconds since it began."""

    def __init__(self, recorder: Recorder, elapsed: Callable[[], float]) -> None:
        self.recorder = recorder
        self._elapsed = elapsed
        self._end: RunEnd | None = None

    def finish(self, outcome: Outcome) -> None:
        """Note how the run ended."""
        sources = [result.source for result in outcome.results.values()]
        spent = outcome.spent
        self._end = RunEnd(
            exit_code=outcome.exit_code,
            seconds=self._elapsed(),
            asked=sources.count("asked"),
            cached=sources.count("cached"),
            rendered=sources.count("rendered"),
            failed=len(outcome.failures),
            skipped=len(outcome.skipped),
            requests=spent.requests,
            tokens=spent.tokens,
            cost_usd=None if spent.cost_usd is None else float(spent.cost_usd),
            outputs=outcome.outputs,
        )

    def close(self, exit_code: int) -> None:
        """Keep how the run ended, or that it was cut short with an exit code."""
        self.recorder.ended(self._end or RunEnd(exit_code=exit_code, seconds=self._elapsed()))
