"""Compares one flow at two revisions: its steps, their instances, the outputs and the cost.

It is surveyed as any flow is, without running, rendering for a model, or sending anything.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from poeflow.costs import Prices, estimate
from poeflow.errors import PoeflowError
from poeflow.operations.revisions.facts import causes_between
from poeflow.operations.revisions.flow_reads import functions_of
from poeflow.operations.revisions.made_results import (
    MovedInstances,
    changed_outputs,
    moved_instances,
    spent_on,
)
from poeflow.operations.revisions.sides import FlowSide, Side, UnreadableFlow, without_root
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import statuses_of
from poeflow.planning.run_inputs import MissingInputsError
from poeflow.project.modules import module_paths
from poeflow.records import InstanceStatus, outer_step
from poeflow.store.revisions.comparisons import (
    Cause,
    Fate,
    FlowComparison,
    FlowFate,
    InstanceCounts,
    Spending,
    StepComparison,
)


class _Survey(msgspec.Struct, frozen=True):
    """The statuses of a flow's instances, or the `fault` why there are none.

    `lacks_input` if that is only an input or a secret that nobody gave.
    """

    statuses: tuple[InstanceStatus, ...] = ()
    fault: str = ""
    lacks_input: bool = False


class _SideProblem(msgspec.Struct, frozen=True):
    """Why a flow cannot be used as it is, empty if it can; `is_fault` if the flow has a fault."""

    message: str = ""
    is_fault: bool = False


def compared_flow(
    old: Side, new: Side, options: RunOptions, prices: Prices
) -> FlowComparison | None:
    """Return what differs in a flow, None if nothing of it does."""
    if isinstance(old, UnreadableFlow) or isinstance(new, UnreadableFlow):
        return _unreadable(old, new)
    survey_before = functools.cache(lambda: _survey_at(old, options))
    survey = _survey_at(new, options)
    statuses = survey.statuses
    problems = (
        _problem_of(old, new, survey_before() if survey.fault else _Survey()),
        _problem_of(new, old, survey),
    )
    moved = moved_instances(old, new)
    steps = tuple(_steps(old, new, moved, _pending(statuses), survey_before))
    outputs = tuple(changed_outputs(old, new))
    fate = _fate(old, new, is_broken=problems[0].is_fault != problems[1].is_fault)
    if fate == "changed" and not (steps or outputs or problems[1].message):
        return None
    side = new or old
    whole = InstanceCounts.total(one.instances for one in steps)
    pending = sum(_pending(statuses).values())
    return FlowComparison(
        path=side.path[2:] if side is not None else "",
        fate=fate,
        old_path=old.path[2:] if fate == "renamed" and old is not None else None,
        steps=steps,
        outputs=outputs,
        instances=msgspec.structs.replace(whole, pending=pending),
        problem=problems[1].message,
        old_problem=problems[0].message,
        spent=spent_on(moved.entries, options, prices),
        to_spend=_to_spend(statuses, prices),
    )


def _survey_at(side: FlowSide | None, options: RunOptions) -> _Survey:
    """Return the statuses of a flow's instances, or why there are none."""
    if side is None:
        return _Survey()
    if side.problem:
        return _Survey(fault=side.problem, lacks_input=side.lacks_input)
    try:
        return _Survey(statuses_of(side.found, options))
    except PoeflowError as error:
        message = without_root(error.message, side.project, options)
        return _Survey(fault=message, lacks_input=isinstance(error, MissingInputsError))


def _problem_of(side: FlowSide | None, other: FlowSide | None, survey: _Survey) -> _SideProblem:
    """Return why a flow cannot be used as it is at one revision.

    A module with functions is missing if the other side has it: else it may be one that is
    installed.
    """
    if side is None:
        return _SideProblem()
    if side.problem:
        return _SideProblem(side.problem, is_fault=not side.lacks_input)
    message = _gone_module(side, other)
    if not message and survey.fault:
        return _SideProblem(survey.fault, is_fault=not survey.lacks_input)
    message = message or side.lock_problem
    return _SideProblem(message, is_fault=bool(message))


