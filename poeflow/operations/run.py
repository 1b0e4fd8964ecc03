"""Runs a checked flow, with its lock and its record in the history."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import cast

import msgspec

from poeflow.engine.record import Scrubbed
from poeflow.engine.run import BUG, Outcome, run_plan
from poeflow.engine.run_state import FailurePolicy
from poeflow.engine.tools import Toolboxes, refused_toolboxes, running_tools, toolboxes
from poeflow.errors import PoeflowError, StaleError
from poeflow.events import Event, Listener, RunFinished
from poeflow.operations.check import Checkup
from poeflow.operations.locks import inputs_hash, kept_up, lock_of, lock_update_of
from poeflow.operations.plan import planned, selection_of
from poeflow.operations.run_context import budget_of, run_context, unheard, user_config, warner
from poeflow.operations.run_options import RunOptions
from poeflow.operations.state import own_workspace
from poeflow.operations.status import survey_checked
from poeflow.planning.instances import MAX_RUN
from poeflow.planning.plan import Plan, Selection
from poeflow.project.project import Project
from poeflow.records import Recorder, RunEnd, RunRecord, outer_step
from poeflow.redact import Scrubber, masked
from poeflow.settings import UserConfig, keys_of
from poeflow.store.git import Git
from poeflow.store.history import History
from poeflow.store.workspace import Workspace
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


async def run_checked(found: Checkup, options: RunOptions) -> Outcome:
    """Run a flow that was checked. Raises as `run` does."""
    made, planner = planned(found, options, most=MAX_RUN)
    workspace = own_workspace(found.project, options)
    selection = selection_of(made, options, workspace)
    checked, config = made.checked, user_config(found.project, options)
    boxes = await _toolboxes(found, made, selection, options, config)
    budget = budget_of(found.project, checked.file.flow.limits, options)
    budget.check_priced(made.models())
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(workspace.hold(wait=options.wait))
        lock = lock_of(workspace, made, options)
        lock_update = lock_update_of(lock, options.listen or unheard)
        kept = recording(found.project, workspace, made, options, config)
        history = await stack.enter_async_context(kept)
        given = run_context(
            found.project,
            workspace,
            checked,
            options=replace(options, listen=history.heard(options.listen or unheard)),
            budget=budget,
            config=config,
            lock_update=lock_update,
            asks=True,
            selection=selection,
            recorder=history.recorder,
        )
        context = await stack.enter_async_context(given)
        failure_policy = FailurePolicy(keep_going=options.keep_going, fail_fast=options.fail_fast)
        async with kept_up(lock, lock_update, inputs_hash(made), options.clock):
            return await run_plan(
                made, planner, context, boxes, lock_update, failure_policy=failure_policy
            )


async def _toolboxes(
    found: Checkup, made: Plan, selection: Selection, options: RunOptions, config: UserConfig
) -> Toolboxes:
    """Return the tools of the steps that run. Raises `UsageError` if the user allows none.

    What is current runs none, and needs no permission.
    """
    checked = made.checked
    if options.allow_tools or config.allow_tools:
        return toolboxes(found.project, checked, selection.touches)
    touched = {name for name, *_ in running_tools(checked) if selection.touches(name)}
    if not touched:
        return refused_toolboxes(checked, touched.__contains__)
    again = {outer_step(name) for name in selection.again} | set(_uncached(made))
    try:
        facts = await survey_checked(found, options)
    except StaleError:
        return refused_toolboxes(checked, touched.__contains__)
    stale = again | {outer_step(fact.id) for fact in facts if not fact.is_current}
    is_all = selection.is_all_again
    return refused_toolboxes(checked, lambda name: name in touched and (is_all or name in stale))


def _uncached(made: Plan) -> Iterator[str]:
    """Yield the steps that are asked on every run."""
    for step, instances in made.prepared.items():
        if any(one.settings is not None and not one.settings.cache for one in instances):
            yield step
