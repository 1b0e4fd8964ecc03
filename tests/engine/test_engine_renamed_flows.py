"""A flow that was renamed without its lock: what the lock of the gone flow proves is current."""

import pytest

from poeflow.events import Warned

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  one: {prompt: one, output: {save: out/one.md}}
  many: {for_each: [x, y], prompt: "{{ key }}", output: {save: "out/{{ key }}.md"}}
  page: {render: "{{ steps.one.text }}", output: {save: out/page.md}}
"""


@pytest.fixture
def renamed(bench, git):
    """Leave a clone in which `a.yaml` has just got this name; return how often was asked."""
    bench.write(".gitignore", ".poeflow/\n")
    assert bench.run(FLOW).exit_code == 0
    (bench.folder / "a.lock.json").rename(bench.folder / "before.lock.json")
    bench.forget_answers()
    return len(bench.simulator.requests)


def test_it_is_current_and_gets_a_lock_of_its_own(bench, renamed):
    assert {state for state, _ in bench.states(FLOW).values()} == {"fresh"}
    assert bench.locked() == ["a.lock.json does not exist; run the flow and commit it"]
    assert bench.run(FLOW).exit_code == 0
    told = [event.message for event in bench.events if isinstance(event, Warned)]
    assert told == [
        "there is no a.lock.json; before.lock.json is used, whose flow is gone: remove it after"
    ]
    assert (len(bench.simulator.requests), bench.locked()) == (renamed, [])


def test_what_changed_with_the_name_is_asked(bench, renamed):
    assert bench.run(FLOW.replace("prompt: one", "prompt: two")).exit_code == 0
    assert bench.prompts()[renamed:] == ["two"]
    assert bench.locked() == []


def test_an_edited_output_stays(bench, renamed):
    bench.write("out/one.md", "mine\n")
    outcome = bench.run(FLOW.replace("prompt: one", "prompt: two"))
    assert "was edited" in str(outcome.failures["one"])
    assert (bench.folder / "out/one.md").read_text() == "mine\n"


def test_the_lock_of_another_flow_is_not_used(bench, renamed):
    bench.write("before.yaml", FLOW)
    assert "not write it" in bench.states(FLOW)["one"][1][0]