def _gone_module(side: FlowSide, other: FlowSide | None) -> str:
    waiting = [(side.file, side.found.checked)]
    for file, checked in waiting:  # which grows by the flows that it uses
        for name, step in file.flow.steps.items():
            for at, function in functions_of(name, step):
                paths = module_paths(function or "")
                is_here = not paths or any(map(side.project.has, paths))
                if not is_here and other is not None and any(map(other.project.has, paths)):
                    return f"{file.document.place(at)}: {paths[0]} does not exist"
        waiting += [(one.file, one) for one in checked.children.values()] if checked else []
    return ""


def _unreadable(old: Side, new: Side) -> FlowComparison:
    """Return that nothing of a flow can be compared, and why."""
    side = new or old
    return FlowComparison(
        path=side.path[2:] if side is not None else "",
        fate=_fate(old, new, is_broken=True),
        problem=new.problem if new is not None else "",
        old_problem=old.problem if old is not None else "",
    )


def _fate(old: Side, new: Side, *, is_broken: bool) -> FlowFate:
    if old is None or new is None:
        return "added" if old is None else "removed"
    if is_broken:
        return "broken"
    return "changed" if old.path == new.path else "renamed"


def _steps(
    old: FlowSide | None,
    new: FlowSide | None,
    moved: MovedInstances,
    pending: Mapping[str, int],
    survey_before: Callable[[], _Survey],
) -> Iterator[StepComparison]:
    """Yield the steps that differ, those that are gone last.

    A step differs also if only a run would change more of it than in the older revision, as far as
    that is known.
    """
    before = old.file.flow.steps if old is not None else {}
    after = new.file.flow.steps if new is not None else {}
    checked = new.found.checked if new is not None else None
    order = [*(checked.order if checked is not None else ()), *after, *before]
    different: set[str] = set()
    for step in dict.fromkeys(order):
        fate: Fate = (
            "added" if step not in before else "removed" if step not in after else "changed"
        )
        own, edits = moved.counts.get(step, InstanceCounts()), moved.edits.get(step, ())
        answered = moved.answered.get(step, ())
        causes = tuple(causes_between(old, new, step)) if fate == "changed" else ()
        needs = checked.edges.get(step, ()) if checked is not None else ()
        follows = tuple(need for need in needs if need in different)
        is_same = False
        if fate == "changed" and not causes:
            waiting = pending.get(step, 0)
            is_more = waiting > 0 and (follows or _is_more(waiting, step, survey_before()))
            is_same = own.is_empty and not is_more
            if is_same and not answered:
                continue
            if not follows and not own.is_empty and (step in moved.renewed or not edits):
                causes = (Cause(kind="answer", name="answer"),)
        different |= set() if is_same else {step}
        whole = msgspec.structs.replace(own, pending=pending.get(step, 0))
        yield StepComparison(
            id=step,
            fate=fate,
            causes=(*causes, *edits),
            follows=follows,
            instances=whole,
            answered=answered,
        )


def _is_more(waiting: int, step: str, before: _Survey) -> bool:
    """Return whether more instances wait than before; what waited in a broken flow is not known."""
    return not before.fault and waiting > _pending(before.statuses).get(step, 0)


def _pending(statuses: Iterable[InstanceStatus]) -> Mapping[str, int]:
    """Return how many instances of each step a run would change.

    What is only needed again, as its answer is not stored here, stays as it is.
    """
    found: defaultdict[str, int] = defaultdict(int)
    for one in statuses:
        if not one.is_current and one.state not in ("orphaned", "needed"):
            found[outer_step(one.id)] += 1
    return found


def _to_spend(statuses: Sequence[InstanceStatus], prices: Prices) -> Spending | None:
    found = estimate(statuses, prices)
    if not found.calls.least:
        return None
    cost = found.cost_usd
    return Spending(
        requests=int(found.calls.least),
        tokens=found.prompt_tokens + found.answer_tokens,
        cost_usd=None if cost is None else float(cost.least),
    )
