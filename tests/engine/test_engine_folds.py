"""A loop whose instances run in order, each with what it carries on from the one before."""

import shutil
from pathlib import Path

import pytest

from poeflow.events import Warned

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
FOLD = (
    HEAD
    + """\
  tell:
    for_each: {in: [a, b, c], carry: previous.text}
    prompt: "{{ item }} after {{ carry or 'nothing' }}"
  all: {render: "{{ steps.tell.all | map(attribute='text') | join(' ') }}"}
"""
)
RULES = """\
- {match: {text: a after nothing}, answer: {text: one}}
- {match: {text: b after one}, answer: {text: two}}
- {match: {text: c after two}, answer: {text: three}}
- {match: {text: c after one}, answer: {text: skipped}}
- {match: {text: x after one}, answer: {text: other}}
- {match: {text: c after other}, answer: {text: last}}
- {match: {text: d after three}, answer: {text: four}}
"""
ASKED = ["a after nothing", "b after one", "c after two"]


@pytest.fixture
def telling(bench, scripted):
    """A bot whose answers depend on what is carried on."""
    scripted(RULES)
    return bench


def test_each_instance_sees_the_one_before(telling):
    assert telling.run(FOLD).outputs == {"all": "one two three"}
    assert telling.prompts() == ASKED


def test_a_run_goes_on_in_the_middle(telling):
    telling.run(FOLD.replace("steps:", "limits: {max_requests: 2}\nsteps:"))
    assert telling.prompts() == ASKED[:2]
    assert telling.run(FOLD).outputs == {"all": "one two three"}
    assert telling.prompts() == ASKED


def test_what_comes_after_a_change_is_asked_again(telling):
    telling.run(FOLD)
    changed = FOLD.replace("[a, b, c]", "[a, x, c]")
    states = telling.states(changed)
    assert (states["tell[a]"], states["tell[x]"][0]) == (("fresh", ()), "new")
    assert states["tell[c]"][:1] == ("unknown",)
    assert states["tell[c]"][1][0] == "unknown until tell[x] has run"
    assert telling.run(changed).outputs == {"all": "one other last"}
    assert telling.prompts()[3:] == ["x after one", "c after other"]
    assert telling.run(FOLD).outputs == {"all": "one two three"}
    assert len(telling.prompts()) == 5


def test_another_expression_is_another_recipe(telling):
    telling.run(FOLD)
    same = FOLD.replace("previous.text", "previous.text | trim")
    telling.run(same)
    assert (telling.prompts(), telling.locked()) == (ASKED, [])
    other = FOLD.replace("previous.text", "previous.text | upper")
    assert telling.states(other)["tell[b]"] == ("stale", ("carry changed",))
    assert telling.states(other)["tell[a]"] == ("fresh", ())


def test_a_clone_without_answers_asks_nothing(telling):
    telling.run(FOLD)
    telling.forget_answers()
    assert telling.locked() == []
    telling.run(FOLD)
    assert {state for state, _ in telling.states(FOLD).values()} == {"fresh"}
    assert telling.prompts() == ASKED


def test_what_is_not_stored_is_asked_again_in_order(telling):
    telling.run(FOLD)
    telling.forget_answers()
    longer = FOLD.replace("[a, b, c]", "[a, b, c, d]")
    states = telling.states(longer)
    assert states["tell[c]"] == ("needed", ("tell[d] needs its answer, which is not here",))
    assert telling.run(longer).outputs == {"all": "one two three four"}
    assert telling.prompts() == [*ASKED, *ASKED, "d after three"]


def test_a_long_fold_that_is_not_stored_is_asked_again(bench):
    flow = (
        HEAD
        + """\
  tell:
    for_each: {in: "{{ range(150) | list }}", carry: previous.text}
    prompt: "{{ item }} {{ carry | length if carry else 0 }}"
"""
    )
    bench.run(flow)
    shutil.rmtree(bench.folder / ".poeflow")
    assert bench.run(flow.replace("150", "151")).exit_code == 0
    assert len(bench.prompts()) == 150 + 151


