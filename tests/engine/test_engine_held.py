"""What a run holds of its instances: only what is read, and everything comes out the same."""

import asyncio

import pytest

from poeflow.engine.asking.tools import refused_toolboxes
from poeflow.engine.flow_state import FlowState
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.record import NoRecorder
from poeflow.engine.run_state import FailurePolicy, RunState
from poeflow.engine.running.flow_run import FlowRun
from poeflow.operations import recording
from poeflow.operations.budgets import shared_budget
from poeflow.operations.check import checkup
from poeflow.operations.locks import lock_of
from poeflow.operations.plan import planned
from poeflow.operations.run_context import run_context
from poeflow.operations.run_options import RunOptions, user_config
from poeflow.operations.state import workspace_of
from poeflow.planning.selection import Selection
from poeflow.project.project import Project
from poeflow.records import RunFilter
from poeflow.store.history import History

LOOP = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  first: {for_each: [a, b, c], prompt: "one {{ item }}"}
  second: {for_each: steps.first, prompt: "two {{ source.text }}"}
  aside: {for_each: [x, y], prompt: "aside {{ item }}"}
"""
READ = {
    "nothing is declared": "",
    "by name": "outputs: {all: '{{ steps.second.all | map(attribute=\"text\") | list }}'}\n",
    "by an earlier step": "outputs: {one: '{{ steps.first[\"a\"].text }}'}\n",
    "as an item": 'outputs: {one: \'{{ steps["aside"]["x"].text }}\'}\n',
    "by its status": "outputs: {one: '{{ steps.aside.status }}'}\n",
    "nothing": "outputs: {one: done}\n",
}


@pytest.mark.parametrize("way", READ)
def test_the_outputs_are_the_same_if_only_what_is_read_is_held(bench, way):
    flow = LOOP + READ[way]
    whole = bench.run(flow)
    assert (whole.exit_code, len(whole.results)) == (0, 8)
    lock = (bench.folder / "a.lock.json").read_bytes()
    for _ in range(2):  # by the lock, then by the stored answers alone
        lean = bench.run(flow, holds_results=False)
        assert (lean.exit_code, lean.outputs, lean.results) == (0, whole.outputs, {})
        assert (bench.folder / "a.lock.json").read_bytes() == lock
        (bench.folder / "a.lock.json").unlink()
    assert len(bench.simulator.requests) == 8


def test_the_outputs_of_a_part_are_the_same(bench):
    flow = LOOP + READ["nothing"]
    whole = bench.run(flow, steps=("aside",))
    lean = bench.run(flow, steps=("aside",), holds_results=False)
    assert whole.outputs == lean.outputs != {}


def test_the_counts_of_a_run_do_not_need_its_results(bench):
    bench.run(LOOP + READ["nothing"], holds_results=False)
    (run,) = History(bench.folder / ".poeflow/poeflow.db", warn=pytest.fail).runs(RunFilter())
    assert run.end is not None
    assert (run.end.asked, run.end.requests, run.end.tokens > 0) == (8, 8, True)


def test_large_outputs_are_stored_once(bench, monkeypatch):
    monkeypatch.setattr(recording, "MAX_OUTPUTS", 10)
    outcome = bench.run(LOOP)
    history = History(bench.folder / ".poeflow/poeflow.db", warn=pytest.fail)
    (run,) = history.runs(RunFilter())
    assert run.end is not None
    assert run.end.outputs == {}
    texts = {one.id: one.text for one in history.instances(run.id)}
    assert texts["aside[x]"] == outcome.outputs["aside"]["x"]


ROWS = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  read: {for_each: [a, b, c, d, e], prompt: "one {{ item }}"}
  unread: {for_each: [v, w, x, y, z], prompt: "two {{ item }}"}
  last: {prompt: "{{ steps.read.all | map(attribute='text') | join }}"}
"""
EVERY = ["a", "b", "c", "d", "e"]
SOME = {
    "the first": Selection(first=2),
    "by key": Selection(key="[abvw]"),
    "a sample": Selection(every=4),
}


