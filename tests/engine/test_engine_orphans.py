"""Output files that no step writes any more: what `--prune-outputs` removes, and what it keeps."""

import pytest

from poeflow.events import Warned

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
FAILING = '- {match: {text: "ask me"}, fault: "404"}\n'
TOLERANT = (
    HEAD
    + """\
  a: {prompt: ask me, continue_on_error: true}
  b: {prompt: "b {{ steps.a.status }} {{ steps.a.error or 'none' }}", output: {save: out/b.txt}}
"""
)


def warnings(bench) -> list[str]:
    return [event.message for event in bench.events if isinstance(event, Warned)]


def test_what_reads_a_tolerated_failure_is_locked_with_its_file(bench, scripted):
    bench.run(TOLERANT)
    scripted(FAILING)
    assert bench.run(TOLERANT, refresh=True).exit_code == 0
    assert warnings(bench) == []
    before = (bench.folder / "out/b.txt").read_bytes()
    assert bench.run(TOLERANT, refresh=True, prune_outputs=True).exit_code == 0
    assert (bench.folder / "out/b.txt").read_bytes() == before
    assert "//out/b.txt" in (bench.folder / "a.lock.json").read_text()


def test_the_lock_proves_what_reads_the_same_failure(bench, scripted):
    scripted(FAILING)
    bench.run(TOLERANT)
    bench.forget_answers()
    bench.run(TOLERANT)
    assert bench.prompts()[2:] == ["ask me"]
    assert bench.locked() == [
        "a: new: the lock does not have it",
        "b: unknown: unknown until a has run",
    ]


HANDLED = (
    HEAD
    + """\
  a: {prompt: ask me}
  b: {if: steps.a.status == 'failed', render: "{{ steps.a.error }}", output: {save: out/b.txt}}
"""
)


def test_the_report_of_a_failure_is_not_pruned(bench, scripted):
    scripted(FAILING)
    assert bench.run(HANDLED).exit_code == 1
    assert bench.run(HANDLED, prune_outputs=True).exit_code == 1
    assert (bench.folder / "out/b.txt").exists()
    assert warnings(bench) == []


def test_another_failure_makes_what_reads_it_stale(bench, scripted):
    scripted(FAILING)
    bench.run(TOLERANT)
    scripted(FAILING.replace("404", "400"))
    bench.run(TOLERANT)
    assert [text[:8] for text in bench.prompts()] == ["ask me", "b failed"]


def test_the_file_of_a_renamed_step_is_kept_until_that_has_an_answer(bench, scripted):
    one = HEAD + "  a: {prompt: write, output: {save: out/a.txt}}\n"
    bench.run(one)
    scripted(FAILING)
    other = one.replace("a: {prompt: write", "b: {prompt: ask me")
    bench.run(other, prune_outputs=True)
    assert (bench.folder / "out/a.txt").exists()
    bench.forget_answers()
    scripted("- {match: {text: ask me}, answer: {text: an answer}}\n")
    assert bench.run(other).exit_code == 0
    assert bench.locked() == []


def test_a_file_that_was_accepted_belongs_to_its_author_when_its_step_is_gone(bench):
    one = HEAD + "  a: {prompt: write, output: {save: out/a.txt}}\n"
    bench.run(one)
    bench.write("out/a.txt", "my own words\n")
    bench.accept(one)
    other = HEAD + "  b: {prompt: write}\n"
    bench.run(other, prune_outputs=True)
    assert (bench.folder / "out/a.txt").read_text() == "my own words\n"
    assert bench.locked() == []


ROWS = (
    HEAD
    + """\
  a: {for_each: [x, y, z], prompt: "say {{ item }}", output: {save: "out/{{ item }}.md"}}
"""
)
FEWER = ROWS.replace("x, y, z", "x")
LEFT = "out/y.md: no step writes it any more; it was edited by hand, so it stays, and is yours"


@pytest.mark.parametrize("is_accepted", [True, False])
def test_the_edited_file_of_a_row_that_is_gone_is_told(bench, git, is_accepted):
    """Before the run its entry says so, and the run itself, once; then it is the user's."""
    bench.run(ROWS)
    bench.write("out/y.md", "my own words\n")
    if is_accepted:
        bench.accept(ROWS)
    git("add", "-A")
    git("commit", "-qm", "all rows")
    gone = "it is not in the flow any more"
    states = bench.states(FEWER)
    assert states["a[y]"] == ("stale", (gone, LEFT))
    assert (states["a[z]"], states["out/z.md"][0]) == (("stale", (gone,)), "orphaned")
    assert f"a[y]: stale: {gone}; {LEFT}" in bench.locked()
    assert bench.run(FEWER, prune_outputs=True).exit_code == 0
    assert warnings(bench) == [LEFT, "out/z.md was removed, as no step writes it any more"]
    assert (bench.folder / "out/y.md").read_text() == "my own words\n"
    assert bench.locked() == []
    assert bench.states(ROWS)["a[y]"][0] == "edited"


CHAINED = (
    HEAD
    + """\
  a: {for_each: [x, y], if: item == 'x', prompt: "say {{ item }}"}
  c: {for_each: steps.a, prompt: "say more {{ key }}"}
  b: {prompt: "{{ steps.c.all | length }}", output: {save: out/b.txt}}
"""
)


def test_what_reads_a_loop_with_skipped_parts_is_locked(bench):
    assert bench.run(CHAINED).exit_code == 0
    assert bench.locked() == []
