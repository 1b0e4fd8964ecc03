"""Output files that no step writes any more: what `--prune-outputs` removes, and what it keeps."""

import pytest

from poeflow.errors import UsageError
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


MADE = HEAD + "  a: {prompt: hi}\n  b: {prompt: ho, output: {save: out/b.txt}}\n"
GONE = HEAD + "  a: {prompt: hi}\n"
YOURS = "no step writes it any more; it was edited by hand, so it stays, and is yours"


@pytest.mark.parametrize("with_state", [True, False])
def test_a_file_left_behind_that_is_then_edited_is_told_once(bench, with_state):
    bench.run(MADE)
    bench.run(GONE)
    assert bench.states(GONE)["out/b.txt"][0] == "orphaned"
    bench.write("out/b.txt", "mine\n")
    if not with_state:
        bench.forget_answers()
    assert bench.states(GONE)["out/b.txt"] == ("orphaned", (YOURS,))
    assert bench.locked() == [f"out/b.txt: orphaned: {YOURS}"]
    bench.run(GONE, prune_outputs=True)
    assert [one for one in warnings(bench) if "answer" not in one] == [f"out/b.txt: {YOURS}"]
    assert (bench.folder / "out/b.txt").read_text() == "mine\n"
    bench.run(GONE, prune_outputs=True)
    assert not any("out/b.txt" in one for one in warnings(bench))
    assert bench.locked() == []


def test_a_file_that_was_given_up_and_then_left_behind_stays_known(bench):
    bench.run(MADE)
    bench.write("out/b.txt", "mine\n")
    bench.accept(MADE)
    bench.accept(MADE, drop=True)
    moved = MADE.replace("out/b.txt", "out/c.txt")
    bench.run(moved)
    assert bench.states(moved)["out/b.txt"][0] == "orphaned"
    bench.run(moved, prune_outputs=True)
    assert not (bench.folder / "out/b.txt").exists()
    assert bench.locked() == []


@pytest.mark.parametrize("is_there", [True, False])
def test_giving_up_a_file_whose_step_is_gone_says_whose_it_is(bench, is_there):
    bench.run(MADE)
    bench.write("out/b.txt", "mine\n")
    bench.accept(MADE)
    if not is_there:
        (bench.folder / "out/b.txt").unlink()
    with pytest.raises(UsageError) as caught:
        bench.accept(GONE, "out/b.txt", drop=True)
    assert caught.value.message == "out/b.txt is written by no step of a any more"
    kept = "it was edited by hand, so it is yours: keep it, or delete it"
    forgotten = "it is not there, either: the next run forgets it"
    assert caught.value.hint == (kept if is_there else forgotten)
