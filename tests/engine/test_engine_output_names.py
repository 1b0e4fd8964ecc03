"""What steers other programs, or poeflow, is refused before anything is asked or written."""

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
