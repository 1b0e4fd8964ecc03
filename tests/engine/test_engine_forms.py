"""Inputs decide the form of an answer: the words to choose from, and values in its schema."""

import pytest

from poeflow.errors import InvalidFlowError

FLOW = """\
poeflow: 1
inputs: {labels: {type: array, default: [bug, idea]}, most: {type: integer, default: 2}}
defaults: {model: GPT-5.2}
steps:
  sort: {prompt: sort, output: {one_of: "{{ inputs.labels }}"}}
  list:
    prompt: list
    output: {schema: {type: array, maxItems: "{{ inputs.most }}", items: {type: integer}}}
    expect: [{json_schema: {minItems: "{{ inputs.most - 1 }}"}}]
outputs: {sorted: "{{ steps.sort.value }}", listed: "{{ steps.list.data }}"}
"""
RULES = """\
- {match: {text: sort}, answer: {text: Idea}}
- {match: {text: list}, answer: {text: "[1, 2]"}}
"""


@pytest.fixture
def ran(bench, scripted):
    scripted(RULES)
    outcome = bench.run(FLOW)
    assert (outcome.exit_code, outcome.outputs) == (0, {"sorted": "idea", "listed": [1, 2]})
    return bench


def stale(bench, flow):
    return {n: reasons for n, (state, reasons) in bench.states(flow).items() if state != "fresh"}


def test_the_values_are_what_the_model_is_asked_for(ran):
    sort, listed = sorted(ran.prompts(), reverse=True)
    assert '"bug"' in sort
    assert '"idea"' in sort
    assert '"maxItems":2' in listed.replace(" ", "")
    assert not any("{{" in prompt for prompt in ran.prompts())


def test_an_answer_must_fit_the_values(ran):
    failed = ran.run(FLOW, inputs={"labels": ["bug", "other"], "most": 1}, keep_going=True)
    assert set(failed.failures) == {"sort", "list"}


def test_another_value_makes_stale_what_has_that_form(ran):
    assert stale(ran, FLOW) == {}
    assert set(stale(ran, FLOW.replace("[bug, idea]", "[bug, idea, ask]"))) == {"sort"}
    assert set(stale(ran, FLOW.replace("default: 2", "default: 3"))) == {"list"}
    ran.forget_answers()
    ran.write("a.yaml", FLOW)
    assert ran.locked() == []
    ran.write("a.yaml", FLOW.replace("[bug, idea]", "[bug, idea, ask]"))
    assert any("sort" in line for line in ran.locked())


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"labels": []}, "a.yaml:5:41: one_of must be a list of texts, not []; change the input"),
        ({"labels": [1]}, "a.yaml:5:41: one_of must be a list of texts, not [1]; change the input"),
        ({"labels": ["a", "A"]}, "a.yaml:5:41: one_of has a word twice: a, A; change the input"),
        ({"most": -1}, "a.yaml:8:46: -1 is less than 0; correct the schema"),
    ],
)
def test_a_value_that_cannot_be_one_is_found_before_anything_is_sent(ran, inputs, problem):
    asked = len(ran.simulator.requests)
    with pytest.raises(InvalidFlowError) as caught:
        ran.run(FLOW, inputs=inputs)
    assert problem in [str(one) for one in caught.value.problems]
    assert len(ran.simulator.requests) == asked


def test_a_used_flow_has_the_values_of_each_use(bench, scripted):
    scripted("- {answer: {text: b}}\n")
    bench.write(
        "part.yaml",
        "poeflow: 1\ninputs: {labels: {type: array}}\ndefaults: {model: GPT-5.2}\n"
        'steps:\n  sort: {prompt: sort, output: {one_of: "{{ inputs.labels }}"}}\n'
        'outputs: {value: "{{ steps.sort.value }}"}\n',
    )
    flow = (
        "poeflow: 1\nsteps:\n  each:\n    for_each: {in: [[a, b], [b, c]], key: 'item[1]'}\n"
        "    use: part.yaml\n"
        '    with: {labels: "{{ item }}"}\n'
    )
    assert bench.run(flow).exit_code == 0
    assert ['"c"' in prompt for prompt in sorted(bench.prompts())].count(True) == 1
