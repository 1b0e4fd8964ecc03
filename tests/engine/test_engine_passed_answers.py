"""Used flows that get another step's answer: a clone proves them without that answer."""

import json

import pytest

CHILD = """\
poeflow: 1
inputs: {text: {type: string}, note: {default: ""}}
defaults: {model: GPT-5.2}
steps:
  s:
    prompt: "turn {{ inputs.text }}"
    output: {save: "out/{{ inputs.text | slug | truncate(20, true, '') }}.txt"}
  t: {if: inputs.text != 'no', prompt: "last {{ steps.s.text }}{{ inputs.note }}"}
  k: {if: inputs.text == 'no', prompt: never}
outputs: {text: "{{ steps.t.text }}", note: "{{ inputs.note }}"}
"""
OUTER = """\
poeflow: 1
inputs: {text: {type: string}}
steps:
  inner: {use: child.yaml, with: {text: "{{ inputs.text }}!", note: here}}
"""
LOOPS = """\
poeflow: 1
inputs: {tags: {type: array}}
defaults: {model: GPT-5.2}
steps:
  n: {for_each: inputs.tags, prompt: "tag {{ item }}", output: {save: "out/{{ item | slug }}.txt"}}
  r: {render: "{{ steps.n.all | map(attribute='text') | join }}"}
"""
HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
FLOW = (
    HEAD
    + """\
  a: {prompt: hello}
  b: {use: child.yaml, with: {text: "{{ steps.a.text }}"}}
  c: {prompt: "read {{ steps.b.outputs.text }}", output: {save: out/c.txt}}
"""
)
FLOWS = {
    "alone": FLOW,
    "deep": FLOW.replace("child.yaml", "outer.yaml").replace("outputs.text", "outputs | tojson"),
    "loop": HEAD
    + """\
  a: {prompt: hello}
  b: {use: loops.yaml, with: {tags: "{{ steps.a.text.split(' ') }}"}}
""",
    "chain": HEAD
    + """\
  a: {for_each: [x, y], prompt: "hello {{ item }}"}
  b: {for_each: steps.a, use: child.yaml, with: {text: "{{ source.text }}"}}
  c: {render: "{{ steps.b.all | length }}"}
""",
    "late": HEAD
    + """\
  a: {prompt: hello}
  b:
    for_each: steps.a.text.split(' ')
    use: child.yaml
    with: {text: "{{ item }} {{ read('words.txt') }}", note: "{{ key }}"}
""",
    "turns": HEAD
    + """\
  a: {prompt: hello}
  b:
    use: child.yaml
    with: {text: "{{ steps.a.text }} {{ previous.outputs.text if previous else '' }}"}
    repeat: {max: 3, until: repeat.number == 2}
""",
    "skipped": HEAD
    + """\
  a: {prompt: hello}
  b: {if: "steps.a.text == 'no'", use: child.yaml, with: {text: "{{ steps.a.text }}"}}
""",
}


@pytest.fixture
def clone(bench, scripted):
    """Return a function that runs a flow and leaves what a clone has."""
    scripted("""- {match: {}, answer: {template: "heard {{ prompt }}"}}\n""")
    bench.write("child.yaml", CHILD)
    bench.write("outer.yaml", OUTER)
    bench.write("loops.yaml", LOOPS)
    bench.write("words.txt", "some words")

    def make(flow: str) -> int:
        assert bench.run(flow).exit_code == 0
        assert bench.locked() == []
        bench.forget_answers()
        return len(bench.prompts())

    return make


