"""The flows that read some files, and the hooks that pre-commit runs with the files of a commit."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOLD = "those that read one of the files, or have an error"
FILES = {
    "prompts/tone.md": "be kind",
    "prompts/other.md": "be brief",
    "data/rows.csv": "id,name\n1,otter\n",
    "flows/a.yaml": (
        "poeflow: 1\nsteps:\n  a: {render: '{% include \"../prompts/tone.md\" %}', "
        "output: {save: out/a.md}}\n"
    ),
    "flows/b.yaml": (
        "poeflow: 1\nsteps:\n  b:\n    for_each: {file: ../data/rows.csv, key: item.id}\n"
        "    render: '{{ item.name }}'\n"
    ),
    "prompts/more.md": "{% include 'tone.md' %}",
    "flows/c.yaml": "poeflow: 1\nsteps: {c: {render: {file: ../prompts/more.md}}}\n",
    "flows/d.yaml": "poeflow: 1\ninputs: {x: {}}\nsteps: {d: {render: '{{ inputs.x }}'}}\n",
    "flows/d.inputs.yaml": "x: y\n",
}


@pytest.fixture
def flows(desk):
    for name, text in FILES.items():
        desk.write(name, text)
    return desk


@pytest.mark.parametrize(
    ("files", "count"),
    [
        (("prompts/tone.md",), 2),
        (("data/rows.csv",), 1),
        (("flows/d.inputs.yaml",), 1),
        (("flows/a.yaml",), 1),
        (("prompts/other.md", "README.md"), 0),
        (("data/rows.csv", "prompts/tone.md", "flows/d.yaml"), 4),
        ((), 0),
    ],
)
def test_the_flows_that_read_the_files_are_checked(flows, files, count):
    done = flows.run("check", "--reading", *files)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"{count} of 4 flows: {TOLD}",
        f"{count} flow{'s' * (count != 1)} ok",
    ]


def test_a_flow_that_reads_a_file_that_is_gone_is_checked_whatever_changed(flows):
    (flows.folder / "prompts/tone.md").rename(flows.folder / "prompts/voice.md")
    done = flows.run("check", "--reading", "prompts/voice.md")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == f"2 of 4 flows: {TOLD}"
    assert "flows/a.yaml:3:" in done.stderr
    assert "prompts/more.md:1:" in done.stderr


def test_a_flow_with_an_error_is_always_checked(flows):
    flows.write("flows/e.yaml", "poeflow: 1\nsteps: [\n")
    assert flows.run("check", "--reading", "prompts/other.md").returncode == 3
    assert flows.run("run", "--locked", "--reading", "prompts/other.md").returncode == 0


def test_flows_with_a_lock_are_proven(flows):
    for name in ("a", "b"):
        assert flows.run("run", f"flows/{name}.yaml").returncode == 0
    words = ("run", "--locked", "--reading")
    told = "those with a lock that read one of the files, or have an error"
    done = flows.run(*words, "prompts/tone.md")
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        [f"1 of 4 flows: {told}", "flows/a.yaml: current"],
    )
    flows.write("prompts/tone.md", "be kinder")
    assert flows.run(*words, "data/rows.csv").returncode == 0
    assert flows.run(*words, "prompts/tone.md").returncode == 4
    assert flows.run("run", "flows/a.yaml").returncode == 0
    for changed in ("flows/out/a.md", "flows/a.lock.json"):
        assert "flows/a.yaml: current" in flows.run(*words, changed).stderr
    flows.write("flows/out/a.md", "mine")
    assert flows.run(*words, "flows/out/a.md").returncode == 4


def test_a_flow_whose_lock_is_gone_is_proven_if_the_last_commit_has_one(flows):
    assert flows.run("run", "flows/a.yaml").returncode == 0
    git(flows.folder, "init", "-q")
    git(flows.folder, "add", "flows", "prompts", "data", "poeflow.toml")
    git(flows.folder, "commit", "-qm", "all")
    (flows.folder / "flows/a.lock.json").unlink()
    for file in ("flows/a.lock.json", "flows/a.yaml", "flows/out/a.md", "prompts/tone.md"):
        done = flows.run("run", "--locked", "--reading", file)
        assert (done.returncode, "a.lock.json does not exist" in done.stderr) == (4, True)
    assert flows.run("run", "--locked", "--reading", "data/rows.csv").returncode == 0
    git(flows.folder, "rm", "-q", "--cached", "flows/a.lock.json")
    assert flows.run("run", "--locked", "--reading", "flows/a.yaml").returncode == 4
    git(flows.folder, "commit", "-qm", "none")
    assert flows.run("run", "--locked", "--reading", "flows/a.yaml").returncode == 0


def test_the_flows_of_the_project_are_searched_from_any_folder(flows):
    assert flows.run("run", "flows/a.yaml").returncode == 0
    flows.write("prompts/tone.md", "be kinder")
    inner = replace(flows, folder=flows.folder / "prompts")
    done = inner.run("run", "--locked", "--reading", "tone.md")
    assert (done.returncode, done.stderr.splitlines()[1]) == (
        4,
        "../flows/a.yaml: a: stale: file //prompts/tone.md changed",
    )
    done = inner.run("check", "--reading", "tone.md")
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, f"2 of 4 flows: {TOLD}")


def test_the_lock_of_an_inputs_file_counts_and_is_proven_with_its_inputs(desk):
    named = '{file: "prompts/{{ inputs.style }}.md"}'
    text = f"poeflow: 1\ninputs: {{style: {{default: dev}}}}\nsteps: {{a: {{render: {named}}}}}\n"
    desk.write("f.yaml", text)
    desk.write("f.more.yaml", "poeflow: 1\nsteps: {a: {render: other}}\n")
    desk.write("prompts/dev.md", "hello")
    desk.write("prompts/mgr.md", "dear")
    desk.write("sets/x.yaml", "style: mgr\n")
    for words in (("f.yaml",), ("f.yaml", "--inputs-file", "sets/x.yaml"), ("f.more.yaml",)):
        assert desk.run("run", *words).returncode == 0
    proof = ("run", "--locked", "--reading")
    told = "1 of 2 flows: those with a lock that read one of the files, or have an error"
    done = desk.run(*proof, "prompts/mgr.md")
    assert (done.returncode, done.stderr.splitlines()) == (0, [told, "f.yaml: current"])
    desk.write("prompts/mgr.md", "dearest")
    done = desk.run(*proof, "prompts/mgr.md")
    stale = "f.yaml: with sets/x.yaml: a: stale: file //prompts/mgr.md changed"
    assert (done.returncode, done.stderr.splitlines()) == (4, [told, stale])
    reads = {
        "prompts/mgr.md": "f.yaml:3:9: step a: the last run, by f.x.lock.json\n",
        "sets/x.yaml": "f.yaml:1:1: the whole flow: the inputs file of f.x.lock.json\n",
    }
    assert {file: desk.run("why", file).stdout for file in reads} == reads
    (desk.folder / "f.lock.json").unlink()
    assert desk.run(*proof, "f.x.lock.json").stderr.splitlines() == [told, stale]
    (desk.folder / "sets/x.yaml").rename(desk.folder / "sets/y.yaml")
    done = desk.run(*proof, "prompts/mgr.md")
    unknown = (
        "f.yaml: f.x.lock.json is of the inputs file x, and no such file is found; to prove "
        "it: poeflow run f.yaml --locked --inputs-file PATH/x.yaml"
    )
    assert (done.returncode, done.stderr.splitlines()) == (4, [told, unknown])


def test_the_lock_of_an_inputs_file_counts_since_a_revision(desk):
    named = '{file: "prompts/{{ inputs.style }}.md"}'
    text = f"poeflow: 1\ninputs: {{style: {{default: dev}}}}\nsteps: {{a: {{render: {named}}}}}\n"
    desk.write("f.yaml", text)
    for name, content in (("dev", "hello"), ("mgr", "dear")):
        desk.write(f"prompts/{name}.md", content)
        desk.write(f"sets/{name}.yaml", f"style: {name}\n")
    for words in ((), ("--inputs-file", "sets/mgr.yaml")):
        assert desk.run("run", "f.yaml", *words).returncode == 0
    git(desk.folder, "init", "-q")
    git(desk.folder, "add", "f.yaml", "prompts", "sets", "poeflow.toml")
    git(desk.folder, "commit", "-qm", "all")
    desk.write("prompts/mgr.md", "dearest")
    done = desk.run("run", "f.yaml", "--since", "HEAD", "--locked")
    assert (done.returncode, done.stderr.splitlines()) == (
        4,
        [
            "1 of 1 flow reads a file that differs from HEAD",
            "f.yaml: with sets/mgr.yaml: a: stale: file //prompts/mgr.md changed",
        ],
    )


def test_a_folder_without_flows_is_fine(desk):
    for words in (("check", "--reading", "x.md"), ("run", "--locked", "--reading", "x.md")):
        assert desk.run(*words).returncode == 0


def git(folder: Path, *words: str) -> None:
    named = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *named, *words], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def hooks(tmp_path_factory):
    """This repository as others have it, with one commit."""
    folder = tmp_path_factory.mktemp("hooks")
    for name in ("poeflow", "schemas", ".github/actions"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_pre_commit_runs_the_hooks(flows, hooks, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    assert flows.run("run", "flows/a.yaml").returncode == 0
    git(flows.folder, "init", "-q")
    git(flows.folder, "add", "flows", "prompts", "data", "poeflow.toml")

    def hooks_with(*files: str) -> subprocess.CompletedProcess[str]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("POE", "PYTHON"))}
        return subprocess.run(
            [sys.executable, "-m", "pre_commit", "try-repo", str(hooks), "-v", "--files", *files],
            cwd=flows.folder,
            env={**environ, "PRE_COMMIT_HOME": str(home), "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=350,
            check=False,
        )

    done = hooks_with("prompts/tone.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"2 of 4 flows: {TOLD}" in done.stdout
    assert "flows/a.yaml: current" in done.stdout
    flows.write("prompts/tone.md", "be {{ kind }}")
    done = hooks_with("prompts/tone.md", "data/rows.csv")
    assert done.returncode == 1
    assert done.stdout.count("prompts/tone.md:1:7: unknown") == 2  # once by each hook
    flows.write("prompts/tone.md", "be kinder")
    done = hooks_with("prompts/tone.md")
    assert done.returncode == 1
    assert "2 flows ok" in done.stdout
    assert "flows/a.yaml: a: stale: file //prompts/tone.md changed" in done.stdout
