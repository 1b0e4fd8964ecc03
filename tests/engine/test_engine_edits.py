"""Files that people edited: never replaced unasked, accepted for good, and never a dead end."""

import json
import os
import shutil
import subprocess

import jsonschema
import pytest

from poeflow.errors import UsageError
from poeflow.events import Warned
from poeflow.project.project import schemas_folder

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  write: {prompt: write, output: {save: out/text.md}}
  read: {prompt: "read {{ steps.write.text }}", output: {save: out/read.md}}
"""
CHANGED = FLOW.replace("prompt: write", "prompt: write more")
MINE = "my own words\n"


@pytest.fixture
def ran(bench):
    assert bench.run(FLOW).exit_code == 0
    return bench


@pytest.fixture
def accepted(ran):
    ran.write("out/text.md", MINE)
    assert ran.accept(FLOW).paths == ("//out/text.md",)
    assert ran.run(FLOW).exit_code == 0
    return ran


def asked(bench) -> int:
    return len(bench.simulator.requests)


def warnings(bench) -> list[str]:
    return [event.message for event in bench.events if isinstance(event, Warned)]


def test_an_accepted_file_is_the_text_that_the_steps_below_see(ran):
    ran.write("out/text.md", MINE)
    ran.accept(FLOW)
    assert ran.states(FLOW) == {
        "write": ("fresh", ()),
        "read": ("stale", ("steps.write.text changed",)),
    }
    ran.run(FLOW)
    assert ran.prompts()[-1] == "read my own words"
    assert ran.locked() == []


KEPT = (
    "prompt changed: //out/text.md is kept, as it was edited by hand (`poeflow accept` keeps it "
    "for good, `run --merge-edits` merges the new answer into it, --force replaces it)"
)


@pytest.mark.parametrize("with_state", [True, False])
def test_an_accepted_file_stays_when_its_request_changes(accepted, with_state):
    if not with_state:
        accepted.forget_answers()
    before = asked(accepted)
    kept = ("stale", ("prompt changed", "kept: edited by hand"))
    assert accepted.states(CHANGED) == {"write": kept, "read": ("fresh", ())}
    outcome = accepted.run(CHANGED)
    assert (outcome.exit_code, asked(accepted)) == (0, before)
    assert (accepted.folder / "out/text.md").read_text() == MINE
    assert warnings(accepted) == [KEPT]
    assert accepted.locked() == ["write: stale: prompt changed; kept: edited by hand"]


def test_the_lock_says_what_was_accepted_and_orphaned(bench):
    bench.write("out/x.md", MINE)
    bench.run(ROWS, keep_going=True)
    bench.accept(ROWS)
    bench.run(ROWS.replace("x, y", "x"))
    lock = json.loads((bench.folder / "a.lock.json").read_text())
    schema = json.loads((schemas_folder() / "lock.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(lock)
    assert lock["steps"]["say"]["instances"]["[x]"]["accepted"] == {"path": "//out/x.md"}
    assert list(lock["orphans"]) == ["//out/y.md"]


def test_accepting_it_again_keeps_it_for_the_new_request(accepted):
    accepted.accept(CHANGED, "out/text.md")
    assert accepted.locked() == []
    assert (accepted.folder / "out/text.md").read_text() == MINE


@pytest.mark.parametrize("way", ["drop", "force", "delete"])
def test_an_answer_replaces_it_when_the_user_says_so(accepted, way):
    before = asked(accepted)
    match way:
        case "drop":
            assert accepted.accept(CHANGED, "out/text.md", drop=True).paths == ("//out/text.md",)
            outcome = accepted.run(CHANGED)
        case "force":
            outcome = accepted.run(CHANGED, force=True)
        case _:
            (accepted.folder / "out/text.md").unlink()
            outcome = accepted.run(CHANGED)
    assert outcome.exit_code == 0
    assert accepted.prompts()[before] == "write more"
    assert (accepted.folder / "out/text.md").read_text() == outcome.results["write"].text + "\n"
    assert accepted.locked() == []


POEM = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  poem: {prompt: %s, output: {save: poem.md}}
  read: {prompt: "read {{ steps.poem.text }}"}
"""
RULES = """
- {match: {text: first}, answer: {text: "one\\ntwo\\nthree\\nfour\\nfive"}}
- {match: {text: second}, answer: {text: "one\\ntwo\\nthree\\nfour\\nFIVE"}}
- {match: {text: third}, answer: {text: "1\\ntwo\\nthree\\nfour\\nfive"}}
"""


