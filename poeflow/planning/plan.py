"""What a run will do, as far as it is known before anything is sent: order, instances, files."""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from poeflow.digest import Json
from poeflow.errors import InvalidFlowError, PoeflowError
from poeflow.flowfile.inputs import gather
from poeflow.flowfile.limit_problems import MANY, enough
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import chained_to
from poeflow.flowfile.step_settings import DEFAULT_CONCURRENCY
from poeflow.flowfile.tree import KeyPath
from poeflow.planning.allowance import Allowance, TooManyInstancesError
from poeflow.planning.bots import asks
from poeflow.planning.checked import Checked
from poeflow.planning.fan_out_part import FanOut
from poeflow.planning.instances import Instance
from poeflow.planning.prepare import Prepared, Preparer
from poeflow.problems import Problem
from poeflow.project.output_paths import claim_of
from poeflow.project.project import Project
from poeflow.templates.texts import Texts, Values

MakeTexts = Callable[[FlowFile], Texts]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked flow with its inputs.

    `prepared` are the instances of each step that are known before any step has run; a step that
    is not in it is unknown until those it needs have run. `children` are the plans of used flows,
    by the step, where their inputs are known. `allowance` counts the instances of all of them.
    """

    checked: Checked
    texts: Texts
    fan_out: FanOut
    preparer: Preparer
    inputs: Mapping[str, Json]
    prepared: Mapping[str, tuple[Prepared, ...]]
    concurrency: int
    allowance: Allowance
    children: Mapping[str, "Plan"] = {}

    @property
    def file(self) -> FlowFile:
        return self.checked.file

    @property
    def order(self) -> tuple[str, ...]:
        return self.checked.order

    @property
    def edges(self) -> Mapping[str, tuple[str, ...]]:
        return self.checked.edges

    def models(self) -> frozenset[str]:
        """Return the models that may be asked, as far as known: judges and stand-ins, too."""
        own = frozenset(
            one.settings.model
            for instances in self.prepared.values()
            for one in instances
            if one.settings is not None and one.settings.model is not None
        )
        others = {
            ask.settings.model
            for ask in asks(self.file.flow)
            if ask.is_used and ask.is_literal and ask.settings.model is not None
        }
        return (own | others).union(*(child.models() for child in self.children.values()))

    def targets(self) -> frozenset[str]:
        """Return the project paths that are known to be written, by used flows too."""
        return frozenset(target for _, _, target in _targets(self))

    def early_values(self) -> dict[str, Json]:
        """Return what templates see before any step has run."""
        about: dict[str, Json] = {
            "name": self.file.name,
            "description": self.file.flow.description,
        }
        return {"inputs": dict(self.inputs), "flow": about}


class Planner:
    """Makes plans of flows and of those they use.

    `make_texts` gives the texts of a flow, `max_instances` is how many instances a plan may have.
    """

    def __init__(
        self, project: Project, make_texts: MakeTexts, *, max_instances: int | None = None
    ) -> None:
        self._project = project
        self._make_texts = make_texts
        self._max_instances = max_instances

    def plan(
        self,
        checked: Checked,
        inputs: Mapping[str, Json],
        *,
        concurrency: int | None = None,
        allowance: Allowance | None = None,
        prefix: str = "",
    ) -> Plan:
        """Find instances, models and attachments; the smaller of two limits on concurrency wins.

        A flow that another uses has the `allowance` of that one, and a `prefix` before the names
        of its steps. Raises `InvalidFlowError` with every problem found.
        """
        texts = self._make_texts(checked.file)
        allowance = allowance or Allowance(self._max_instances)
        plan = Plan(
            checked=checked,
            texts=texts,
            fan_out=FanOut(self._project, checked.file, texts, allowance=allowance, prefix=prefix),
            preparer=Preparer(self._project, checked, texts),
            inputs=inputs,
            prepared={},
            concurrency=_concurrency(checked.file, concurrency),
            allowance=allowance,
        )
        problems: list[Problem] = []
        children = dict(self._children(plan, problems, prefix=prefix))
        prepared = dict(_prepared(plan, problems))
        whole = msgspec.structs.replace(plan, prepared=prepared, children=children)
        problems += _contested(whole)
        if problems:
            raise InvalidFlowError(enough(problems))
        return whole

    def _children(
        self, plan: Plan, problems: list[Problem], *, prefix: str
    ) -> Iterator[tuple[str, Plan]]:
        """Plan the used flows whose inputs are known, to find now what is wrong with them."""
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
                yield name, self.plan(child, inputs, allowance=plan.allowance, prefix=within)
            except InvalidFlowError as error:
                problems += error.problems
            except PoeflowError as error:
                problems.append(plan.preparer.problem(own, error))

    def arguments(self, plan: Plan, name: str, given: Json) -> dict[str, Json]:
        """Return the inputs of the flow that the step `name` uses. Raises `InvalidFlowError`."""
        child = plan.checked.children[name].file
        values = given if isinstance(given, dict) else {}
        inputs, faults = gather(child.flow, self._anchored(plan, name, values), {})
        if faults:
            place = plan.file.document.place(("steps", name, "with"))
            raise InvalidFlowError(
                tuple(Problem(place, fault.message, fault.hint) for fault in faults)
            )
        return inputs

    def _anchored(self, plan: Plan, name: str, values: Mapping[str, Json]) -> dict[str, Json]:
        """Return what is passed to a flow, with paths as the project knows them.

        A path stands in the file that passes it, a default in the flow that is used.
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


