"""Plans a flow and those it uses: finds the instances of each step, and every problem in them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import InvalidFlowError, PoeflowError, StepError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import InstanceCount, chained_to
from poeflow.flowfile.step_settings import DEFAULT_CONCURRENCY
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.checked import Checked
from poeflow.planning.instances import FanOut, StepInstance, StepInstances, TooManyInstancesError
from poeflow.planning.plan import Plan, Preparer, own_path_hint, prepare, targets_of
from poeflow.planning.run_inputs import checked_inputs
from poeflow.planning.schema_checks import with_forms
from poeflow.planning.selection import Selection
from poeflow.problems import MANY, Problem, limited
from poeflow.project.output_paths import claim_of
from poeflow.project.project import Project
from poeflow.templates.render import Values
from poeflow.templates.sites import Texts

MakeTexts = Callable[[FlowFile], Texts]
_EARLY: Final = ("if", "model", "attachments")
_EARLY_OUTPUTS: Final = (("output", "save"), ("output", "media"))
"""The keys of a step whose texts are rendered before an instance can run."""
_LOOPS: Final = ("for_each", "matrix")


class Planner:
    """Makes plans of flows and of those they use.

    `make_texts` returns the texts of a flow; `max_instances` limits the instances of a plan. Of
    steps whose instances differ only those that `selection` covers are made ready.
    """

    def __init__(
        self,
        project: Project,
        make_texts: MakeTexts,
        *,
        max_instances: int | None = None,
        selection: Selection | None = None,
    ) -> None:
        self._selection = selection or Selection()
        self._project = project
        self._make_texts = make_texts
        self._max_instances = max_instances

    def plan(
        self,
        checked: Checked,
        inputs: Mapping[str, Json],
        *,
        concurrency: int | None = None,
        instance_count: InstanceCount | None = None,
        prefix: str = "",
    ) -> Plan:
        """Find instances, models and attachments.

        The smaller of two limits on concurrency applies. A used flow shares the `instance_count`
        of its user and has a `prefix` before the names of its steps. Raises `InvalidFlowError`
        with every problem found.
        """
        texts = self._make_texts(checked.file)
        checked = with_forms(self._project, checked, texts, inputs)
        instance_count = instance_count or InstanceCount(self._max_instances)
        plan = Plan(
            checked=checked,
            texts=texts,
            fan_out=FanOut(
                self._project, checked.file, texts, instance_count=instance_count, prefix=prefix
            ),
            preparer=Preparer(self._project, checked, texts),
            inputs=inputs,
            instances={},
            concurrency=_concurrency(checked.file, concurrency),
            instance_count=instance_count,
        )
        problems: list[Problem] = []
        children = dict(self._children(plan, problems, prefix=prefix))
        instances = dict(_instances(plan, problems, self._selection))
        whole = msgspec.structs.replace(plan, instances=instances, children=children)
        problems += _shared_target_problems(whole)
        if problems:
            raise InvalidFlowError(limited(problems))
        return whole

    def _children(
        self, plan: Plan, problems: list[Problem], *, prefix: str
    ) -> Iterator[tuple[str, Plan]]:
        """Plan the used flows whose inputs are known, to report their problems early."""
        for name, child in plan.checked.children.items():
            if len(problems) >= MANY:
                return
            step = plan.file.flow.steps[name]
            own: KeyPath = ("steps", name, "with")
            late = plan.checked.late | plan.checked.varying
            if any(path[: len(own)] == own for path in late):
                continue
            try:
                values = plan.early_values()
                given = plan.texts.value(own, dict(step.with_ or {}), values)
                inputs = self.arguments(plan, name, given)
                within = f"{prefix}{name}/"
                yield (
                    name,
                    self.plan(child, inputs, instance_count=plan.instance_count, prefix=within),
                )
            except InvalidFlowError as error:
                problems += error.problems
            except PoeflowError as error:
                problems.append(plan.preparer.problem(own, error))

    def arguments(self, plan: Plan, name: str, given: Json) -> dict[str, Json]:
        """Return the inputs of the flow that the step `name` uses. Raises `InvalidFlowError`."""
        child = plan.checked.children[name].file
        values = given if isinstance(given, dict) else {}
        inputs, own_problems = checked_inputs(child.flow, self._anchored(plan, name, values), {})
        if own_problems:
            place = plan.file.document.place(("steps", name, "with"))
            raise InvalidFlowError(
                tuple(Problem(place, problem.message, problem.hint) for problem in own_problems)
            )
        return inputs

    def early_arguments(self, plan: Plan, name: str, values: Values) -> dict[str, Json]:
        """Return the same without those that come from a step, as far as `values` are enough.

        Raises `PoeflowError`.
        """
        child, step = plan.checked.children[name], plan.steps[name]
        given = {
            key: plan.texts.value(("steps", name, "with", key), one, values)
            for key, one in (step.with_ or {}).items()
            if key not in child.derived
        }
        known, problems = checked_inputs(child.file.flow, self._anchored(plan, name, given), {})
        if any(problem.name not in child.derived for problem in problems):
            raise StepError(problems[0].message)
        return {key: one for key, one in known.items() if key not in child.derived}

    def _anchored(self, plan: Plan, name: str, values: Mapping[str, Json]) -> dict[str, Json]:
        """Return the values passed to a used flow, with canonical paths for files.

        A passed path is relative to the file that passes it, a default to the used flow.
        """
        child = plan.checked.children[name].file
        anchored = dict(values)
        for key, spec in child.flow.inputs.items():
            value = values.get(key, spec.default)
            if spec.type == "file" and isinstance(value, str):
                relative_to = plan.file.path if key in values else child.path
                anchored[key] = self._project.canonical(value, relative_to=relative_to)
        return anchored


def _concurrency(file: FlowFile, asked: int | None) -> int:
    limits = [limit for limit in (file.flow.limits.concurrency, asked) if limit is not None]
    return min(limits, default=DEFAULT_CONCURRENCY)


def _instances(
    plan: Plan, problems: list[Problem], selection: Selection
) -> Iterator[tuple[str, StepInstances]]:
    """Yield the instances of every step that are known before the run."""
    known: dict[str, StepInstances] = {}
    values, late, differing = plan.early_values(), _late_loops(plan.checked), _differing(plan)
    for step in plan.order:
        if len(problems) >= MANY:
            return
        source = chained_to(plan.file.flow, step)
        try:
            if source is not None and source in known:
                known[step] = plan.fan_out.chained(step, known[source])
            elif source is None and step not in late:
                known[step] = plan.fan_out.instances(step, values)
            else:
                continue
        except PoeflowError as error:
            problems.append(plan.preparer.problem(("steps", step, "for_each"), error))
            if isinstance(error, TooManyInstancesError):
                return
            continue
        if step not in differing:
            yield step, _ready_alike(plan, known[step], values, problems)
        else:
            covered = selection.positions(step, known[step].keys)
            yield step, _ready_each(plan, known[step], covered, values, problems)


def _ready_alike(
    plan: Plan, found: StepInstances, values: Values, problems: list[Problem]
) -> StepInstances:
    """Return the instances of a step ready: what one of them needs is what all of them need."""
    if not len(found):
        return found
    ready, own_problems = prepare(plan, found[0], {**values, **found[0].names})
    problems += own_problems
    return found.ready_as(_alike(ready))


def _ready_each(
    plan: Plan,
    found: StepInstances,
    covered: Sequence[int],
    values: Values,
    problems: list[Problem],
) -> StepInstances:
    """Return the instances of a step, those at the `covered` positions ready."""
    own: dict[int, StepInstance] = {}
    same: dict[tuple[object, ...], StepInstance] = {}
    for at in covered:
        instance = found[at]
        ready, own_problems = prepare(plan, instance, {**values, **instance.names})
        problems += own_problems
        if len(problems) >= MANY:
            break
        ready = _alike(ready)
        files = tuple(id(found) for one in ready.attached.values() for found in one)
        paths = ready.save, ready.media
        own[at] = same.setdefault((id(ready.settings), files, paths, ready.skip), ready)
    return found.ready_each(own)


def _alike(ready: StepInstance) -> StepInstance:
    """Return what an instance has in common with others."""
    return msgspec.structs.replace(ready, key=None, names={})


def _differing(plan: Plan) -> frozenset[str | int]:
    """Return the steps whose instances differ in what they need to be ready, such as a path."""
    return frozenset(
        path[1]
        for path in plan.checked.varying - plan.checked.late
        if path[:1] == ("steps",)
        and (path[2] in _EARLY or path[2:4] in _EARLY_OUTPUTS or "attach" in path)
    ) | frozenset(
        path[1] for path in plan.checked.varying & plan.checked.named if path[0] == "steps"
    )


def _shared_target_problems(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each instance that would write the file of another one."""
    owners: dict[str, tuple[str, str]] = {}
    for step, instance, target in targets_of(plan):
        owner, claimed = owners.setdefault(claim_of(target), (instance, target))
        if owner != instance:
            is_own = plan.file.flow.steps[step].kind != "flow"
            path: KeyPath = ("steps", step, "output", "save") if is_own else ("steps", step, "use")
            message = f"{owner} and {instance} would both write {target}"
            hint = own_path_hint(is_used=not is_own, is_alike=claimed != target)
            yield Problem(plan.file.document.place(path), message, hint)


def _late_loops(checked: Checked) -> frozenset[str | int]:
    """Return the steps whose items come from another step."""
    return frozenset(
        path[1]
        for path in checked.late
        if path[:1] == ("steps",) and path[2] in _LOOPS and path[3:] != ("carry",)
    )
