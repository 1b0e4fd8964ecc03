"""Which of several entries of an instance its files prove."""

import asyncio

import pytest

from poeflow.digest import short_hash
from poeflow.engine.lock_entries import LockProof, best_proof
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.record import NoRecorder
from poeflow.operations.budgets import shared_budget
from poeflow.operations.check import checkup
from poeflow.operations.plan import planned
from poeflow.operations.run_context import run_context
from poeflow.operations.run_options import RunOptions, user_config
from poeflow.operations.state import workspace_of
from poeflow.planning.instances import StepInstance
from poeflow.planning.selection import Selection
from poeflow.project.output_files import text_digest
from poeflow.project.project import Project
from poeflow.store.lock.entries import LockEntry
from poeflow.store.lockfile import Lock

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a: {prompt: a}
  b: {prompt: b, output: {save: "out/{{ steps.a.text | slug }}.md"}}
"""
LATE = StepInstance(step="b")
"""An instance whose path is not known yet: any of an entry may be its own."""


def entry(name: str, path: str, text: str) -> LockEntry:
    outputs = {path: short_hash(text_digest(text.encode()))}
    return LockEntry(status="ok", recipe=name, outputs=outputs)


SIDE = entry("side", "//out/x.md", "ours\n")
OTHER_SIDE = entry("other-side", "//out/x.md", "theirs\n")
THERE = entry("there", "//out/y.md", "there\n")
ALSO_THERE = entry("also-there", "//out/z.md", "there, too\n")
GONE = entry("gone", "//out/gone.md", "gone\n")
MARKED = "<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> theirs\n"
BETWEEN = {"lacking": {"//out/x.md": "conflict"}}


@pytest.fixture
def best(bench):
    """Return a function for the best proof by some entries; files of all but one are there."""
    for name, text in {"x": MARKED, "y": "there\n", "z": "there, too\n"}.items():
        bench.write(f"out/{name}.md", text)
    bench.write("a.yaml", FLOW)
    project, options = Project(bench.folder), RunOptions(environ={}, folder=bench.folder)
    known = (SIDE, OTHER_SIDE, THERE, ALSO_THERE, GONE)
    locks = tuple(Lock(inputs="", instances={"b": one}) for one in known)

    async def found(*entries: LockEntry, takes_sides: bool) -> LockProof | None:
        plan, _ = planned(checkup(project, "//a.yaml", "a.yaml"), options)
        async with run_context(
            project,
            workspace_of(project, options),
            plan.checked,
            options=options,
            budget=shared_budget(project, options),
            config=user_config(project, options),
            lock_update=LockUpdate(locks),
            asks=False,
            selection=Selection(),
            recorder=NoRecorder(),
        ) as context:
            return best_proof(plan, context, LATE, entries, takes_sides=takes_sides)

    return lambda *entries, takes_sides: asyncio.run(found(*entries, takes_sides=takes_sides))


@pytest.mark.parametrize(
    ("entries", "proof"),
    [
        ((GONE, THERE, ALSO_THERE), LockProof(THERE)),
        ((ALSO_THERE, THERE), LockProof(ALSO_THERE)),
        ((SIDE, OTHER_SIDE, GONE, THERE), LockProof(THERE)),
        ((GONE, OTHER_SIDE, SIDE), LockProof(OTHER_SIDE, **BETWEEN)),
        ((SIDE, OTHER_SIDE), LockProof(SIDE, **BETWEEN)),
        ((GONE,), None),
    ],
)
def test_whole_files_come_before_sides_and_then_the_first_counts(best, entries, proof):
    assert best(*entries, takes_sides=True) == proof


def test_no_side_counts_unless_sides_are_taken(best):
    assert best(SIDE, OTHER_SIDE, takes_sides=False) is None
    assert best(SIDE, ALSO_THERE, takes_sides=False) == LockProof(ALSO_THERE)