@pytest.fixture
def state_of(bench):
    """Return a function that goes through the flow in a.yaml and returns what is held then."""
    environ = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": bench.simulator.base_url}
    project, whole = Project(bench.folder), Selection()
    options = RunOptions(environ=environ, folder=bench.folder, holds_results=False)

    async def gone_through(selection: Selection, *, asks: bool) -> FlowState:
        plan, planner = planned(checkup(project, "//a.yaml", "a.yaml"), options)
        workspace = workspace_of(project, options)
        lock_update = LockUpdate(lock_of(workspace, plan, options).sides())
        async with run_context(
            project,
            workspace,
            plan.checked,
            options=options,
            budget=shared_budget(project, options),
            config=user_config(project, options),
            lock_update=lock_update,
            asks=asks,
            selection=selection,
            recorder=NoRecorder(),
        ) as context:
            run_state = RunState(
                context,
                planner,
                refused_toolboxes(plan.checked, lambda _step: False),
                lock_update=lock_update,
                concurrency=2,
                failure_policy=FailurePolicy(),
            )
            flow = FlowRun(plan, run_state)
            await flow.run()
            return flow.state

    def found(selection: Selection = whole, *, asks: bool) -> FlowState:
        return asyncio.run(gone_through(selection, asks=asks))

    return found


def held(state: FlowState, step: str) -> list[tuple[str, bool, bool]]:
    """Return of each different outcome that is held how it ended, and if it has entry and text."""
    outcomes = {id(one): one for one in state.under_way[step].outcomes}.values()
    return [(one.ending, one.entry is not None, one.result is not None) for one in outcomes]


def test_a_survey_holds_one_outcome_for_all_that_nobody_reads(bench, state_of):
    bench.run(ROWS)
    state = state_of(asks=False)
    assert held(state, "unread") == [("current", False, False)]
    assert held(state, "read") == [("current", True, False)] * 5
    assert sorted(state.run_state.statuses) == sorted(
        [*(f"read[{key}]" for key in EVERY), *(f"unread[{key}]" for key in "vwxyz"), "last"]
    )


@pytest.mark.parametrize("way", SOME)
def test_a_survey_of_some_holds_one_outcome_for_the_others(bench, state_of, way):
    bench.run(ROWS)
    state = state_of(SOME[way], asks=False)
    assert sorted(held(state, "unread")) == [("current", False, False), ("left out", False, False)]
    assert sorted({ending for ending, *_ in held(state, "read")}) == ["current", "left out"]
    assert len(held(state, "read")) == 5


@pytest.mark.parametrize("way", SOME)
def test_what_a_survey_leaves_out_is_noted_unless_it_is_a_sample(bench, state_of, way):
    bench.run(ROWS)
    run_state = state_of(SOME[way], asks=False).run_state
    left = {f"read[{key}]" for key in "cde"} | {f"unread[{key}]" for key in "xyz"}
    if way == "a sample":  # the first and the fifth of each
        assert (len(run_state.statuses), run_state.unsurveyed) == (5, set())
    else:
        assert (run_state.unsurveyed, left & run_state.statuses.keys()) == (left, set())


def test_a_run_holds_one_outcome_for_all_that_nobody_reads(bench, state_of):
    bench.write("a.yaml", ROWS + "outputs: {done: '{{ steps.last.text }}'}\n")
    state = state_of(asks=True)
    assert held(state, "unread") == [("made", False, False)]
    assert held(state, "read") == [("made", True, True)] * 5
    bench.run(ROWS + "outputs: {done: '{{ steps.last.text }}'}\n")
    assert held(state_of(asks=True), "unread") == [("current", False, False)]


def test_a_run_holds_the_texts_of_what_is_shown_at_its_end(bench, state_of):
    bench.write("a.yaml", ROWS)
    state = state_of(asks=True)
    assert held(state, "unread") == [("made", False, True)] * 5
    results = [one.result for one in state.under_way["unread"].outcomes]
    assert {(one.request, one.fingerprint, one.usage) for one in results} == {(None, None, None)}