@pytest.fixture
def poem(bench, scripted, git):
    """A poem of five lines, in git, whose first line a person changed and accepted."""
    scripted(RULES)
    bench.write(".gitignore", ".poeflow/\n")
    bench.run(POEM % "first")
    git("add", ".")
    git("commit", "-qm", "poem")
    bench.write("poem.md", "ONE\ntwo\nthree\nfour\nfive\n")
    bench.accept(POEM % "first")
    return bench


@pytest.mark.parametrize("with_state", [True, False])
def test_a_new_answer_is_merged_into_what_a_person_edited(poem, with_state):
    if not with_state:
        poem.forget_answers()
    outcome = poem.run(POEM % "second", merge_edits=True)
    assert outcome.exit_code == 0
    assert (poem.folder / "poem.md").read_text() == "ONE\ntwo\nthree\nfour\nFIVE\n"
    assert poem.prompts()[-1] == "read ONE\ntwo\nthree\nfour\nFIVE"
    assert poem.locked() == []
    assert poem.run(POEM % "first").exit_code == 0
    assert (poem.folder / "poem.md").read_text() == "ONE\ntwo\nthree\nfour\nFIVE\n", "it stays"


def test_a_look_merges_nothing_though_the_answer_is_stored(poem, git):
    git("add", ".")
    git("commit", "-qm", "accepted")
    poem.run(POEM % "second", force=True)
    git("checkout", "-q", "--", "poem.md", "a.lock.json")
    assert poem.states(POEM % "second", merge_edits=True)["poem"][0] == "stale"
    assert (poem.folder / "poem.md").read_text() == "ONE\ntwo\nthree\nfour\nfive\n"


def test_an_answer_in_conflict_with_an_edit_leaves_both_to_choose_from(poem):
    outcome = poem.run(POEM % "third", merge_edits=True)
    assert str(outcome.failures["poem"]) == (
        "//poem.md: the edit and the new answer change the same lines; "
        "choose between the marks, then run `poeflow accept`"
    )
    held = (poem.folder / "poem.md").read_text()
    assert held == ("<<<<<<< edited\nONE\n=======\n1\n>>>>>>> answer\ntwo\nthree\nfour\nfive\n")
    before = asked(poem)
    reading = poem.run(POEM % "third")
    assert str(reading.failures["read"]).startswith("//poem.md has conflict marks; resolve")
    assert warnings(poem) == ["//poem.md has conflict marks; it is kept (see `poeflow accept`)"]
    again = poem.run(POEM % "third", merge_edits=True)
    assert str(again.failures["poem"]).startswith("//poem.md has conflict marks; resolve")
    assert (poem.folder / "poem.md").read_text() == held, "nothing is merged into marks"
    poem.write("poem.md", "ONE, 1\ntwo\nthree\nfour\nfive\n")
    poem.accept(POEM % "third")
    assert poem.run(POEM % "third").exit_code == 0
    assert poem.locked() == []
    assert poem.prompts()[before:] == ["read ONE, 1\ntwo\nthree\nfour\nfive"]


def test_where_nobody_knows_the_old_answer_nothing_is_merged_or_asked(poem):
    shutil.rmtree(poem.folder / ".git")
    poem.forget_answers()
    before = asked(poem)
    outcome = poem.run(POEM % "second", merge_edits=True)
    assert str(outcome.failures["poem"]).startswith(
        "what //poem.md held before it was edited is neither in the cache nor in git"
    )
    assert asked(poem) == before


@pytest.mark.parametrize("way", ["drop", "force"])
def test_giving_it_up_brings_back_the_answer_without_a_call(accepted, way):
    before = asked(accepted)
    if way == "drop":
        accepted.accept(FLOW, drop=True)
    outcome = accepted.run(FLOW, force=way == "force")
    assert outcome.exit_code == 0
    assert (accepted.folder / "out/text.md").read_text() == outcome.results["write"].text + "\n"
    assert asked(accepted) == before, "both answers are in the cache"
    assert accepted.locked() == []


