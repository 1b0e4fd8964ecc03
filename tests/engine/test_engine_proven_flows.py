"""Flows that a clone without answers proves only if all that decides their outputs is the same."""

import pytest

CHILD = """\
poeflow: 1
inputs: {n: {type: integer}, note: {default: ""}}
defaults: {model: GPT-5.2}
steps:
  s: {prompt: "turn {{ inputs.n }}", output: {save: "out/{{ inputs.n }}.txt"}}
  t: {prompt: "last {{ inputs.n }}"}
outputs: {text: "{{ steps.s.text }} {{ steps.t.text }}", note: "{{ inputs.note }}"}
"""
REPEATED = """\
poeflow: 1
steps:
  u:
    use: child.yaml
    with: {n: "{{ repeat.number }}", note: "{{ 'again' if previous else '' }}"}
    repeat: {max: 5, until: repeat.number == 2}
"""
USED = """\
poeflow: 1
steps:
  u: {use: child.yaml, with: {n: 1, note: here}}
  last:
    render: "{{ steps.u.outputs.text }} {{ steps.u.outputs.note | d('', true) }}"
    output: {save: out/last}
"""
CHAINED = """\
poeflow: 1
steps:
  a: {for_each: [x, yy], model: GPT-5.2, prompt: "{{ item }}"}
  u: {for_each: steps.a, use: child.yaml, with: {n: "{{ source.text | length }}"}}
"""
FOLD = """\
poeflow: 1
steps:
  u:
    for_each: {in: [x, yy], carry: previous.outputs.text}
    use: child.yaml
    with: {n: "{{ item | length }}", note: "{{ carry or '' }}"}
"""


@pytest.fixture
def clone(bench, scripted):
    """Return a function that runs a flow, leaves what a clone has and counts the requests."""

    scripted("""- {match: {}, answer: {template: "heard {{ prompt }}"}}\n""")

    def make(flow: str, child: str = CHILD) -> int:
        bench.write("child.yaml", child)
        bench.run(flow)
        bench.forget_answers()
        assert bench.locked() == []
        return len(bench.simulator.requests)

    return make


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("repeat.number == 2", "repeat.number == 3"),
        ("'again' if", "'yet again' if"),
    ],
)
def test_what_decides_later_turns_is_compared(bench, clone, old, new):
    clone(REPEATED)
    changed = REPEATED.replace(old, new)
    state = bench.states(changed)["u"]
    assert state[0] != "fresh"
    assert bench.locked() != []
    assert bench.run(changed).exit_code == 0
    assert bench.locked() == []
    bench.forget_answers()
    assert bench.locked() == []


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("last {{", "the last {{", "heard turn 1 heard the last 1 here"),
        ("steps.s.text }}", "steps.s.text | upper }}", "HEARD TURN 1 heard last 1 here"),
        ("inputs.note }}", "inputs.note }}!", "heard turn 1 heard last 1 here!"),
        ('t: {prompt: "last {{ inputs.n }}"}', "t: {render: no}", "heard turn 1 no here"),
        (
            '  s: {prompt: "turn {{ inputs.n }}", ',
            '  s: {prompt: "at {{ inputs.n }}", ',
            "heard at 1 heard last 1 here",
        ),
    ],
)
def test_a_flow_with_other_outputs_is_not_proven(bench, clone, old, new, shown):
    clone(USED)
    bench.write("child.yaml", CHILD.replace(old, new))
    assert bench.states(USED)["u"][0] != "fresh"
    assert bench.run(USED).outputs == {"last": shown}
    assert bench.locked() == []
    bench.forget_answers()
    assert bench.locked() == []


def test_an_input_that_an_output_shows_is_compared(bench, clone):
    clone(USED)
    changed = USED.replace("note: here", "note: there")
    assert bench.states(changed)["u"][0] != "fresh"
    assert bench.run(changed).outputs["last"].endswith(" there")
    assert bench.locked() == []


@pytest.mark.parametrize("flow", [CHAINED, FOLD])
def test_its_steps_are_looked_at_in_loops_over_answers_that_are_not_here(bench, clone, flow):
    bench.write("child.yaml", CHILD)
    bench.run(flow)
    assert set(bench.states(flow).values()) == {("fresh", ())}
    bench.forget_answers()
    assert not any(
        name.startswith("u[x]") for name, s in bench.states(flow).items() if s[0] == "stale"
    )
    bench.write("child.yaml", CHILD.replace("last {{", "the last {{"))
    assert bench.states(flow)["u[x]"][0] != "fresh"
    assert bench.run(flow).exit_code == 0
    assert bench.locked() == []
    assert sum(prompt.startswith("the last") for prompt in bench.prompts()) == 2


def test_what_changes_no_output_is_proven_and_nothing_is_asked(bench, clone):
    child = CHILD.replace(', note: "{{ inputs.note }}"', "")
    asked = clone(USED, child)
    bench.write("child.yaml", child.replace('"turn', '"{# how #}turn') + "# a comment\n")
    changed = USED.replace("n: 1", 'n: "{{ 1 }}"')
    assert bench.states(changed)["u"] == ("fresh", ())
    assert bench.run(changed).exit_code == 0
    assert len(bench.prompts()) == asked


READING = {
    "read": "{{ read('words.txt') }}",
    "glob": "{{ glob('w*.txt') | join }}",
    "include": "{% include 'words.txt' %}",
}


PASSED = """\
poeflow: 1
steps:
  a: {model: GPT-5.2, prompt: hi}
  u: {use: child.yaml, with: {n: "{{ steps.a.text | length }}", note: here}}
"""


@pytest.mark.parametrize("flow", [USED, REPEATED, PASSED], ids=["used", "repeated", "passed"])
@pytest.mark.parametrize("shown", READING.values(), ids=READING)
def test_outputs_that_read_files_are_proven_while_these_stay(bench, clone, flow, shown):
    child = CHILD.replace('note: "{{ inputs.note }}"', f'note: "{shown}"')
    bench.write("words.txt", "some words")
    asked = clone(flow, child)
    assert set(bench.states(flow).values()) == {("fresh", ())}
    assert bench.run(flow).exit_code == 0
    assert len(bench.simulator.requests) == asked
    bench.forget_answers()
    for name in ("words.txt", "wild.txt"):
        bench.write(name, "other words")
    assert bench.states(flow)["u"][0] != "fresh"
    assert bench.locked() != []
    assert bench.run(flow).exit_code == 0
    assert bench.locked() == []
    bench.forget_answers()
    assert bench.locked() == []
