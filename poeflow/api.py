"""The front door: check and run flows from Python. `wiring` puts together what they work with."""

import asyncio
from pathlib import Path

import msgspec

from poeflow.check.flow import Checked
from poeflow.check.flow import check as check_file
from poeflow.engine.inputs import Given, inputs_of
from poeflow.engine.plan import make_plan
from poeflow.engine.run import Outcome, run_plan
from poeflow.engine.texts import Texts
from poeflow.errors import InvalidFlowError
from poeflow.files import Project
from poeflow.problems import Problem, errors_only
from poeflow.spec.load import Loaded, load
from poeflow.store.workspace import Workspace
from poeflow.templates.environment import Environment
from poeflow.templates.reader import ProjectReader
from poeflow.wiring import RunOptions, means_of


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """What checking a flow found. `checked` is None where its shape is invalid."""

    project: Project
    loaded: Loaded
    checked: Checked | None
    problems: tuple[Problem, ...]
    environment: Environment


def check(path: str | Path) -> tuple[Problem, ...]:
    """Return everything wrong with the flow at `path`, sorted by place; empty where it is sound.

    Nothing is run, sent or rendered. A problem of severity `warning` does not stop a run.
    """
    return checkup(*_located(path)).problems


def run(path: str | Path, *, offline: bool = False, **options: object) -> Outcome:
    """Run the flow at `path` and return how it ended; blocks until then.

    `options` are those of `RunOptions`. A failing step is told in the outcome. Raises
    `InvalidFlowError`, `UsageError`, `AccountError`, `BusyError` or `DiskError`.
    """
    return asyncio.run(arun(path, RunOptions(offline=offline, **options)))  # type: ignore[arg-type]  # checked by the dataclass


async def arun(path: str | Path, options: RunOptions | None = None) -> Outcome:
    """Do the same in a running event loop."""
    return await run_checked(checkup(*_located(path)), options or RunOptions())


def checkup(project: Project, path: str, shown: str) -> Checkup:
    """Load and check one flow. `path` is its project path, `shown` what messages call it."""
    loaded = load(project, path, shown=shown)
    environment = Environment(ProjectReader(project, Path.cwd()))
    problems, checked = loaded.problems, None
    looked_at = loaded.file or loaded.draft
    if looked_at is not None:
        checked = check_file(project, looked_at, environment)
        problems = tuple(sorted({*problems, *checked.problems}))
    return Checkup(
        project=project,
        loaded=loaded,
        checked=checked if loaded.file is not None else None,
        problems=problems,
        environment=environment,
    )


async def run_checked(found: Checkup, options: RunOptions) -> Outcome:
    """Run a flow that was checked. Raises as `run` does."""
    if found.checked is None or errors_only(found.problems):
        raise InvalidFlowError(errors_only(found.problems))
    file = found.checked.file
    given = Given(
        inputs=options.inputs,
        texts=options.texts,
        inputs_file=options.inputs_file,
        folder=options.folder,
    )
    inputs = inputs_of(found.project, file, given)
    texts = Texts(file, found.environment.reader, found.environment)
    plan = make_plan(found.project, found.checked, inputs, texts, concurrency=options.concurrency)
    workspace = Workspace(found.project, offline=options.offline)
    with workspace.hold(wait=options.wait):
        async with means_of(found.project, workspace, plan, options) as means:
            return await run_plan(plan, means, texts, keep_going=options.keep_going)


def _located(path: str | Path) -> tuple[Project, str, str]:
    resolved = Path(path).resolve()
    project = Project.find(resolved.parent)
    return project, f"//{resolved.relative_to(project.root).as_posix()}", Path(path).as_posix()