def test_a_comment_in_its_template_changes_nothing(accepted):
    commented = FLOW.replace("prompt: write,", 'prompt: "write{# why #}",')
    assert accepted.run(commented).exit_code == 0
    assert accepted.locked() == []
    assert (accepted.folder / "out/text.md").read_text() == MINE


def test_a_second_edit_is_kept_and_told_of_and_can_be_accepted(accepted):
    accepted.write("out/text.md", "second words\n")
    assert accepted.states(FLOW)["write"] == ("edited", ("out/text.md was edited",))
    assert accepted.run(FLOW).exit_code == 0
    reads = FLOW.replace("read {{", "reread {{")
    failed = accepted.run(reads).failures
    assert str(failed["read"]) == (
        "//out/text.md was edited since it was accepted; "
        "`poeflow accept` it again, or run with --force"
    )
    accepted.accept(reads)
    accepted.run(reads)
    assert accepted.prompts()[-1] == "reread second words"


def test_data_that_was_edited_is_read_as_the_step_reads_it(bench, scripted):
    scripted("- {match: {text: list}, answer: {text: '{\"n\": 1}'}}\n")
    flow = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  list: {prompt: list, output: {format: json, save: n.json}}
  twice: {render: "{{ steps.list.data.n * 2 }}"}
"""
    bench.run(flow)
    bench.write("n.json", '{"n": 21}\n')
    bench.accept(flow)
    assert bench.run(flow).outputs == {"twice": "42"}
    bench.write("n.json", "no data\n")
    (reason,) = bench.accept(flow).refused.values()
    assert reason.startswith("it is not what its step is to give: ")


def test_an_edit_is_refused_before_its_answer_is_paid_for(ran):
    ran.write("out/text.md", MINE)
    before = asked(ran)
    assert ran.states(CHANGED)["write"] == (
        "edited",
        ("//out/text.md was edited since poeflow wrote it",),
    )
    outcome = ran.run(CHANGED)
    assert str(outcome.failures["write"]).startswith("//out/text.md was edited since poeflow wrote")
    assert asked(ran) == before
    ran.accept(CHANGED)
    assert ran.run(CHANGED).exit_code == 0


@pytest.mark.parametrize("what", ["file", "pipe", "link"])
def test_what_was_there_before_is_not_poeflows_and_nothing_is_asked(bench, what):
    place = bench.folder / "out/text.md"
    place.parent.mkdir()
    match what:
        case "file":
            place.write_text(MINE)
        case "pipe":
            os.mkfifo(place)
        case _:
            place.symlink_to("nowhere")
    message = "//out/text.md is there, and poeflow did not write it"
    assert bench.states(FLOW)["write"] == ("edited", (message,))
    outcome = bench.run(FLOW)
    assert str(outcome.failures["write"]) == (
        f"{message}; save to another path, keep it with `poeflow accept`, "
        "or replace it with --force"
    )
    assert asked(bench) == 0


def test_a_file_that_was_there_before_can_be_accepted(bench):
    bench.write("out/text.md", MINE)
    bench.accept(FLOW, "out/text.md")
    assert bench.run(FLOW).exit_code == 0
    assert bench.prompts() == ["read my own words"]
    assert bench.locked() == []


def test_an_edit_in_a_clone_is_kept_and_nothing_is_asked_for_it(ran):
    ran.write("out/read.md", MINE)
    ran.forget_answers()
    before = asked(ran)
    assert ran.states(FLOW)["read"] == ("edited", ("out/read.md was edited",))
    assert ran.run(FLOW).exit_code == 0
    assert asked(ran) == before
    assert (ran.folder / "out/read.md").read_text() == MINE
    ran.accept(FLOW)
    assert ran.locked() == []


def test_a_path_that_no_step_writes_is_a_usage_error(ran):
    with pytest.raises(UsageError, match=r"out/nope\.md is written by no step of a"):
        ran.accept(FLOW, "out/nope.md")
    with pytest.raises(UsageError, match="is outside of the project"):
        ran.accept(FLOW, "../x.md")


def merged(bench, git, ours: str, theirs: str) -> None:
    """Run `ours` and `theirs` on branches of one commit, and merge them as far as git can."""
    bench.write(".gitignore", ".poeflow/\n")
    git("add", ".")
    git("commit", "-qm", "base")
    git("checkout", "-qb", "theirs")
    bench.run(theirs)
    git("add", ".")
    git("commit", "-qam", "theirs")
    git("checkout", "-q", "main")
    bench.run(ours)
    git("add", ".")
    git("commit", "-qam", "ours")
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "-q", "-m", "merged", "theirs")


OURS = FLOW.replace("prompt: write", "prompt: write longer")
BOTH = FLOW.replace("prompt: write", "prompt: write longer and shorter")
THEIRS = FLOW.replace("prompt: write", "prompt: write shorter")


@pytest.mark.parametrize("with_state", [True, False])
def test_two_merged_branches_run_as_if_there_had_been_no_conflict(ran, git, with_state):
    merged(ran, git, OURS, THEIRS)
    assert b"<<<<<<<" in (ran.folder / "out/text.md").read_bytes()
    assert b"<<<<<<<" in (ran.folder / "a.lock.json").read_bytes()
    if not with_state:
        ran.forget_answers()
    before = asked(ran)
    assert ran.states(BOTH)["write"] == ("stale", ("prompt changed",))
    outcome = ran.run(BOTH)
    assert (outcome.exit_code, ran.locked()) == (0, [])
    assert ran.prompts()[before] == "write longer and shorter"
    assert warnings(ran) == ["a.lock.json has conflict marks; both sides are used"]
    assert "<<<<<<<" not in (ran.folder / "out/text.md").read_text()


def test_a_side_of_a_merge_that_is_current_stays_so_without_a_call(ran, git):
    merged(ran, git, OURS, THEIRS)
    git("checkout", "-q", "--theirs", "out/text.md", "out/read.md")
    ran.forget_answers()
    before = asked(ran)
    assert set(ran.states(THEIRS).values()) == {("fresh", ())}
    assert ran.run(THEIRS).exit_code == 0
    assert (asked(ran), ran.locked()) == (before, [])


def test_marks_around_an_edit_are_kept_named_and_never_accepted(ran):
    own = (ran.folder / "out/text.md").read_text()
    conflict = f"<<<<<<< HEAD\n{own}=======\n{MINE}>>>>>>> theirs\n"
    ran.write("out/text.md", conflict)
    before = asked(ran)
    assert ran.states(CHANGED)["write"][0] == "edited"
    outcome = ran.run(CHANGED)
    assert str(outcome.failures["write"]) == (
        "//out/text.md has conflict marks; "
        "resolve them, then keep it with `poeflow accept`, or replace it with --force"
    )
    assert ran.accept(CHANGED).refused == {
        "//out/text.md": "it has conflict marks; resolve them first"
    }
    assert (ran.folder / "out/text.md").read_text() == conflict
    assert asked(ran) == before
    assert ran.run(CHANGED, force=True).exit_code == 0


def test_an_accepted_edit_of_one_side_wins_over_an_answer_of_the_other(accepted, git):
    lock = json.loads((accepted.folder / "a.lock.json").read_text())
    row = lock["steps"]["write"]["instances"]["write"]
    assert row["accepted"]["path"] == "//out/text.md"
    text = (accepted.folder / "a.lock.json").read_text()
    answer = text.replace(row["hashes"].split()[2], "0" * 22)
    del row["accepted"]
    other = json.dumps(lock)
    (accepted.folder / "a.lock.json").write_text(
        f"<<<<<<< HEAD\n{other}\n=======\n{text}>>>>>>> theirs\n"
    )
    assert answer != text
    assert accepted.run(CHANGED).exit_code == 0
    assert (accepted.folder / "out/text.md").read_text() == MINE


ROWS = """\
poeflow: 1
steps:
  say: {for_each: [x, y, z], render: "say {{ item }}", output: {save: "out/{{ item }}.md"}}
