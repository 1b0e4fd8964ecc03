"""A flow that is used again and again until its outputs will do: its turns, its end, its lock."""

import pytest

from poeflow.events import Expected, Warned

CHILD = """\
poeflow: 1
inputs: {before: {default: ""}}
defaults: {model: GPT-5.2}
steps:
  write: {prompt: "{{ 'after ' ~ inputs.before if inputs.before else 'begin' }}"}
  grade: {prompt: "grade {{ steps.write.text }}"}
outputs: {text: "{{ steps.write.text }}", grade: "{{ steps.grade.text | int }}"}
"""
FLOW = """\
poeflow: 1
steps:
  draft:
    use: child.yaml
    with: {before: "{{ previous.outputs.text if previous else '' }}"}
    repeat: {until: outputs.grade >= 8, max: 4}
  next: {render: "{{ steps.draft.outputs.text }}!"}
"""
RULES = """\
- {match: {text: begin}, answer: {text: one}}
- {match: {text: after one}, answer: {text: two}}
- {match: {text: after two}, answer: {text: three}}
- {match: {text: grade three}, answer: {text: "9"}}
- {match: {text: grade}, answer: {text: "5"}}
"""
TURNS = ["begin", "grade one", "after one", "grade two", "after two", "grade three"]


@pytest.fixture
def drafting(bench, scripted):
    """A bot whose third draft is good."""
    bench.write("child.yaml", CHILD)
    scripted(RULES)
    return bench


def test_it_runs_until_its_outputs_will_do(drafting):
    outcome = drafting.run(FLOW)
    assert drafting.prompts() == TURNS
    assert outcome.outputs == {"next": "three!"}
    assert list(outcome.results) == [
        *("draft/write", "draft/grade", "draft#2/write", "draft#2/grade"),
        *("draft#3/write", "draft#3/grade", "draft", "next"),
    ]


def test_an_output_that_is_no_number_will_not_do(bench, scripted):
    bench.write("child.yaml", CHILD.replace(" | int }}", " }}"))
    scripted(RULES.replace('"5"', "good"))
    outcome = bench.run(FLOW.replace("outputs.grade >=", "outputs.grade | int >="))
    assert outcome.outputs == {"next": "three!"}
    assert bench.prompts() == TURNS


def test_a_run_goes_on_in_the_middle_of_a_turn(drafting):
    outcome = drafting.run(FLOW.replace("steps:", "limits: {max_requests: 3}\nsteps:", 1))
    assert outcome.exit_code == 9
    assert drafting.prompts() == TURNS[:3]
    assert drafting.run(FLOW).outputs == {"next": "three!"}
    assert drafting.prompts() == TURNS


def test_what_is_done_is_current(drafting):
    drafting.run(FLOW)
    assert {state for state, _ in drafting.states(FLOW).values()} == {"fresh"}
    assert drafting.locked() == []
    assert drafting.run(FLOW).outputs == {"next": "three!"}
    assert drafting.prompts() == TURNS


def test_a_clone_without_answers_proves_every_turn(drafting):
    child = CHILD.replace(
        "else 'begin' }}\"}",
        "else 'begin' }}\", output: {save: \"out/{{ inputs.before or 'first' }}.md\"}}",
    )
    drafting.write("child.yaml", child)
    drafting.run(FLOW)
    drafting.forget_answers()
    assert drafting.locked() == []
    assert drafting.states(FLOW).keys() == {
        *("draft/write", "draft/grade", "draft#2/write", "draft#2/grade"),
        *("draft#3/write", "draft#3/grade", "draft", "next"),
    }
    drafting.run(FLOW)
    assert drafting.locked() == []
    assert (drafting.folder / "out" / "two.md").read_text() == "three\n"
    (drafting.folder / "out" / "two.md").write_text("three, by hand\n")
    assert "draft#3/write: edited: out/two.md was edited" in drafting.locked()
    (drafting.folder / "out" / "two.md").unlink()
    assert drafting.locked() != []
    assert drafting.prompts() == TURNS


def test_a_change_of_the_flow_or_of_a_file_of_its_turns_is_seen_in_a_clone(drafting):
    child = CHILD.replace(
        "  grade: {prompt",
        "  later: {if: inputs.before, prompt: {file: later.md}}\n  grade: {prompt",
    )
    drafting.write("later.md", "note {{ inputs.before }}")
    drafting.write("child.yaml", child)
    drafting.run(FLOW)
    drafting.forget_answers()
    assert drafting.locked() == []
    drafting.write("child.yaml", child.replace("if: inputs.before,", "if: inputs.before != 'x',"))
    assert drafting.locked() != []
    drafting.write("child.yaml", f"# a comment\n{child}")
    assert drafting.locked() == []
    drafting.write("later.md", "another {{ inputs.before }}")
    assert drafting.locked() != []


def test_another_end_is_found_in_the_turns_there_are(drafting):
    drafting.run(FLOW)
    sooner = FLOW.replace("outputs.grade >= 8", "repeat.number == 2")
    assert drafting.run(sooner).outputs == {"next": "two!"}
    assert drafting.prompts() == TURNS
    assert drafting.locked() == []
    assert not any("#3" in name for name in drafting.states(sooner))


def test_the_last_turn_fails_the_step_or_is_taken_with_a_warning(drafting):
    flow = FLOW.replace("max: 4", "max: 2")
    outcome = drafting.run(flow)
    message = "expected that outputs.grade >= 8 within 2 turns, found that outputs.grade is 5"
    assert str(outcome.failures["draft"]).startswith(message)
    assert outcome.exit_code == 1
    assert drafting.run(flow.replace("max: 2", "max: 2, else: keep")).outputs == {"next": "two!"}
    found = [(e.kind, e.level, e.message) for e in drafting.events if isinstance(e, Expected)]
    assert found == [("repeat", "warn", message)]
    assert drafting.prompts() == TURNS[:4]
    assert not [e for e in drafting.events if isinstance(e, Warned)]


def test_a_failure_in_a_turn_is_the_steps(bench, scripted):
    bench.write("child.yaml", CHILD)
    scripted(RULES.replace("answer: {text: two}", 'fault: "400"'))
    outcome = bench.run(FLOW)
    assert list(outcome.failures) == ["draft#2/write"]
    assert outcome.skipped == {
        "draft#2/grade": "draft#2/write failed",
        "next": "draft failed",
    }


def test_each_item_has_turns_of_its_own(drafting):
    flow = FLOW.replace("    use:", "    for_each: [a, 'b]#2/c']\n    use:").replace(
        "steps.draft.outputs.text", "steps.draft.all | map(attribute='outputs.text') | join"
    )
    assert drafting.run(flow).outputs == {"next": "threethree!"}
    assert drafting.states(flow)["draft[b]#2/c]#2/write"] == ("fresh", ())
    assert sorted(drafting.prompts()) == sorted(TURNS)
    drafting.forget_answers()
    assert drafting.locked() == []


def test_all_its_turns_are_asked_again(drafting):
    drafting.run(FLOW)
    drafting.run(FLOW, steps=("draft",), refresh=True)
    assert drafting.prompts() == TURNS * 2


def test_a_reader_in_a_clone_asks_all_turns_again(drafting):
    drafting.run(FLOW)
    drafting.forget_answers()
    assert drafting.run(FLOW.replace("}}!", "}}?")).outputs == {"next": "three?"}
    assert drafting.prompts() == TURNS * 2