def test_a_failure_stops_those_after_it(telling):
    flow = FOLD.replace("    prompt:", "    expect: [{not_contains: two}]\n    prompt:")
    outcome = telling.run(flow)
    assert list(outcome.failures) == ["tell[b]"]
    assert telling.prompts() == ASKED[:2]


def test_one_that_is_skipped_hands_on_what_it_got(telling):
    flow = FOLD.replace("    prompt:", "    if: item != 'b'\n    prompt:")
    assert telling.run(flow).outputs == {"all": "one skipped"}
    assert telling.prompts() == ["a after nothing", "c after one"]
    assert telling.run(flow).exit_code == 0
    assert len(telling.prompts()) == 2


def test_a_condition_may_end_it(telling):
    flow = FOLD.replace("    prompt:", "    if: carry != 'two'\n    prompt:")
    assert telling.run(flow).outputs == {"all": "one two"}
    assert telling.prompts() == ASKED[:2]
    telling.forget_answers()
    assert telling.run(flow).exit_code == 0


def test_it_runs_over_what_a_step_gives_and_over_each_of_a_loop(telling):
    flow = (
        HEAD
        + """\
  items: {render: '["a", "b", "c"]', output: {format: json}}
  late:
    for_each: {in: steps.items.data, carry: previous.text}
    prompt: "{{ item }} after {{ carry or 'nothing' }}"
  each: {for_each: [a, b, c], render: "{{ item }}"}
  chained:
    for_each: {in: steps.each, carry: previous.text}
    prompt: "{{ source.text }} after {{ carry or 'nothing' }}"
"""
    )
    told = {"a": "one", "b": "two", "c": "three"}
    assert telling.run(flow).outputs == {"late": told, "chained": told}
    assert telling.prompts() == ASKED
    assert {state for state, _ in telling.states(flow).values()} == {"fresh"}


def test_items_are_turns_of_one_conversation(bench, scripted):
    scripted(
        """\
        - {match: {text: hello}, answer: {text: one}}
        - {match: {text: and}, answer: {text: two}}
        """
    )
    flow = (
        HEAD
        + """\
  talk: {for_each: [hello, and, bye], history: self, system: Be brief., prompt: "{{ item }}"}
"""
    )

    def sent():
        return [
            [(m["role"], m["content"]) for m in request.json["messages"]]
            for request in bench.simulator.requests
        ]

    first = [("system", "Be brief."), ("user", "hello")]
    second = [*first, ("assistant", "one"), ("user", "and")]
    third = [*second, ("assistant", "two"), ("user", "bye")]
    bench.run(flow)
    assert sent() == [first, second, third]
    bench.run(flow)
    assert len(sent()) == 3
    bench.forget_answers()
    assert bench.locked() == []
    assert bench.run(flow).exit_code == 0
    assert len(sent()) == 3
    bench.run(flow.replace("bye", "ciao"))
    assert sent()[3:] == [first, second, [*second, ("assistant", "two"), ("user", "ciao")]]
    states = bench.states(flow.replace("hello", "hello there").replace("bye", "ciao"))
    assert states["talk[hello there]"][0] == "new"
    assert states["talk[and]"][1][0] == "unknown until talk[hello there] has run"


@pytest.mark.parametrize("chosen", ["--only", "--until", "--key"])
def test_one_turn_of_a_conversation_is_printed_by_its_stored_answers(bench, chosen):
    flow = HEAD + "  talk: {for_each: [x, y, z], history: self, prompt: 'Turn {{ item }}'}\n"
    first = bench.run(flow).outputs["talk"]
    told = {"--only": first["y"], "--until": first["y"], "--key": first}[chosen]
    named = ("talk[y]",)
    options = {
        "--only": {"only": True, "steps": named},
        "--until": {"until": True, "steps": named},
        "--key": {"key": "y"},
    }[chosen]
    outcome = bench.run(flow, **options)
    assert (outcome.outputs["talk"], len(bench.prompts())) == (told, 3)
    assert [event for event in bench.events if isinstance(event, Warned)] == []


