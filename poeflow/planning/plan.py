"""The plan of a flow, and which of its steps and instances a command means."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import InvalidFlowError, PoeflowError, UsageError
from poeflow.flowfile.inputs import gather
from poeflow.flowfile.limit_problems import MANY, enough
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import chained_to
from poeflow.flowfile.model import Flow
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.step_settings import DEFAULT_CONCURRENCY
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.bot_checks import asks
from poeflow.planning.checked import Checked
from poeflow.planning.instances import FanOut, Instance, InstanceCount, TooManyInstancesError
from poeflow.planning.preparation import Prepared, Preparer
from poeflow.problems import Problem
from poeflow.project.output_paths import claim_of
from poeflow.project.project import Project
from poeflow.records import key_of, outer_step, path_of, step_of, wholes_of
from poeflow.templates.render import Values
from poeflow.templates.sites import Texts

MakeTexts = Callable[[FlowFile], Texts]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked flow with its inputs.

    `prepared` are the instances of each step that are known before any step has run; a step that
    is not in it is unknown until those it needs have run. `children` are the plans of used flows,
    by the step, where their inputs are known. `instance_count` counts the instances of all of them.
    """

    checked: Checked
    texts: Texts
    fan_out: FanOut
    preparer: Preparer
    inputs: Mapping[str, Json]
    prepared: Mapping[str, tuple[Prepared, ...]]
    concurrency: int
    instance_count: InstanceCount
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

    @property
    def flow(self) -> Flow:
        return self.file.flow

    @property
    def chains(self) -> Mapping[str, str]:
        return self.checked.chains

    @property
    def tested(self) -> Mapping[str, frozenset[str]]:
        return self.checked.tested

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
        instance_count: InstanceCount | None = None,
        prefix: str = "",
    ) -> Plan:
        """Find instances, models and attachments; the smaller of two limits on concurrency wins.

        A flow that another uses has the `instance_count` of that one, and a `prefix` before the
        names of its steps. Raises `InvalidFlowError` with every problem found.
        """
        texts = self._make_texts(checked.file)
        instance_count = instance_count or InstanceCount(self._max_instances)
        plan = Plan(
            checked=checked,
            texts=texts,
            fan_out=FanOut(
                self._project, checked.file, texts, instance_count=instance_count, prefix=prefix
            ),
            preparer=Preparer(self._project, checked, texts),
            inputs=inputs,
            prepared={},
            concurrency=_concurrency(checked.file, concurrency),
            instance_count=instance_count,
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


_SHOWN: Final = 5


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances a run is about; the others are taken as the last run left them.

    `named` are steps and ids of instances, what is below one of them included; empty means all.
    Of a step with many instances `first` takes so many, and `key` those it matches, as in a shell.
    Where an answer is stored, those among `again` are asked again: all where `is_all_again`.
    `wanted` are the steps and instances the caller has written, which must be there.
    """

    named: frozenset[str] = frozenset()
    first: int | None = None
    key: str | None = None
    again: frozenset[str] = frozenset()
    is_all_again: bool = False
    wanted: frozenset[str] = frozenset()

    def covers(self, name: str, key: str | None = None, index: int = 0) -> bool:
        """Whether the run is about the instance called `name`, the `index`th of its step."""
        if key is None or not self.touches(name):
            return self.touches(name)
        is_early = self.first is None or index < self.first
        return is_early and (self.key is None or fnmatchcase(key, self.key))

    def touches(self, name: str) -> bool:
        """Whether any that are named are part of a step or an instance, or it is of them."""
        if not self.named or is_among(name, self.named):
            return True
        return any(name in wholes_of(one) for one in self.named)

    def asks_again(self, name: str) -> bool:
        """Whether the instance called `name` is asked even where an answer is stored."""
        return self.is_all_again or is_among(name, self.again)

    @property
    def is_whole(self) -> bool:
        return not self.named and self.first is None and self.key is None


def is_among(name: str, selected: Collection[str]) -> bool:
    """Whether an instance, or what it is part of, is one of those selected."""
    return any(one in selected for one in wholes_of(name))


def check_steps(checked: Checked, selected: Collection[str]) -> None:
    """Raise `UsageError` if one of those selected is of no step, of the flow or of one it uses."""
    for one in selected:
        flow: Checked | None = checked
        for step in path_of(one):
            if flow is None and "[" in one:
                break  # a key that looks like a part of an id
            if flow is None:
                raise UsageError(
                    f"there is no {one}", hint="only a step that uses a flow has steps"
                )
            if step not in flow.order:
                message = f'there is no step "{step}" in {flow.file.name}'
                raise UsageError(message, hint=one_of(step, flow.order))
            flow = flow.children.get(step)


def check_keys(name: str, keys: Sequence[str | None], selected: Collection[str]) -> None:
    """Raise `UsageError` if one of those selected is an instance that the step does not have.

    `name` is the step, with those that use its flow, and `keys` are of its instances: None alone
    if it runs once.
    """
    known = {f"{name}[{key}]" for key in keys}
    for one in set(selected) - known:
        for part in wholes_of(one):
            key = key_of(part) if step_of(part) == name else None
            if key is not None and key not in keys:
                raise UsageError(f"no key of {name} matches {key}", hint=_keys_of(name, keys))


def check_glob(loops: Mapping[str, Sequence[str | None]], pattern: str) -> None:
    """Raise `UsageError` if a pattern matches no key of any of the `loops`: keys by step."""
    if any(fnmatchcase(key or "", pattern) for keys in loops.values() for key in keys):
        return
    if not loops:
        hint = "--key chooses among the instances of loops"
        raise UsageError(f"--key {pattern}: no step runs over several items", hint=hint)
    hint = "; ".join(_keys_of(step, keys) for step, keys in loops.items())
    raise UsageError(f"no key of {', '.join(loops)} matches {pattern}", hint=hint)


def _keys_of(step: str, keys: Sequence[str | None]) -> str:
    if list(keys) == [None]:
        return f"{step} runs once: name it without a key"
    found = [str(key) for key in keys[:_SHOWN]]
    more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
    return f"{step} has {', '.join(found)}{more}" if keys else f"{step} has none"


def up_to(plan: Plan, selected: Collection[str]) -> frozenset[str]:
    """Return those selected with all they need; what runs over a step needs its own key of it."""
    found = set(selected)
    waiting = list(selected)
    while waiting:
        one = waiting.pop()
        step = outer_step(one)
        for need in plan.edges[step]:
            is_source = plan.checked.chains.get(step) == need
            key = _outer_key(one) if is_source else None
            name = need if key is None else f"{need}[{key}]"
            if name not in found:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _outer_key(instance: str) -> str | None:
    """Return the key that the flow itself gave an instance, or the one it is part of."""
    step = outer_step(instance)
    return next((key_of(one) for one in wholes_of(instance) if step_of(one) == step), None)
