"""Stored answers that somebody altered: the lock knows what they were, and wins."""

import pytest
from stored_answers import alter_answers

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft: {prompt: on otters, output: {save: out.md}}
"""
READER = (
    FLOW
    + """\
  page: {prompt: "more on {{ steps.draft.text }}", output: {save: page.md}}
"""
)


def alter(bench, text: str = "of a stranger", *, simulated: bool = False) -> int:
    """Alter the stored answers as somebody does who knows how they are checked."""
    return alter_answers(bench.folder, text, simulated=simulated)


def warned(bench) -> list[str]:
    return [event.message for event in bench.events if type(event).__name__ == "Warned"]


def test_a_good_output_stays(bench):
    bench.run(FLOW)
    before = (bench.folder / "out.md").read_text()
    assert alter(bench) == 1
    outcome = bench.run(FLOW)
    assert (outcome.exit_code, len(bench.simulator.requests)) == (0, 1)
    assert (bench.folder / "out.md").read_text() == before
    assert warned(bench) == ["its stored answer is not the one the lock has; it is not used"]
    assert bench.locked() == []


def test_an_answer_of_which_nothing_else_is_left_is_asked_for_again(bench):
    bench.run(FLOW)
    (bench.folder / "out.md").unlink()
    alter(bench)
    outcome = bench.run(FLOW)
    assert (outcome.exit_code, len(bench.simulator.requests)) == (0, 2)
    assert "stranger" not in (bench.folder / "out.md").read_text()
    again = bench.run(FLOW)
    assert (again.exit_code, len(bench.simulator.requests), warned(bench)) == (0, 2, [])


@pytest.mark.parametrize("keeps_file", [True, False])
def test_a_step_that_reads_it_never_sees_it(bench, keeps_file):
    bench.run(FLOW)
    if not keeps_file:
        (bench.folder / "out.md").unlink()
    alter(bench)
    assert bench.run(READER).exit_code == 0
    assert not any("stranger" in prompt for prompt in bench.prompts())
    assert "stranger" not in (bench.folder / "out.md").read_text()


def test_plan_says_that_the_answer_is_not_here(bench):
    bench.run(FLOW)
    (bench.folder / "out.md").unlink()
    alter(bench)
    state, reasons = bench.states(FLOW)["draft"]
    assert (state, reasons) == ("missing", ("out.md is missing", "its answer is not here"))


def test_what_the_lock_says_of_an_accepted_text_is_compared_too(bench):
    bench.run(FLOW)
    bench.write("out.md", "mine\n")
    bench.accept(FLOW)
    alter(bench)
    assert bench.run(FLOW, force=True).exit_code == 0
    assert "stranger" not in (bench.folder / "out.md").read_text()


def test_samples_are_compared_each(bench):
    flow = FLOW.replace("prompt: on otters", "prompt: on otters, samples: 2")
    bench.run(flow)
    before = (bench.folder / "out.md").read_text()
    alter(bench)
    assert bench.run(flow).exit_code == 0
    assert (bench.folder / "out.md").read_text() == before


def test_simulated_answers_are_compared_with_their_own_lock(bench):
    bench.run(FLOW, offline=True)
    out = bench.folder / ".poeflow/offline/out.md"
    before = out.read_text()
    assert alter(bench, simulated=True) == 1
    bench.run(FLOW, offline=True)
    assert out.read_text() == before
    assert len(warned(bench)) == 1


def test_the_end_of_a_conversation_is_compared(bench, scripted):
    scripted("""\
        - {match: {text: on otters}, answer: {text: no JSON}}
        - {answer: {text: '{"a": 1}'}}
    """)
    flow = FLOW.replace("save: out.md", "save: out.md, format: json, repair: 2")
    assert bench.run(flow).exit_code == 0
    before, sent = (bench.folder / "out.md").read_text(), len(bench.simulator.requests)
    assert sent == 2
    assert alter(bench, '{"a": "of a stranger"}') == 2
    assert bench.run(flow).exit_code == 0
    assert (bench.folder / "out.md").read_text() == before
    assert len(bench.simulator.requests) == sent


def test_a_new_answer_takes_the_place_of_turns_that_were_altered(bench, scripted):
    scripted("""\
        - {match: {text: turn 2}, answer: {text: DONE late}}
        - {match: {nth: 1}, answer: {text: no}}
        - {answer: {text: DONE at once}}
    """)
    repeat = "repeat: {max: 2, until: \"'DONE' in output.text\"}"
    flow = FLOW.replace("prompt: on otters", f'prompt: "turn {{{{ repeat.number }}}}", {repeat}')
    assert bench.run(flow).outputs == {"draft": "DONE late"}
    assert alter(bench, "DONE by a stranger") == 2
    for _ in range(2):
        (bench.folder / "out.md").unlink()
        assert bench.run(flow).outputs == {"draft": "DONE at once"}
        assert len(bench.simulator.requests) == 3
    assert warned(bench) == []


def test_calls_of_tools_are_compared(bench):
    """They are all there is of some answers, and no text tells of them."""
    from poeflow.engine.lock_entries import agrees, entry_of
    from poeflow.engine.recipe_parts import Recipe
    from poeflow.engine.results import StepResult

    made = StepResult(text="", source="asked", tool_calls=({"id": "1"},))
    block = entry_of(made, Recipe(parts={}), is_tracked=True)
    assert agrees(block, made)
    assert not agrees(block, StepResult(text="", source="cached", tool_calls=({"id": "2"},)))
    assert not agrees(block, StepResult(text="", source="cached", answered_by="other"))


def test_an_answer_that_is_read_another_way_now_is_taken_from_the_store(bench):
    bench.run(FLOW)
    other = FLOW.replace("save: out.md", "save: out.md, reasoning: keep")
    assert bench.run(other).exit_code == 0
    assert (len(bench.simulator.requests), warned(bench)) == (1, [])