def test_one_turn_is_not_here_if_an_earlier_one_is_not_stored(bench):
    flow = HEAD + "  talk: {for_each: [x, y], history: self, prompt: 'Turn {{ item }}'}\n"
    bench.run(flow)
    bench.forget_answers()
    assert bench.run(flow, only=True, steps=("talk[y]",)).outputs == {}
    [warned] = [event for event in bench.events if isinstance(event, Warned)]
    assert warned.message.startswith("talk[y] is current, and its answer is not here")
    assert len(bench.prompts()) == 2


def test_a_step_that_continues_a_loop_continues_the_whole_conversation(bench):
    flow = (
        HEAD
        + """\
  talk: {for_each: [a, b], history: self, prompt: "{{ item }}"}
  sum: {for_each: steps.talk, history: talk, prompt: sum up}
"""
    )
    bench.run(flow)
    lengths = [len(request.json["messages"]) for request in bench.simulator.requests]
    assert sorted(lengths) == [1, 3, 3, 5]
    bench.run(flow)
    assert len(bench.simulator.requests) == 4


def test_a_flow_can_be_used_in_order(telling):
    telling.write(
        "part.yaml",
        "poeflow: 1\ndefaults: {model: GPT-5.2}\ninputs: {words: {type: string}}\n"
        "steps: {say: {prompt: '{{ inputs.words }}'}}\noutputs: {said: '{{ steps.say.text }}'}\n",
    )
    flow = (
        HEAD.replace("defaults: {model: GPT-5.2}\n", "")
        + """\
  tell:
    for_each: {in: [a, b, c], carry: previous.outputs.said}
    use: part.yaml
    with: {words: "{{ item }} after {{ carry or 'nothing' }}"}
"""
    )
    assert telling.run(flow).exit_code == 0
    assert telling.prompts() == ASKED
    assert telling.run(flow).exit_code == 0
    assert telling.prompts() == ASKED


JUDGED = (
    HEAD
    + """\
  tell:
    for_each: {in: [a, b], carry: previous.ATTRIBUTE}
    prompt: "{{ item }} after {{ carry | tojson }}"
    expect: [{max_length: 1, level: score}, {min_length: 1, level: score, weight: WEIGHT}]
"""
).replace("WEIGHT", "3")


@pytest.mark.parametrize("attribute", ["score", "passed", "verdicts"])
def test_how_the_one_before_was_judged_is_carried_on(bench, attribute):
    flow = JUDGED.replace("ATTRIBUTE", attribute)
    assert bench.run(flow).exit_code == 0
    assert attribute != "score" or bench.prompts() == ["a after null", "b after 0.75"]
    bench.forget_answers()
    assert (bench.locked(), bench.run(flow).exit_code, len(bench.prompts())) == ([], 0, 2)
    other = flow.replace("weight: 3", "weight: 1")
    assert bench.states(other)["tell[b]"][0] != "fresh"
    assert bench.run(other).exit_code == 0
    assert bench.locked() == []
    assert attribute != "score" or bench.prompts()[-1] == "b after 0.5"


def test_the_verdict_of_an_accepted_text_that_no_rule_judges_is_carried_on(bench):
    flow = JUDGED.replace("ATTRIBUTE", "score").partition("    expect:")[0] + (
        "    expect: [{judge: {rubric: fine}, level: score}]\n"
        "    output: {save: 'out/{{ key }}.md'}\n"
        "  next: {for_each: steps.tell, prompt: '{{ key }} got {{ source.score }}'}\n"
    )
    assert bench.run(flow).exit_code == 0
    (bench.folder / "out/a.md").write_text("by hand\n")
    bench.accept(flow)
    assert bench.run(flow).exit_code == 0
    assert {"b after 1.0", "a got 1.0"} <= {*bench.prompts()}


def test_a_fold_of_texts_accumulates_results(bench, scripted):
    scripted('- {match: {text: Invent}, answer: {template: "{{ prompt[-5:] }}"}}\n')
    page = Path(__file__).parents[2] / ".github/docs/flows.md"
    [flow] = [one for one in page.read_text().split("```yaml\n")[1:] if "Invent a name" in one]
    found = bench.run(flow.partition("```")[0]).outputs
    assert found == {"names": "Names\n1. ship.\n2. iver.\n3. hill."}
    bench.forget_answers()
    assert bench.locked() == []
