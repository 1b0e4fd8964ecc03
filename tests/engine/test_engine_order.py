"""Steps that wait for another one and do not read its answer: nothing is asked again for them."""

import pytest

CHILD = """\
poeflow: 1
inputs: {words: {type: string}}
defaults: {model: GPT-5.2}
steps: {say: {prompt: "say {{ inputs.words }}"}}
"""
FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  first: {prompt: one}
"""
WAITING = {
    "needs alone": '  then: {needs: [first], prompt: "two"}\n',
    "a loop": '  then: {needs: [first], for_each: [x, y], prompt: "two {{ item }}"}\n',
    "the status": '  then: {prompt: "two {{ steps.first.status }}"}\n',
    "an if": "  then: {if: \"steps.first.status == 'ok'\", prompt: two}\n",
}


@pytest.mark.parametrize("then", WAITING.values(), ids=WAITING)
def test_a_step_that_only_waits_needs_no_answer(bench, then):
    bench.run(FLOW + then)
    bench.forget_answers()
    changed = FLOW + then.replace("two", "three")
    states = {name: state for name, (state, _) in bench.states(changed).items()}
    assert states.pop("first") == "fresh"
    assert set(states.values()) == {"stale"}
    asked = len(bench.prompts())
    assert bench.run(changed).exit_code == 0
    assert [prompt[:5] for prompt in bench.prompts()[asked:]] == ["three"] * len(states)
    assert bench.locked() == []


def test_a_used_flow_that_only_waits_is_proven_in_a_clone(bench):
    bench.write("child.yaml", CHILD)
    flow = FLOW + "  then: {needs: [first], use: child.yaml, with: {words: two}}\n"
    bench.run(flow)
    bench.forget_answers()
    assert bench.locked() == []
    assert bench.run(flow).exit_code == 0
    assert len(bench.prompts()) == 2


def test_an_answer_that_a_step_reads_besides_is_asked_for(bench):
    then = '  then: {needs: [first], prompt: "two {{ steps.first.text }}"}\n'
    bench.run(FLOW + then)
    bench.forget_answers()
    assert bench.states(FLOW + then.replace("two", "three"))["first"][0] == "needed"


def test_a_conversation_goes_on_from_an_answer_that_no_text_reads(bench):
    then = "  then: {history: first, prompt: two}\n"
    bench.run(FLOW + then)
    bench.forget_answers()
    assert bench.states(FLOW + then.replace("two", "three"))["first"][0] == "needed"
