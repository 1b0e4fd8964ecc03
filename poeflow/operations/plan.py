"""Plans a checked flow by the options of a command, and selects the instances to run."""

from collections.abc import Iterator, Mapping

import msgspec

from poeflow.errors import InvalidFlowError, UsageError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import is_fan_out
from poeflow.flowfile.model import Flow, ModelAlias
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.project_settings import least
from poeflow.flowfile.rules import model_fault
from poeflow.operations.check import Checkup
from poeflow.operations.recording import failed_instances
from poeflow.operations.run_options import RunOptions, user_config, warn_once
from poeflow.operations.secret_inputs import secret_inputs
from poeflow.planning.bot_checks import bot_problems
from poeflow.planning.checked import Checked, check_steps, with_needs
from poeflow.planning.plan import Plan
from poeflow.planning.planner import Planner
from poeflow.planning.run_inputs import GivenInputs, inputs_of
from poeflow.planning.selection import Selection, check_glob, check_keys
from poeflow.problems import Problem, errors_only
from poeflow.project.project import Project
from poeflow.store.workspace import Workspace
from poeflow.templates.sites import Texts, has_template


def planned(
    found: Checkup, options: RunOptions, *, most: int | None = None, makes_key: bool = False
) -> tuple[Plan, Planner]:
    """Plan a flow that was checked. Raises `InvalidFlowError` or `UsageError`.

    A plan has up to `most` instances, unless the user's configuration says otherwise; without
    `most` the limit is that for commands which run nothing. With `makes_key` the user gets a key of
    hashes when a secret input needs one.
    """
    if found.checked is None or errors_only(found.problems):
        raise InvalidFlowError(errors_only(found.problems))
    checked = found.checked
    if options.models:
        checked = tried(checked, checked_models(found, options.models))
        known = frozenset(_bot_problems(found.project, found.checked))
        for problem in _bot_problems(found.project, checked):
            if problem not in known:
                warn_once(options, str(problem))
    given = GivenInputs(
        inputs=options.inputs,
        texts=options.texts,
        inputs_file=options.inputs_file,
        folder=options.folder,
        secrets=secret_inputs(checked.file.flow, options.environ, makes_key=makes_key).stand_ins,
    )
    inputs = inputs_of(found.project, checked.file, given)
    reader = found.environment.reader
    texts: dict[str, Texts] = {}

    def make_texts(file: FlowFile) -> Texts:
        """Return the texts of a flow: the same object for every step that uses it."""
        if file.path not in texts:
            texts[file.path] = Texts(file, reader, found.environment)
        return texts[file.path]

    allowed = user_config(found.project, options).max_instances
    planner = Planner(
        found.project,
        make_texts,
        max_instances=allowed or most,
        selection=Selection(first=options.first, key=options.key),
    )
    concurrency = least(options.concurrency, options.limits.concurrency)
    return planner.plan(checked, inputs, concurrency=concurrency), planner


def checked_models(found: Checkup, models: Mapping[str, str]) -> Mapping[str, str]:
    """Return the models to try, by alias. Raises `UsageError` for an unknown alias."""
    known = aliases_of(found)
    for alias, name in models.items():
        if alias not in known:
            raise UsageError(f'unknown model alias "{alias}"', hint=one_of(alias, known))
        reason = "a template cannot be tried" if has_template(name) else model_fault(name)
        if reason:
            raise UsageError(f"{alias}={name}: {reason}", hint="name a bot: poeflow models")
    return models


def aliases_of(found: Checkup) -> frozenset[str]:
    """Return the model aliases of a flow and of those it uses."""
    return frozenset() if found.checked is None else _aliases(found.checked)


def _aliases(checked: Checked) -> frozenset[str]:
    own = frozenset(checked.file.flow.models)
    return own.union(*map(_aliases, checked.children.values()))


def _bot_problems(project: Project, checked: Checked) -> Iterator[Problem]:
    """Yield the problems with the bots of a flow and of those it uses."""
    yield from bot_problems(project, checked.file)
    for child in checked.children.values():
        yield from _bot_problems(project, child)


def tried(checked: Checked, models: Mapping[str, str], outermost: Flow | None = None) -> Checked:
    """Return a checked flow, and those it uses, in which aliases stand for other `models`.

    These may be aliases themselves, first of the `outermost` flow. All else that an alias says
    stays.
    """
    flow, document = checked.file.flow, checked.file.document
    outer = outermost or flow
    aliases, root = dict(flow.models), document.root
    for name in models.keys() & aliases.keys():
        other = _alias_of(outer, models[name]) or flow.models.get(models[name])
        other = other or ModelAlias(model=models[name], provider=aliases[name].provider)
        aliases[name] = msgspec.structs.replace(
            aliases[name], model=other.model, provider=other.provider
        )
        root = None if root is None else root.with_data(("models", name, "model"), other.model)
    return msgspec.structs.replace(
        checked,
        file=msgspec.structs.replace(
            checked.file,
            flow=msgspec.structs.replace(flow, models=aliases),
            document=msgspec.structs.replace(document, root=root),
        ),
        children={step: tried(child, models, outer) for step, child in checked.children.items()},
    )


def _alias_of(flow: Flow, name: str) -> ModelAlias | None:
    """Return an alias of a flow with the provider that it has there."""
    alias = flow.models.get(name)
    if alias is None or alias.provider is not None:
        return alias
    return msgspec.structs.replace(alias, provider=flow.defaults.provider)


def selection_of(plan: Plan, options: RunOptions, workspace: Workspace) -> Selection:
    """Return the selected instances of a run.

    Raises `UsageError` if one is not in the flow, and `DiskError` if the history is needed to find
    failed instances and cannot be read.
    """
    check_steps(plan.checked, options.steps)
    steps = frozenset(options.steps)
    loops = {step: found.keys for step, found in plan.instances.items()}
    for step, keys in loops.items():
        check_keys(step, keys, steps)
    only = (
        with_needs(plan.checked, steps) if options.until else steps if options.only else frozenset()
    )
    refreshed = steps if options.refresh else frozenset()
    failed: frozenset[str] = frozenset()
    if options.failed:
        failed, unmet = failed_instances(plan, workspace, options)
        refreshed |= unmet
    selection = Selection(
        only=only,
        first=options.first,
        key=options.key,
        refreshed=refreshed,
        refreshes_all=options.refresh and not steps,
        failed=failed,
        must_exist=steps,
    )
    if options.key is not None and all(_is_known(plan, step) for step in plan.order):
        own = {step: keys for step, keys in loops.items() if selection.touches(step)}
        check_glob({step: keys for step, keys in own.items() if _is_loop(plan, step)}, options.key)
    return selection


def _is_loop(plan: Plan, step: str) -> bool:
    return is_fan_out(plan.steps[step])


def _is_known(plan: Plan, step: str) -> bool:
    """Whether the instances of a step are known before a run."""
    return step in plan.instances if _is_loop(plan, step) else step not in plan.checked.children
