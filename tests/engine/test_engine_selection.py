"""A run that is about a part of a flow: the rest is as the last run left it."""

import shutil

import pytest

from poeflow.errors import UsageError

FLOW = """\
poeflow: 1
inputs: {tone: {default: dry}, words: {type: array, default: [cat, dog]}}
defaults: {model: GPT-5.2}
steps:
  find: {prompt: "find {{ inputs.tone }}"}
  say:
    for_each: inputs.words
    prompt: "say {{ item }} after {{ steps.find.text }}"
    output: {save: "out/{{ key }}.md"}
  more: {for_each: steps.say, prompt: "more on {{ source.text }}"}
  page:
    render: "{{ steps.more.all | map(attribute='text') | join(' ') }}"
    output: {save: out/page.md}
outputs: {page: "{{ steps.page.text }}"}
"""
USING = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  before: {use: part.yaml}
  after: {prompt: "after {{ steps.before.outputs.told }}"}
"""
PART = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps: {tell: {prompt: tell}, side: {prompt: side}}
outputs: {told: "{{ steps.tell.text }}"}
"""


@pytest.fixture
def ran(bench):
    bench.outcome = bench.run(FLOW)
    return bench


def test_only_a_step_is_run_on_what_the_last_run_gave(ran):
    changed = FLOW.replace("find {{", "seek {{").replace('"more on', '"less on')
    outcome = ran.run(changed, only=True, steps=("more",))
    said = [f"less on {ran.outcome.results[f'say[{key}]'].text}" for key in ("cat", "dog")]
    assert sorted(ran.prompts()[5:]) == sorted(said)
    assert outcome.outputs == {
        "more": {key: outcome.results[f"more[{key}]"].text for key in ("cat", "dog")}
    }
    warned = {event.step for event in ran.events if type(event).__name__ == "Warned"}
    assert warned == {"say[cat]", "say[dog]"}


def test_what_was_left_out_stays_as_it_was_in_the_lock(ran):
    before = ran.states(FLOW)
    ran.run(FLOW, only=True, steps=("find",))
    assert ran.states(FLOW) == before
    assert len(ran.prompts()) == 5


def test_only_one_instance(ran):
    changed = FLOW.replace('"say {{', '"shout {{')
    ran.run(changed, only=True, steps=("say[dog]",))
    assert ran.prompts()[5:] == [f"shout dog after {ran.outcome.results['find'].text}"]
    states = {name: state for name, (state, _) in ran.states(changed).items()}
    assert (states["say[cat]"], states["say[dog]"]) == ("stale", "fresh")


def test_a_step_left_out_that_never_ran_has_no_result(bench):
    outcome = bench.run(FLOW, only=True, steps=("say",))
    assert outcome.exit_code == 2
    assert str(outcome.failures["say"]) == (
        "find was left out, and has no result; "
        "run it first, or everything up to this step with --until"
    )
    assert bench.prompts() == []


def test_a_step_left_out_whose_answer_is_gone_fails_what_needs_it(ran):
    ran.forget_answers()
    changed = FLOW.replace('"say {{', '"tell {{')
    outcome = ran.run(changed, only=True, steps=("say",))
    assert (outcome.exit_code, outcome.outputs) == (2, {})
    assert {name: str(error) for name, error in outcome.failures.items()} == {
        "say": "the answer of find is not here; run it too, with --until"
    }
    assert len(ran.prompts()) == 5


def test_what_builds_on_a_gone_answer_two_steps_away_names_that_one(ran):
    ran.forget_answers()
    shutil.rmtree(ran.folder / "out")
    changed = FLOW.replace('"more on', '"less on')
    outcome = ran.run(changed, only=True, steps=("more",))
    assert {str(error) for error in outcome.failures.values()} == {
        "the answer of say[cat] is not here; run it too, with --until",
        "the answer of say[dog] is not here; run it too, with --until",
    }


def test_a_step_and_all_it_needs(bench):
    outcome = bench.run(FLOW, until=True, steps=("say",))
    assert len(bench.prompts()) == 3
    assert list(outcome.outputs) == ["say"]
    assert not (bench.folder / "out/page.md").exists()


def test_an_instance_and_all_it_needs(bench):
    outcome = bench.run(FLOW, until=True, steps=("more[dog]",))
    assert sorted(outcome.results) == ["find", "more[dog]", "say[dog]"]


def test_the_first_of_each_loop(bench):
    outcome = bench.run(FLOW, first=1)
    assert sorted(outcome.results) == ["find", "more[cat]", "say[cat]"]
    assert outcome.skipped == {"page": "more[dog] was left out, and has no result"}
    assert outcome.exit_code == 0
    assert list(outcome.outputs) == ["more"]
    assert list(outcome.outputs["more"]) == ["cat"]


def test_instances_whose_key_matches(bench):
    outcome = bench.run(FLOW, key="d*")
    assert sorted(outcome.results) == ["find", "more[dog]", "say[dog]"]


def test_what_a_part_did_is_not_asked_again_by_the_whole(bench):
    bench.run(FLOW, first=1)
    bench.run(FLOW)
    assert len(bench.prompts()) == len(set(bench.prompts())) == 5


def test_a_step_of_a_used_flow(bench):
    bench.write("part.yaml", PART)
    outcome = bench.run(USING, until=True, steps=("before/tell",))
    assert bench.prompts() == ["tell"]
    assert list(outcome.results) == ["before/tell"]
    assert outcome.skipped == {"before": "before/side was left out, and has no result"}


def test_a_used_flow_that_is_left_out_is_not_asked(bench):
    bench.write("part.yaml", PART)
    told = bench.run(USING).results["before/tell"].text
    bench.run(USING.replace('"after', '"later'), only=True, steps=("after",))
    assert bench.prompts()[3:] == [f"later {told}"]


def test_a_render_step_that_is_left_out_writes_nothing(bench):
    flow = FLOW.replace(
        "outputs: {page", "  last: {prompt: 'last {{ steps.page.text }}'}\noutputs: {page"
    )
    bench.run(flow)
    (bench.folder / "out/page.md").unlink()
    bench.run(flow.replace("'last {{", "'end {{"), only=True, steps=("last",))
    assert not (bench.folder / "out/page.md").exists()
    assert bench.prompts()[-1].startswith("end ")


def test_a_step_that_is_not_there(bench):
    with pytest.raises(UsageError, match=r'there is no step "sya" in a; did you mean "say"\?'):
        bench.run(FLOW, only=True, steps=("sya",))