def _prepared(plan: Plan, problems: list[Problem]) -> Iterator[tuple[str, tuple[Prepared, ...]]]:
    """Yield the instances of every step that are known now."""
    known: dict[str, tuple[Instance, ...]] = {}
    values = plan.early_values()
    for step in plan.order:
        if len(problems) >= MANY:
            return
        source = chained_to(plan.file.flow, step)
        try:
            if source is not None and source in known:
                known[step] = plan.fan_out.chained(step, known[source])
            elif source is None and not _waits(plan.checked, step):
                known[step] = plan.fan_out.instances(step, values)
            else:
                continue
        except PoeflowError as error:
            problems.append(plan.preparer.problem(("steps", step, "for_each"), error))
            if isinstance(error, TooManyInstancesError):
                return
            continue
        found: list[Prepared] = []
        for instance in known[step]:
            own = {**values, **instance.names}
            prepared, faults = prepare(plan, instance, own)
            found.append(prepared)
            problems += faults
            if len(problems) >= MANY:
                return
        yield step, tuple(found)


def _contested(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each instance that would write the file of another one."""
    owners: dict[str, str] = {}
    for step, instance, target in _targets(plan):
        owner = owners.setdefault(claim_of(target), instance)
        if owner != instance:
            is_own = plan.file.flow.steps[step].kind != "flow"
            path: KeyPath = ("steps", step, "output", "save") if is_own else ("steps", step, "use")
            message = f"{owner} and {instance} would both write {target}"
            hint = "give each a path of its own, with {{ key | slug }} in it"
            yield Problem(plan.file.document.place(path), message, hint)


def _targets(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Yield step, instance and path for each file that is known to be written, used flows too.

    Of two that a late `if` decides on, only one may come to run: those are left out.
    """
    for step in plan.order:
        if ("steps", step, "if") in plan.checked.late:
            continue
        for one in plan.prepared.get(step, ()):
            if one.save is not None and not one.skip:
                yield step, one.instance.id, one.save
        child = plan.children.get(step)
        if child is not None:
            yield from ((step, f"{step}/{name}", target) for _, name, target in _targets(child))


def prepare(plan: Plan, instance: Instance, values: Values) -> tuple[Prepared, list[Problem]]:
    """Return an instance ready to run, or to be skipped where its `if` is known and false."""
    condition: KeyPath = ("steps", instance.step, "if")
    if condition not in plan.checked.late:
        try:
            skip = reason_to_skip(plan, instance.step, values)
        except PoeflowError as error:
            return Prepared(instance=instance), [plan.preparer.problem(condition, error)]
        if skip:
            return Prepared(instance=instance, skip=skip), []
    return plan.preparer.prepare(instance, values)


def reason_to_skip(plan: Plan, step: str, values: Values) -> str:
    """Return why the step's `if` skips it, empty where it does not. Raises `TemplateError`."""
    written = plan.file.flow.steps[step].if_
    if written is None or written is True:
        return ""
    if written is False:
        return "if: false"
    holds = plan.texts.expression(("steps", step, "if"), values)
    return "" if holds else f"{written.strip()} does not hold"


def _waits(checked: Checked, step: str) -> bool:
    """Whether what a step runs over comes from another step."""
    return any(
        path[:2] == ("steps", step) and path[2] in ("for_each", "matrix") for path in checked.late
    )
