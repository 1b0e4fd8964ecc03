"""Files that git has not finished: in conflict, or a pointer of git-lfs in place of a file."""

import hashlib
import subprocess

import pytest

from poeflow.errors import InvalidFlowError
from poeflow.operations.check import checkup
from poeflow.project.project import Project

STEPS = {
    "head.md": "{prompt: {file: head.md}}",
    "part.md": "{prompt: \"{% include 'part.md' %}\"}",
    "rows.csv": '{for_each: {file: rows.csv, key: item.id}, prompt: "{{ key }}"}',
    "note.txt": "{prompt: Look, attachments: [note.txt]}",
    "data.txt": "{prompt: \"{{ read('data.txt') }}\"}",
}
SAVED = 'poeflow: 1\nsteps: {a: {model: GPT-5.2, prompt: "%s", output: {save: out/a.md}}}\n'


def flow_with(name: str) -> str:
    return f"poeflow: 1\ndefaults: {{model: GPT-5.2}}\nsteps:\n  a: {STEPS[name]}\n"


def refusal(bench, name: str) -> str:
    """Return why a flow that reads a file is not run; nothing is sent then."""
    with pytest.raises(InvalidFlowError) as error:
        bench.run(flow_with(name))
    assert bench.prompts() == []
    [problem] = error.value.problems
    assert (problem.place.path, problem.place.line) == ("a.yaml", 4)
    return f"{problem.message}; {problem.hint}"


def problems(bench, name: str) -> list[str]:
    bench.write("a.yaml", flow_with(name))
    return [one.message for one in checkup(Project(bench.folder), "//a.yaml", "a.yaml").problems]


@pytest.fixture
def apart(bench, git):
    """Leave two branches that changed the same line of all files, none of them merged."""
    for branch, middle in (("main", "first"), ("theirs", "second"), ("ours", "third")):
        git("checkout", "-q", "-B", branch)
        for name in STEPS:
            bench.write(name, f"id\n{middle}\nlast\n")
        git("add", ".")
        git("commit", "-qm", branch)
        git("checkout", "-q", "main") if branch == "theirs" else None


@pytest.mark.parametrize("then", ["under way", "added"])
@pytest.mark.parametrize("way", [("merge",), ("rebase",), ("cherry-pick",), ("merge", "--squash")])
def test_what_has_conflict_marks_is_not_sent(bench, git, apart, way, then):
    with pytest.raises(subprocess.CalledProcessError):
        git(*way, "theirs")
    if then == "added":
        git("add", ".")
    for name in STEPS:
        wanted = f"//{name} has conflict marks of a merge (line 2); resolve them"
        assert refusal(bench, name) == wanted
    bench.write("head.md", "resolved\n")
    assert bench.run(flow_with("head.md")).exit_code == 0


def test_a_large_attachment_with_conflict_marks_is_not_sent(bench, git, apart):
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "theirs")
    bench.write("note.txt", (bench.folder / "note.txt").read_text() + "more\n" * 300_000)
    try:
        ran = bench.run(flow_with("note.txt"))
    except InvalidFlowError as error:
        found = str(error)
    else:
        found = str(ran.failures["a"])
    assert "//note.txt has conflict marks of a merge (line 2)" in found
    assert bench.prompts() == []


def test_a_flow_in_conflict_says_so(bench, git):
    for branch in ("main", "theirs", "ours"):
        git("checkout", "-q", "-B", branch)
        bench.write("a.yaml", flow_with("head.md") + f"# {branch}\n")
        git("add", ".")
        git("commit", "-qm", branch)
        git("checkout", "-q", "main") if branch == "theirs" else None
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "theirs")
    [problem] = checkup(Project(bench.folder), "//a.yaml", "a.yaml").problems
    assert "has conflict marks of a merge (line 5)" in problem.message


def test_so_it_is_in_a_linked_work_tree(bench, git, apart, tmp_path_factory):
    linked = tmp_path_factory.mktemp("linked") / "tree"
    git("worktree", "add", "-q", "-b", "other", str(linked), "ours")
    with pytest.raises(subprocess.CalledProcessError):
        git("-C", str(linked), "merge", "theirs")
    assert problems(bench, "head.md") == []
    bench.folder = linked
    [message] = problems(bench, "head.md")
    assert "has conflict marks" in message


def test_without_a_merge_marks_are_text_as_any_other(bench, git):
    git("commit", "-q", "--allow-empty", "-m", "empty")
    marked = "Resolve this:\n<<<<<<< HEAD\none\n=======\ntwo\n>>>>>>> theirs\n"
    bench.write("head.md", marked)
    assert bench.run(flow_with("head.md")).exit_code == 0
    assert bench.prompts() == [marked.rstrip()]


@pytest.mark.parametrize("name", STEPS)
def test_a_pointer_of_lfs_is_not_sent_in_place_of_its_file(bench, name):
    bench.write(name, pointer(b"id\nreal\n"))
    assert refusal(bench, name) == (
        f"//{name} is a pointer of git-lfs, not the file; run `git lfs pull`"
    )
    if name != "data.txt":
        assert len(problems(bench, name)) == 1


def test_the_pointer_of_an_output_stands_for_it(bench):
    assert bench.run(SAVED % "one").exit_code == 0
    path = bench.folder / "out/a.md"
    written = path.read_bytes()
    path.write_text(pointer(written))
    bench.forget_answers()
    assert bench.locked() == []
    assert bench.states(SAVED % "one") == {"a": ("fresh", ())}
    path.write_text(pointer(b"another text\n"))
    assert bench.states(SAVED % "one") == {"a": ("edited", ("out/a.md was edited",))}


def pointer(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n"