def lock(bench) -> bytes:
    return (bench.folder / "a.lock.json").read_bytes()


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_a_clone_proves_all_and_asks_nothing(bench, clone, flow):
    asked = clone(flow)
    assert bench.locked() == []
    assert {state for state, _ in bench.states(flow).values()} <= {"fresh", "skipped"}
    written = lock(bench)
    outcome = bench.run(flow)
    assert (outcome.exit_code, len(bench.prompts()), lock(bench)) == (0, asked, written)
    assert bench.locked() == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("child.yaml", "last {{", "at last {{"),
        ("child.yaml", 'note: {default: ""}', "note: {default: other}"),
        ("child.yaml", 'text: "{{ steps.t.text }}"', 'text: "{{ steps.s.text }}"'),
        ("a.yaml", '"{{ steps.a.text }}"', '"{{ steps.a.text | upper }}"'),
        ("a.yaml", "prompt: hello", "prompt: goodbye"),
    ],
)
def test_what_decides_its_steps_is_compared(bench, clone, name, old, new):
    clone(FLOW)
    flow = FLOW.replace(old, new) if name == "a.yaml" else FLOW
    if name != "a.yaml":
        bench.write(name, CHILD.replace(old, new))
    assert bench.states(flow)["b"][0] != "fresh"
    assert bench.locked() != []
    assert bench.run(flow, prune_outputs=True).exit_code == 0
    assert bench.locked() == []
    bench.forget_answers()
    assert bench.locked() == []


def test_a_file_that_decides_what_is_passed_is_compared(bench, clone):
    clone(FLOWS["late"])
    bench.write("words.txt", "other words")
    assert bench.locked() != []
    assert bench.run(FLOWS["late"], prune_outputs=True).exit_code == 0
    bench.forget_answers()
    assert bench.locked() == []


def test_an_output_file_of_its_steps_is_compared(bench, clone):
    asked = clone(FLOW)
    for path in (bench.folder / "out").glob("heard*.txt"):
        path.unlink()
    assert bench.locked() != []
    assert bench.run(FLOW).exit_code == 0
    assert len(bench.prompts()) > asked


def test_its_outputs_are_those_of_the_results_in_the_same_lock(bench, clone):
    """A merge, or an ended run, may leave results of its steps that its outputs do not show."""
    flow = FLOW.replace("prompt: hello", "prompt: hi")
    clone(flow)
    old = json.loads(lock(bench))
    bench.write("child.yaml", CHILD.replace("last {{", "at last {{"))
    bench.run(flow)
    bench.forget_answers()
    mixed = json.loads(lock(bench))
    for step in ("b", "c"):
        mixed["steps"][step] = old["steps"][step]
    bench.write("a.lock.json", json.dumps(mixed))
    assert bench.locked() != []


def test_an_answer_with_the_same_results_asks_for_nothing_again(bench, clone):
    bench.run(FLOW)
    asked = len(bench.prompts())
    changed = FLOW.replace('"{{ steps.a.text }}"', "\"{{ steps.a.text ~ '' }}\"")
    assert bench.run(changed).exit_code == 0
    assert len(bench.prompts()) == asked
    bench.forget_answers()
    assert bench.locked() == []


ALWAYS = (
    HEAD
    + """\
  a: {prompt: hello, cache: false, samples: 2}
  b: {use: child.yaml, with: {text: "{{ steps.a.text }}"}}
"""
)


def test_an_answer_that_every_run_asks_for_is_not_needed_to_prove_it(bench, clone):
    assert bench.run(ALWAYS).exit_code == 0
    assert bench.locked() == []
    assert bench.run(ALWAYS, first=1).exit_code == 0
    assert bench.locked() == []
    bench.forget_answers()
    assert bench.locked() == []


def test_nor_one_that_functions_judge(bench, clone):
    bench.write("judged.py", "def good(text):\n    return True\n")
    flow = FLOW.replace("prompt: hello", "prompt: hello, expect: [{call: 'judged:good'}]")
    flow += "  d: {render: '{{ steps.a.passed | tojson }}'}\n"
    assert bench.run(flow, allow_tools=True).exit_code == 0
    assert set(bench.states(flow).values()) <= {("fresh", ()), ("skipped", ())}
    assert bench.locked() == []
