"""What a run holds of its instances: only what is read, and everything comes out the same."""

import pytest

from poeflow.operations import recording
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
