"""The Python API: load, check, plan, survey and run flows."""

import asyncio
import contextlib
from pathlib import Path
from typing import Unpack

from poeflow.engine.results import Outcome
from poeflow.errors import InvalidFlowError, UsageError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.load import load_flow as load_file
from poeflow.operations.check import checkup
from poeflow.operations.plan import planned
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunKeywords, RunOptions, flow_path, with_keywords
from poeflow.operations.status import survey_checked
from poeflow.planning.plan import Plan
from poeflow.problems import Problem, errors_only
from poeflow.project.places import placed
from poeflow.project.project import Project
from poeflow.records import InstanceStatus


def load(path: str | Path) -> FlowFile:
    """Return the flow at `path`: `flow` is its content, `name` and `path` are its names.

    Raises `InvalidFlowError` with every problem of the schema. Templates are not checked.
    """
    project, canonical, shown = _located(path)
    loaded = load_file(project, canonical, shown=shown)
    faults = errors_only(loaded.problems)
    if loaded.file is None or faults:
        raise InvalidFlowError(faults)
    return loaded.file


def check(path: str | Path) -> tuple[Problem, ...]:
    """Return every problem of the flow at `path`, sorted by place; empty if there is none.

    Nothing is run, sent or rendered. A problem of severity `warning` does not stop a run.
    """
    return checkup(*_located(path)).problems


def plan(path: str | Path, options: RunOptions | None = None, **given: Unpack[RunKeywords]) -> Plan:
    """Return what a run of the flow at `path` would do, as far as it is known before one.

    Options are those of `RunOptions`, as one object, as keywords, or both: keywords win.
    `instances` maps each step to its own, with model and files of each; a step that is not
    in it is unknown until those it needs have run. Nothing is sent, no tool is imported. Raises
    `InvalidFlowError` or `UsageError`.
    """
    return planned(checkup(*_located(path)), with_keywords(options, given))[0]


async def aplan(
    path: str | Path, options: RunOptions | None = None, **given: Unpack[RunKeywords]
) -> Plan:
    """Do what `plan` does in a thread, so that a running event loop goes on."""
    _require_loop("aplan")
    return await asyncio.to_thread(plan, path, with_keywords(options, given))


def status(
    path: str | Path, options: RunOptions | None = None, **given: Unpack[RunKeywords]
) -> tuple[InstanceStatus, ...]:
    """Return the status of every instance of the flow at `path`, with all reasons.

    An instance is fresh, new, stale, missing, edited, skipped, needed (asked again because another
    builds on its answer), or unknown until another has run. Options are as for `plan`. Nothing is
    sent, run or written, and no key is needed. Raises `InvalidFlowError`, `UsageError`, or
    `StaleError` if the lock cannot be read.
    """
    _refuse_loop("astatus")
    return asyncio.run(astatus(path, options, **given))


async def astatus(
    path: str | Path, options: RunOptions | None = None, **given: Unpack[RunKeywords]
) -> tuple[InstanceStatus, ...]:
    """Do what `status` does in a running event loop."""
    _require_loop("astatus")
    return await survey_checked(checkup(*_located(path)), with_keywords(options, given))


def run(
    path: str | Path, options: RunOptions | None = None, **given: Unpack[RunKeywords]
) -> Outcome:
    """Run the flow at `path` and return how it ended; blocks until then.

    Options are those of `RunOptions`, as one object, as keywords, or both: keywords win. A failing
    step is reported in the outcome. Raises `InvalidFlowError`, `UsageError`, `AccountError`,
    `BusyError` or `DiskError`.
    """
    _refuse_loop("arun")
    return asyncio.run(arun(path, options, **given))


async def arun(
    path: str | Path, options: RunOptions | None = None, **given: Unpack[RunKeywords]
) -> Outcome:
    """Do what `run` does in a running event loop."""
    _require_loop("arun")
    return await run_checked(checkup(*_located(path)), with_keywords(options, given))


def _refuse_loop(instead: str) -> None:
    """Raise `UsageError` in a running event loop, which cannot wait for another."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        message = "an event loop is running here already, as in a notebook"
        raise UsageError(message, hint=f"write `await poeflow.{instead}(...)`")


def _require_loop(name: str) -> None:
    """Raise `UsageError` without an event loop of asyncio, as on trio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        message = f"{name} needs a running event loop of asyncio"
        raise UsageError(message, hint="use asyncio.run(); trio is not supported") from None


def _located(path: str | Path) -> tuple[Project, str, str]:
    named = flow_path(path)
    project, canonical = placed(named)
    return project, canonical, named.as_posix()
