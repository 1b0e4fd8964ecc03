"""After a merge, outputs of which git merged some lines and left marks around others."""

import subprocess

import pytest

from poeflow.events import Warned

TEXTS = """\
- match: {text: same}
  answer: {template: "version {{ nth }}\\n\\nin the middle\\n\\nend {{ nth if nth > 2 else 1 }}"}
- {answer: {template: "{{ prompt }}, answered"}}
"""
BASE = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  top: {prompt: top}
  end: {prompt: end}
  same: {prompt: same, output: {save: out/same.md}}
  page:
    render: "{{ steps.top.text }}\\n\\nin the middle\\n\\n{{ steps.end.text }}"
    output: {save: out/page.md}
"""
THEIRS = BASE.replace("prompt: top", "prompt: top by them")
OURS = BASE.replace("prompt: top", "prompt: top by us").replace("prompt: end", "prompt: end by us")
BOTH = OURS.replace("top by us", "top by both")
PAGE = "{}, answered\n\nin the middle\n\nend by us, answered\n"
SAME = "version {0}\n\nin the middle\n\nend {0}\n"
MARKS = "<<<<<<< HEAD\n{}=======\n{}>>>>>>> theirs\n{}"


@pytest.fixture
def merged(bench, git, scripted):
    """Leave a merge in which both sides changed the first line of files, and we the last one."""
    scripted(TEXTS)
    bench.write(".gitignore", ".poeflow/\nrules.yaml\n")
    for branch, flow, refreshed in (("base", BASE, ()), ("theirs", THEIRS, ("same",))):
        git("checkout", "-q", "-B", branch)
        assert bench.run(flow, steps=refreshed, refresh=bool(refreshed)).exit_code == 0
        assert bench.run(flow).exit_code == 0
        commit(git, branch)
    git("checkout", "-q", "-b", "ours", "base")
    assert bench.run(OURS, steps=("same",), refresh=True).exit_code == 0
    assert bench.run(OURS).exit_code == 0
    commit(git, "ours")
    assert text(bench, "same") == SAME.format(3)
    merge(git)
    rest = "\nin the middle\n\nend by us, answered\n"
    page = MARKS.format("top by us, answered\n", "top by them, answered\n", rest)
    assert text(bench, "page") == page
    rest = "\nin the middle\n\nend 3\n"
    assert text(bench, "same") == MARKS.format("version 3\n", "version 2\n", rest)
    return len(bench.simulator.requests)


def merge(git) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "-q", "-m", "merged", "theirs")


def by_rebase(git):
    git("rebase", "-q", "--onto", "theirs", "ours~1")


def by_cherry_pick(git):
    git("cherry-pick", "theirs")


def by_squash(git):
    git("merge", "-q", "--squash", "theirs")


def by_stash(git):
    git("reset", "-q", "--soft", "HEAD^")
    git("stash", "-q")
    git("checkout", "-q", "theirs")
    git("stash", "pop", "-q")


@pytest.mark.parametrize("then", ["under way", "added", "chosen", "committed"])
@pytest.mark.parametrize("way", [by_rebase, by_cherry_pick, by_squash, by_stash])
def test_so_it_is_by_every_command_that_merges(bench, git, scripted, way, then):
    scripted(TEXTS)
    bench.write(".gitignore", ".poeflow/\nrules.yaml\n")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    git("branch", "base")
    first = BASE.replace("prompt: top", "prompt: first top")
    for branch, flow in (("base", BASE), ("theirs", THEIRS), ("ours", OURS)):
        git("checkout", "-q", "-B", branch, "base")
        for one in (first, flow):
            assert bench.run(one).exit_code == 0
            commit(git, branch)
    with pytest.raises(subprocess.CalledProcessError):
        way(git)
    page = text(bench, "page")
    assert (page[:8], page[-21:]) == ("<<<<<<< ", "\nend by us, answered\n")
    before = len(bench.simulator.requests)
    if then in ("chosen", "committed"):
        git("checkout", "-q", "--theirs", "--", "a.lock.json")
    if then != "under way":
        git("add", "out", "a.lock.json")
    if then == "committed":
        commit(git, "merged")
    bench.forget_answers()
    assert bench.run(BOTH).exit_code == 0
    assert text(bench, "page") == PAGE.format("top by both")
    assert set(bench.prompts()[before:]) == {"top by both", "end by us"}
    assert bench.locked() == []


def commit(git, name: str) -> None:
    git("add", ".")
    git("commit", "-qm", name)


def text(bench, name: str) -> str:
    return (bench.folder / f"out/{name}.md").read_text()


def under_way(git):
    pass


def added(git):
    git("add", "out")


def committed(git):
    git("checkout", "-q", "--ours", "a.lock.json")
    commit(git, "merged")


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("way", [under_way, added, committed])
def test_they_are_replaced_as_nobody_edited_them(bench, git, merged, way, with_state):
    way(git)
    if not with_state:
        bench.forget_answers()
    assert bench.run(BOTH).exit_code == 0
    assert text(bench, "page") == PAGE.format("top by both")
    assert text(bench, "same") == SAME.format(3)
    assert bench.locked() == []


def test_of_two_proven_answers_the_first_is_taken(bench, git, merged):
    bench.forget_answers()
    assert bench.states(OURS)["same"] == ("missing", ("out/same.md has conflict marks",))
    assert bench.run(OURS).exit_code == 0
    assert (text(bench, "same"), text(bench, "page")) == (SAME.format(3), PAGE.format("top by us"))
    asked = bench.prompts()[merged:]
    assert "same" not in asked
    told = [event.message for event in bench.events if isinstance(event, Warned)]
    assert "out/same.md had conflict marks; our side is taken: it is current" in told


def test_the_side_that_the_lock_proves_is_taken(bench, git, merged):
    bench.forget_answers()
    git("checkout", "-q", "--theirs", "a.lock.json")
    git("add", "a.lock.json")
    assert bench.run(THEIRS).exit_code == 0
    assert text(bench, "same") == "version 2\n\nin the middle\n\nend 1\n"
    assert text(bench, "page") == "top by them, answered\n\nin the middle\n\nend, answered\n"
    assert "same" not in bench.prompts()[merged:]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("in the middle", "in the midst"),
        ("by them,", "by them, and me,"),
        ("\nin the middle\n", ""),
    ],
)
@pytest.mark.parametrize("way", [under_way, committed])
def test_what_a_person_changed_in_them_stays(bench, git, merged, way, old, new):
    edited = text(bench, "page").replace(old, new)
    bench.write("out/page.md", edited)
    way(git)
    outcome = bench.run(BOTH)
    assert "out/page.md has conflict marks" in str(outcome.failures["page"])
    assert text(bench, "page") == edited


def test_what_a_side_of_them_has_by_hand_stays(bench, git, scripted):
    bench.write(".gitignore", ".poeflow/\n")
    flow = (
        'poeflow: 1\nsteps: {a: {render: "%s\\n\\nb\\n\\nc\\n\\n%s", output: {save: out/a.md}}}\n'
    )
    git("checkout", "-q", "-b", "base")
    bench.run(flow % ("one", "end"))
    commit(git, "base")
    git("checkout", "-q", "-b", "theirs")
    bench.run(flow % ("two", "end"))
    bench.write("out/a.md", "my own\n\nb\n\nc\n\nend\n")
    commit(git, "theirs")
    git("checkout", "-q", "-b", "ours", "base")
    bench.run(flow % ("three", "last"))
    commit(git, "ours")
    merge(git)
    before = text(bench, "a")
    assert "my own" in before
    bench.forget_answers()
    outcome = bench.run(flow % ("four", "last"))
    assert "out/a.md has conflict marks" in str(outcome.failures["a"])
    assert text(bench, "a") == before


def test_what_git_merged_without_marks_stays_and_its_error_says_how_to_go_on(bench, git):
    bench.write(".gitignore", ".poeflow/\n")
    text_flow = 'poeflow: 1\nsteps: {a: {render: "%s\\n\\nb\\n\\n%s", output: {save: out/a.md}}}\n'
    for branch, texts in (("main", "xy"), ("theirs", "Xy"), ("ours", "xY")):
        git("checkout", "-q", "-B", branch, *(() if branch == "main" else ("main",)))
        assert bench.run(text_flow % tuple(texts)).exit_code == 0
        commit(git, branch)
    merge(git)
    assert text(bench, "a") == "X\n\nb\n\nY\n"
    failed = bench.run(text_flow % ("new", "Y")).failures["a"]
    assert str(failed) == (
        "//out/a.md was edited, or merged by git, since poeflow wrote it; take the side of HEAD "
        "with `git checkout HEAD -- out/a.md`, keep it with `poeflow accept`, or replace it with "
        "--force"
    )
    assert text(bench, "a") == "X\n\nb\n\nY\n"
    git("checkout", "-q", "HEAD", "--", "out/a.md")
    assert bench.run(text_flow % ("new", "Y")).exit_code == 0
    assert text(bench, "a") == "new\n\nb\n\nY\n"
