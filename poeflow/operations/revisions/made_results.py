"""What the instances of a flow made on each side: by its lock, its output files, and the store."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from poeflow.answers.media_links import edited_media
from poeflow.costs import Prices, cost_of
from poeflow.digest import Json
from poeflow.errors import PoeflowError
from poeflow.events import ignore
from poeflow.operations.revisions.facts import comparable_text
from poeflow.operations.revisions.sides import FlowSide, content_at
from poeflow.operations.run_options import RunOptions
from poeflow.operations.state import workspace_of
from poeflow.project.project import FileProblem, Project
from poeflow.records import outer_step
from poeflow.store.lock.entries import Accepted, AnswerNames, LockEntry, other_names
from poeflow.store.revisions.comparisons import (
    AnswerComparison,
    Cause,
    InstanceCounts,
    OutputComparison,
    Spending,
)
from poeflow.templates.sites import has_template

MAX_OUTPUT: Final = 64 * 1024 * 1024
"""Bytes of an output file; a larger one counts as missing."""


class MovedInstances(msgspec.Struct, frozen=True):
    """How the instances of each step, and the answers of a flow, differ by the locks.

    `entries` are those with another answer, or a new one, and `renewed` the steps with another.
    `edits` says of each step what became of edits that a person had accepted, `answered` which
    other names answered than were asked, or than before.
    """

    counts: Mapping[str, InstanceCounts]
    entries: tuple[LockEntry, ...]
    renewed: frozenset[str]
    edits: Mapping[str, tuple[Cause, ...]]
    answered: Mapping[str, tuple[AnswerComparison, ...]]


def moved_instances(old: FlowSide | None, new: FlowSide | None) -> MovedInstances:
    before, after = _entries(old), _entries(new)
    if any(side is not None and side.lock is None and side.lock_problem for side in (old, new)):
        before, after = {}, {}  # nothing is known of what one of them made
    counts: defaultdict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    entries: list[LockEntry] = []
    renewed, edits = set[str](), defaultdict[str, set[str]](set)
    answered: defaultdict[str, Counter[AnswerNames]] = defaultdict(Counter)
    for name, entry in after.items():
        earlier = before.get(name)
        names = other_names(entry, earlier)
        if names is not None:
            answered[outer_step(name)][names] += 1
        if earlier is not None and _made(earlier) == _made(entry):
            continue
        step, edit = outer_step(name), _edit(earlier, entry)
        counts[step]["added" if earlier is None else "changed"] += 1
        edits[step].update(edit)
        if earlier is None or _answer(earlier) != _answer(entry):
            entries.append(entry)
        if earlier is not None and not (edit and _answer(earlier) == _answer(entry)):
            renewed.add(step)
    for name in before.keys() - after.keys():
        counts[outer_step(name)]["removed"] += 1
    return MovedInstances(
        {step: InstanceCounts(**own) for step, own in counts.items()},
        tuple(entries),
        frozenset(renewed),
        {step: tuple(map(_cause, sorted(names))) for step, names in edits.items()},
        {step: tuple(_answered(own)) for step, own in answered.items()},
    )


def _answered(names: Counter[AnswerNames]) -> Iterator[AnswerComparison]:
    for one, count in sorted(names.items(), key=lambda item: (-item[1], item[0])):
        yield AnswerComparison(
            model=one.asked, by=one.by, before=one.before or None, instances=count
        )


def _entries(side: FlowSide | None) -> Mapping[str, LockEntry]:
    return side.lock.instances if side is not None and side.lock is not None else {}


def _made(entry: LockEntry) -> tuple[object, ...]:
    """Return what an instance made, without what it was made of."""
    return entry.status, entry.result, entry.text, entry.outputs


def _answer(entry: LockEntry) -> tuple[object, ...]:
    """Return what an instance was answered: an edit that was accepted is no answer."""
    made: LockEntry | Accepted = entry if entry.accepted is None else entry.accepted
    return entry.status, entry.request, made.text, made.result


def _edit(earlier: LockEntry | None, entry: LockEntry) -> tuple[str, ...]:
    """Return the name of what became of an edit that a person had accepted, if anything did."""
    before, after = _edited(earlier), _edited(entry)
    if before == after:
        return ()
    return ("edit",) if after else ("dropped",)


def _cause(edit: str) -> Cause:
    return Cause(kind="edit", name=edit)


def _edited(entry: LockEntry | None) -> tuple[object, ...]:
    """Return the texts and media of an instance that a person edited and had accepted."""
    if entry is None:
        return ()
    media = tuple(one for found in edited_media(entry.outputs) for one in sorted(found.items()))
    return (entry.text, *media) if entry.accepted is not None else media


def written_files(side: FlowSide | None) -> Mapping[str, tuple[str, str]]:
    """Return the files that a flow writes: for each its step, and its hash by the lock."""
    found: dict[str, tuple[str, str]] = {}
    if side is None:
        return found
    flow = side.file.flow
    for name, step in flow.steps.items():
        save = step.output.save
        if save is not None and not has_template(save):
            try:
                found[side.project.canonical(save, relative_to=side.path)] = (name, "")
            except FileProblem:
                continue
    for name, entry in _entries(side).items():
        found |= {path: (outer_step(name), digest) for path, digest in entry.outputs.items()}
    return found


def changed_outputs(old: FlowSide | None, new: FlowSide | None) -> Iterator[OutputComparison]:
    before, after = written_files(old), written_files(new)
    for path in sorted({*before, *after}):
        one = content_at(old.project, path, limit=MAX_OUTPUT) if old is not None else None
        other = content_at(new.project, path, limit=MAX_OUTPUT) if new is not None else None
        step, digest = after.get(path) or before[path]
        has_other_hash = before.get(path, (step, ""))[1] != digest
        if one == other and not (one is None and has_other_hash):
            continue
        is_new = one is None and (other is not None or path not in before)
        is_gone = other is None and (one is not None or path not in after)
        yield OutputComparison(
            path=path[2:],
            fate="added" if is_new else "removed" if is_gone else "changed",
            step=step,
            old=None if one is None else comparable_text(one),
            new=None if other is None else comparable_text(other),
            old_size=None if one is None else len(one),
            new_size=None if other is None else len(other),
        )


def spent_on(entries: Iterable[LockEntry], options: RunOptions, prices: Prices) -> Spending | None:
    """Return what the answers of some entries cost, None if none of them is stored here.

    The cost is unknown if a price is not known, or if only some are stored.
    """
    try:
        workspace = workspace_of(Project.find(options.folder), options)
        answers = workspace.answers(on_corrupt=ignore)
        asked = [one for one in entries if one.request is not None]
        counts: list[tuple[int, int, str]] = []
        for one in asked:
            stored = answers.locked(one.request or "")
            if stored is not None:
                counts.append((*_tokens(stored[1].answer), one.answered_by or one.model))
    except PoeflowError:
        return None
    if not counts:
        return None
    costs = [cost_of(prices, model, prompt, answer) for prompt, answer, model in counts]
    known = [cost for cost in costs if cost is not None]
    is_whole = len(known) == len(asked)
    return Spending(
        requests=len(counts),
        tokens=sum(prompt + answer for prompt, answer, _ in counts),
        cost_usd=float(sum(known)) if is_whole else None,
    )


def _tokens(answer: dict[str, Json]) -> tuple[int, int]:
    usage = answer.get("usage")
    values = usage if isinstance(usage, dict) else {}
    prompt, made = values.get("prompt_tokens"), values.get("completion_tokens")
    return (prompt if isinstance(prompt, int) else 0), (made if isinstance(made, int) else 0)
