"""The front door: check and run flows from Python. The wiring of all packages is here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from poeflow.check.flow import Checked
from poeflow.check.flow import check as check_file
from poeflow.client.aio import AsyncPoeClient
from poeflow.clock import Clock, SystemClock
from poeflow.digest import Json
from poeflow.engine.means import Means
from poeflow.engine.plan import Plan, make_plan
from poeflow.engine.run import Outcome, run_plan
from poeflow.engine.step import no_key
from poeflow.engine.texts import Texts
from poeflow.errors import InvalidFlowError, UsageError
from poeflow.events import Event, Listener, Warned
from poeflow.files import FileProblem, Project
from poeflow.problems import Problem, errors_only
from poeflow.redact import Secret
from poeflow.settings import api_key_from, base_url_from, process_environment
from poeflow.spec import inputs_file
from poeflow.spec.inputs import gather
from poeflow.spec.load import FlowFile, Loaded, load
from poeflow.store.workspace import Workspace
from poeflow.templates.environment import Environment
from poeflow.templates.reader import ProjectReader

_SIMULATED_KEY: Final = Secret("simulated-key")


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """What checking a flow found. `checked` is None where its shape is invalid."""

    project: Project
    loaded: Loaded
    checked: Checked | None
    problems: tuple[Problem, ...]
    environment: Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to run a flow.

    `inputs` are typed values, `texts` those of a command line (they win and are read as the
    input's type asks), `inputs_file` a YAML or JSON file of values. Paths are relative to that
    file, else to `folder`. `refresh` asks again where an
    answer is stored; `offline` asks a simulator; `wait` is how many seconds to wait for another
    run to end.
    """

    inputs: Mapping[str, Json] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    inputs_file: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
    offline: bool = False
    keep_going: bool = False
    refresh: bool = False
    concurrency: int | None = None
    wait: float = 10.0
    environ: Mapping[str, str] = field(default_factory=process_environment)
    listen: Listener | None = None
    clock: Clock = field(default_factory=SystemClock)


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
    inputs = _inputs(found.project, file, options)
    texts = Texts(file, found.environment.reader, found.environment)
    plan = make_plan(found.project, found.checked, inputs, texts, concurrency=options.concurrency)
    workspace = Workspace(found.project, offline=options.offline)
    with workspace.hold(wait=options.wait):
        async with _means(found.project, workspace, plan, options) as means:
            return await run_plan(plan, means, texts, keep_going=options.keep_going)


@contextlib.asynccontextmanager
async def _means(
    project: Project, workspace: Workspace, plan: Plan, options: RunOptions
) -> AsyncIterator[Means]:
    listen = options.listen or _unheard
    async with contextlib.AsyncExitStack() as stack:
        key, client, provider = None, None, "poe"
        if plan.asks and options.offline:
            client = await stack.enter_async_context(_simulated_client(stack, plan))
        elif plan.asks:
            key = api_key_from(options.environ)
            base_url = base_url_from(options.environ)
            provider = base_url or provider
            if key is not None:
                client = await stack.enter_async_context(_client(plan, key, base_url))
            elif not workspace.has_answers:
                raise no_key("nothing was answered before")
        yield Means(
            project=project,
            outputs=workspace.outputs(),
            client=client,
            answers=workspace.answers(on_corrupt=_warner(listen)),
            ledger=workspace.ledger(),
            clock=options.clock,
            listen=listen,
            provider=provider,
            simulated=options.offline,
            key=key,
            refresh=options.refresh,
        )


def _client(plan: Plan, key: Secret, base_url: str | None) -> AsyncPoeClient:
    per_minute = plan.file.flow.limits.requests_per_minute
    return AsyncPoeClient(api_key=key, base_url=base_url, requests_per_minute=per_minute)


@contextlib.asynccontextmanager
async def _simulated_client(
    stack: contextlib.AsyncExitStack, plan: Plan
) -> AsyncIterator[AsyncPoeClient]:
    from poeflow.simulator.server import Simulator

    simulator = await stack.enter_async_context(Simulator(answers_unknown=True))
    async with _client(plan, _SIMULATED_KEY, simulator.base_url) as client:
        yield client


def _unheard(_event: Event) -> None:
    """Listen to nothing."""


def _warner(listen: Callable[[Event], None]) -> Callable[[str], None]:
    return lambda message: listen(Warned(at=0.0, step=None, message=message))


def _inputs(project: Project, file: FlowFile, options: RunOptions) -> dict[str, Json]:
    """Return the inputs of a run, files among them as project paths.

    Given ones win over `NAME.inputs.yaml` beside the flow, and that over the defaults.
    """
    flow = file.flow
    beside = inputs_file.beside(file.path)
    shown = project.shown(beside, options.folder)
    kept = inputs_file.read(project, beside, shown=shown) or {}
    here = _marker(project, options.folder)
    values = {
        **_anchored(project, file, kept, beside),
        **_of_file(project, file, options),
        **_anchored(project, file, options.inputs, here),
    }
    texts = _anchored(project, file, options.texts, here)
    defaults = {
        name: spec.default
        for name, spec in flow.inputs.items()
        if spec.type == "file" and isinstance(spec.default, str)
    }
    values = {**_anchored(project, file, defaults, file.path), **values}
    inputs, faults = gather(flow, values, {k: str(v) for k, v in texts.items()})
    if faults:
        told = "\n".join(
            f"{fault.message}; {fault.hint}" if fault.hint else fault.message for fault in faults
        )
        raise UsageError(told)
    return inputs


def _of_file(project: Project, file: FlowFile, options: RunOptions) -> dict[str, Json]:
    """Return the inputs of `--inputs-file`, which may lie anywhere."""
    path = options.inputs_file
    if path is None:
        return {}
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise UsageError(f"{path}: {reason}", hint="name a YAML or JSON file of inputs") from None
    values = inputs_file.values_of(data, shown=path.as_posix())
    return _anchored(project, file, values, _marker(project, path.parent))


def _anchored(
    project: Project, file: FlowFile, values: Mapping[str, Json], relative_to: str | None
) -> dict[str, Json]:
    """Return `values` with what inputs of type file hold as canonical, readable project paths."""
    anchored: dict[str, Json] = dict(values)
    for name, value in values.items():
        spec = file.flow.inputs.get(name)
        if spec is None or spec.type != "file" or not isinstance(value, str):
            continue
        try:
            anchored[name] = _canonical(project, value, relative_to)
            project.size_of(str(anchored[name]))
        except FileProblem as error:
            raise UsageError(f'the input "{name}": {error.message}', hint=error.hint) from None
    return anchored


def _canonical(project: Project, value: str, relative_to: str | None) -> str:
    path = Path(value)
    if path.is_absolute() and not value.startswith("//") and path.is_relative_to(project.root):
        return "//" + path.relative_to(project.root).as_posix()
    if relative_to is None and not value.startswith("//"):
        hint = f"go into {project.root}, or write //path from there"
        raise FileProblem(f"{value} is not inside the project", hint=hint)
    return project.canonical(value, relative_to=relative_to or "//")


def _marker(project: Project, folder: Path) -> str | None:
    """Return a project path that lies in `folder`, None where that is outside the project."""
    folder = folder.resolve()
    if not folder.is_relative_to(project.root):
        return None
    return f"//{(folder.relative_to(project.root) / '_').as_posix()}"


def _located(path: str | Path) -> tuple[Project, str, str]:
    resolved = Path(path).resolve()
    project = Project.find(resolved.parent)
    return project, f"//{resolved.relative_to(project.root).as_posix()}", Path(path).as_posix()