"""
FEWER = ROWS.replace("[x, y, z]", "[x]")
LEFT = (
    "no step writes it any more; `poeflow run --prune-outputs` removes it, "
    "`poeflow accept` keeps it"
)


def test_the_file_of_a_row_that_is_gone_is_named_and_not_forgotten(bench):
    bench.run(ROWS)
    assert bench.states(FEWER)["out/y.md"] == ("orphaned", (LEFT,))
    bench.run(FEWER)
    assert warnings(bench) == [f"out/y.md: {LEFT}", f"out/z.md: {LEFT}"]
    assert bench.states(FEWER) == {
        "say[x]": ("fresh", ()),
        "out/y.md": ("orphaned", (LEFT,)),
        "out/z.md": ("orphaned", (LEFT,)),
    }
    assert bench.locked() == [f"out/{name}.md: orphaned: {LEFT}" for name in "yz"]
    bench.run(FEWER)
    assert warnings(bench) == []


def test_pruning_removes_what_is_poeflows_own_and_keeps_what_was_edited(bench):
    bench.run(ROWS)
    bench.write("out/z.md", MINE)
    bench.run(FEWER, prune_outputs=True)
    left = "out/z.md: no step writes it any more; it was edited by hand, so it stays, and is yours"
    assert warnings(bench) == [left, "out/y.md was removed, as no step writes it any more"]
    assert sorted(path.name for path in (bench.folder / "out").iterdir()) == ["x.md", "z.md"]
    assert bench.locked() == []


def test_a_file_that_poeflow_never_writes_is_no_orphan_whatever_a_lock_says(bench):
    bench.run(ROWS)
    bench.write("Makefile", "say y\n")
    lock = bench.folder / "a.lock.json"
    lock.write_text(lock.read_text().replace("//out/y.md", "//Makefile"))
    bench.run(FEWER, prune_outputs=True)
    assert (bench.folder / "Makefile").read_text() == "say y\n"


def test_an_orphan_that_is_accepted_or_deleted_is_nobodys_care(bench):
    bench.run(ROWS)
    bench.run(FEWER)
    assert bench.accept(FEWER, "out/y.md").paths == ("//out/y.md",)
    (bench.folder / "out/z.md").unlink()
    assert bench.locked() == []
    bench.run(FEWER)
    assert "orphans" not in (bench.folder / "a.lock.json").read_text()


def test_a_row_that_comes_back_takes_its_file_back(bench):
    bench.run(ROWS)
    bench.run(FEWER)
    bench.run(ROWS)
    assert bench.locked() == []
    assert "orphans" not in (bench.folder / "a.lock.json").read_text()


def test_a_path_that_changed_leaves_the_old_file_behind(bench):
    bench.run(ROWS)
    bench.run(ROWS.replace("out/{{", "new/{{"))
    assert warnings(bench) == [f"out/{name}.md: {LEFT}" for name in "xyz"]


def test_a_part_of_a_flow_orphans_nothing(bench):
    bench.run(ROWS)
    bench.run(ROWS, steps=("say[x]",), only=True)
    assert warnings(bench) == []
    assert bench.locked() == []


def test_the_rules_judge_a_merged_text_again(bench, git, scripted):
    scripted("""\
        - {match: {text: first}, answer: {text: "mine\\n2\\n3\\n4\\nlast"}}
        - {match: {text: second}, answer: {text: "mine\\n2\\n3\\n4\\nnew"}}
    """)
    flow = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say:
    prompt: %s
    output: {save: poem.md}
    expect: [{contains: mine, level: score}, {contains: new, level: score}]
  told: {render: "{{ steps.say.score }}"}
outputs: {told: "{{ steps.told.text }}"}
"""
    assert bench.run(flow % "first").outputs == {"told": "0.5"}
    bench.write("poem.md", "hers\n2\n3\n4\nlast\n")
    bench.accept(flow % "first")
    outcome = bench.run(flow % "second", merge_edits=True)
    assert (bench.folder / "poem.md").read_text() == "hers\n2\n3\n4\nnew\n"
    assert outcome.outputs == {"told": "0.5"}, "of an answer with both it would be 1.0"
