"""Compares the flows of a project at two revisions, from what is committed alone."""

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from poeflow.costs import Prices, estimate
from poeflow.flowfile.project_settings import settings_files
from poeflow.operations.budgets import prices_of
from poeflow.operations.revisions.facts import causes_between
from poeflow.operations.revisions.made_results import (
    changed_outputs,
    moved_instances,
    spent_on,
    written_files,
)
from poeflow.operations.revisions.sides import (
    FlowSide,
    Sides,
    flow_side,
    lock_path,
    opened_sides,
    statuses_at,
)
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project
from poeflow.records import InstanceStatus, outer_step
from poeflow.store.revisions.comparisons import (
    Cause,
    ComparedRevision,
    Comparison,
    Fate,
    FlowComparison,
    InstanceCounts,
    Spending,
    StepComparison,
)
from poeflow.store.revisions.revision_names import Span, repository_of, span_of, span_since


def compare_revisions(
    project: Project,
    written: str,
    options: RunOptions,
    *,
    is_since: bool,
    choose: Callable[[Sides], Collection[str]],
) -> Comparison:
    """Return what differs between the revisions in `A..B`, or `is_since` since a revision.

    `choose` returns the project paths of the flows to compare. Nothing is sent, run or written. A
    flow that is not there on one side was added or removed. Raises `UsageError` if git does not
    know a revision.
    """
    asked = f"--since {written}" if is_since else written
    git = repository_of(project.root, options.environ, asked=asked)
    span = span_since(git, written) if is_since else span_of(git, written)
    with opened_sides(git, span, project) as sides:
        prices = prices_of(project, options.environ)
        return _compared(span, sides, choose(sides), options, prices)


def _compared(
    span: Span, sides: Sides, paths: Collection[str], options: RunOptions, prices: Prices
) -> Comparison:
    found: list[FlowComparison] = []
    settings = {*settings_files(sides.old), *settings_files(sides.new)}
    is_shared_touched = not settings.isdisjoint(sides.changed)
    for path in sorted(paths):
        new = flow_side(sides.new, path, options)
        is_touched = new is None or is_shared_touched or _is_touched(new, sides.changed)
        if not is_touched:
            continue  # what it read before can differ only if one of these files does
        old = flow_side(sides.old, path, options)
        one = None if new is old is None else _flow(old, new, options, prices)
        found += [one] if one is not None else []
    new_name = span.new.name if span.new is not None else "the files on disk"
    new_commit = span.new.commit if span.new is not None else None
    return Comparison(
        old=ComparedRevision(name=span.old.name, commit=span.old.commit),
        new=ComparedRevision(name=new_name, commit=new_commit),
        flows=tuple(found),
    )


def _is_touched(side: FlowSide, changed: frozenset[str]) -> bool:
    """Return whether a file differs that a flow reads or writes, or its lock."""
    if lock_path(side.path) in changed or not changed.isdisjoint(written_files(side)):
        return True
    return any(read.is_of(path) for read in side.reads for path in changed)


def _flow(
    old: FlowSide | None, new: FlowSide | None, options: RunOptions, prices: Prices
) -> FlowComparison | None:
    """Return what differs in a flow, None if nothing of it does."""
    statuses, problem = statuses_at(new, options) if new is not None else ((), "")
    moved = moved_instances(old, new)
    pending_before = functools.cache(lambda: _pending(_statuses(old, options)))
    steps = tuple(_steps(old, new, moved.counts, _pending(statuses), pending_before))
    outputs = tuple(changed_outputs(old, new))
    fate: Fate = "added" if old is None else "removed" if new is None else "changed"
    if fate == "changed" and not (steps or outputs or problem):
        return None
    side = new or old
    whole = InstanceCounts.total(one.instances for one in steps)
    pending = sum(_pending(statuses).values())
    return FlowComparison(
        path=side.path[2:] if side is not None else "",
        fate=fate,
        steps=steps,
        outputs=outputs,
        instances=msgspec.structs.replace(whole, pending=pending),
        problem=problem,
        spent=spent_on(moved.entries, options, prices),
        to_spend=_to_spend(statuses, prices),
    )


def _steps(
    old: FlowSide | None,
    new: FlowSide | None,
    counts: Mapping[str, InstanceCounts],
    pending: Mapping[str, int],
    pending_before: Callable[[], Mapping[str, int]],
) -> Iterator[StepComparison]:
    """Yield the steps that differ, those that are gone last.

    A step differs also if only a run would change more of it than in the older revision.
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
        own = counts.get(step, InstanceCounts())
        causes = tuple(causes_between(old, new, step)) if fate == "changed" else ()
        needs = checked.edges.get(step, ()) if checked is not None else ()
        follows = tuple(need for need in needs if need in different)
        if fate == "changed" and not causes:
            waiting = pending.get(step, 0)
            is_more = waiting > 0 and (follows or waiting > pending_before().get(step, 0))
            if own.is_empty and not is_more:
                continue
            if not follows and not own.is_empty:
                causes = (Cause(kind="answer", name="answer"),)
        different.add(step)
        whole = msgspec.structs.replace(own, pending=pending.get(step, 0))
        yield StepComparison(id=step, fate=fate, causes=causes, follows=follows, instances=whole)


def _statuses(side: FlowSide | None, options: RunOptions) -> tuple[InstanceStatus, ...]:
    return statuses_at(side, options)[0] if side is not None else ()


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
