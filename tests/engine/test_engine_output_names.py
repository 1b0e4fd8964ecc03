"""What steers other programs, or poeflow, is refused before anything is asked or written."""

import subprocess

import pytest

from poeflow.errors import InvalidFlowError

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"


@pytest.mark.parametrize("key", ["save", "media"])
@pytest.mark.parametrize("name", ["conftest.py", "CLAUDE.md", "a.inputs.yaml", "package.json"])
def test_a_name_that_an_input_completes_is_a_problem_before_a_request(bench, key, name):
    flow = (
        f"{HEAD}inputs: {{x: {{default: {name}}}}}\n"
        f'steps:\n  a: {{prompt: hi, output: {{{key}: "out/{{{{ inputs.x }}}}"}}}}\n'
    )
    with pytest.raises(InvalidFlowError, match="is never written by poeflow: "):
        bench.run(flow)
    assert bench.prompts() == []


@pytest.mark.parametrize("key", ["save", "media"])
def test_a_name_that_an_answer_completes_fails_its_step_before_its_request(bench, key):
    flow = (
        f"{HEAD}steps:\n  a: {{render: conftest}}\n"
        f'  b: {{prompt: hi, output: {{{key}: "out/{{{{ steps.a.text }}}}.py"}}}}\n'
    )
    outcome = bench.run(flow)
    assert "conftest.py is never written by poeflow" in str(outcome.failures["b"])
    assert (bench.prompts(), (bench.folder / "out").exists()) == ([], False)


def test_a_flow_makes_no_repository_of_its_folder(bench):
    files = {"HEAD": "ref: refs/heads/main", "refs/heads/main": "1", "config": "[core]"}
    steps = "".join(
        f'  s{n}: {{render: "{text}", output: {{save: {name}}}}}\n'
        for n, (name, text) in enumerate(files.items())
    )
    with pytest.raises(InvalidFlowError, match="git takes a folder that holds it"):
        bench.run(f"poeflow: 1\nsteps:\n{steps}")
    assert sorted(path.name for path in bench.folder.iterdir()) == ["a.yaml"]


@pytest.mark.parametrize("name", ["parts/child.yaml", '{{ "parts" }}/child.yaml'])
def test_a_flow_that_is_used_is_not_written(bench, name):
    bench.write("parts/child.yaml", "poeflow: 1\nsteps:\n  a: {render: hi}\n")
    flow = (
        "poeflow: 1\nsteps:\n  a: {use: parts/child.yaml}\n"
        f"  b: {{render: hi, output: {{save: '{name}'}}}}\n"
    )
    with pytest.raises(InvalidFlowError, match=r"child\.yaml is a flow that is run"):
        bench.run(flow, force=True)


def test_a_used_flow_does_not_write_the_one_that_uses_it(bench):
    child = "poeflow: 1\nsteps:\n  a: {render: hi, output: {save: ../a.yaml}}\n"
    bench.write("parts/child.yaml", child)
    with pytest.raises(InvalidFlowError, match=r"\.\./a.yaml is a flow that is run"):
        bench.run("poeflow: 1\nsteps:\n  a: {use: parts/child.yaml}\n", force=True)


@pytest.mark.parametrize("branch", ["moved", "asked"])
def test_a_text_that_git_moves_in_a_merge_is_proven_by_the_side_that_made_it(bench, git, branch):
    flow = (
        "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
        '  a: {prompt: {file: "%s/prompt.md"}, output: {save: "%s/a.md"}}\n'
        '  b: {prompt: "{{ steps.a.text }}", output: {save: "%s/b.md"}}\n'
    )
    bench.write(".gitignore", ".poeflow/\n")
    for name, folder in (("main", "out"), ("asked", "out"), ("moved", "new")):
        git("checkout", "-q", "-B", name, *(() if name == "main" else ("main",)))
        if name == "moved":
            git("mv", "out", "new")
        else:
            bench.write("out/prompt.md", f"Write for {name}")
        assert bench.run(flow % ((folder,) * 3)).exit_code == 0
        git("add", ".")
        git("commit", "-qm", name)
    git("checkout", "-q", branch)
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "-q", "asked" if branch == "moved" else "moved")
    bench.forget_answers()
    before, texts = len(bench.simulator.requests), sorted((bench.folder / "new").iterdir())
    written = [path.read_text() for path in texts]
    assert "asked" in written[-1]
    merged = flow % (("new",) * 3)
    assert sum(one.calls for one in bench.statuses(merged)) == 0
    assert bench.run(merged).exit_code == 0
    assert len(bench.simulator.requests) == before
    assert [path.read_text() for path in texts] == written
    assert bench.locked() == []
