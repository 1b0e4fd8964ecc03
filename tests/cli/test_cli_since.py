"""`--since` of `check`, `plan`, `run` and `status`, in real repositories."""

import json
import subprocess

import pytest

FLOWS = {
    "prompt.yaml": "poeflow: 1\nsteps: {a: {render: {file: prompts/a.md}}}",
    "partial.yaml": "poeflow: 1\nsteps: {a: {render: '{% include \"prompts/b.md\" %}'}}",
    "data.yaml": "poeflow: 1\nsteps: {a: {for_each: {file: rows.csv, key: item.id}, render: x}}",
    "glob.yaml": "poeflow: 1\nsteps: {a: {for_each: {glob: 'docs/*.md'}, render: x}}",
    "read.yaml": 'poeflow: 1\nsteps: {a: {render: \'{{ read("docs" ~ "/a.md") }}\'}}',
    "uses.yaml": "poeflow: 1\nsteps: {a: {use: inner.yaml}}",
    "inner.yaml": "poeflow: 1\nsteps: {a: {render: {file: prompts/inner.md}}}",
    "inputs.yaml": "poeflow: 1\ninputs: {t: {default: x}}\nsteps: {a: {render: '{{ inputs.t }}'}}",
    "attached.yaml": (
        "poeflow: 1\nsteps: {a: {model: Claude-Sonnet-4.5, prompt: x, attachments: [logo.png],"
        " tools: [{name: f, run: 'tools:f'}]}}"
    ),
    "alone.yaml": "poeflow: 1\nsteps: {a: {render: x, output: {save: out/alone.md}}}",
}
FILES = {
    "prompts/a.md": "a",
    "prompts/b.md": "{% include 'c.md' %}",
    "prompts/c.md": "c",
    "prompts/inner.md": "i",
    "rows.csv": "id\n1\n",
    "docs/a.md": "a",
    "docs/b.md": "b",
    "logo.png": "x",
    "tools.py": "def f():\n    raise SystemExit\n",
    "pyproject.toml": "[project]\n",
    ".gitignore": ".poeflow\nhome\nignored\n",
}


class Clone:
    def __init__(self, desk):
        self.desk = desk
        for name, text in {**FLOWS, **FILES}.items():
            desk.write(name, text)
        self.git("init", "-q", "-b", "main")
        self.commit()

    def git(self, *words):
        own = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
        subprocess.run(own, cwd=self.desk.folder, env=self.desk.env(), check=True)

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x")

    def changed(self, since="HEAD"):
        """Return the flows that `status --since` shows."""
        done = self.desk.run("status", "--since", since, "--output", "json")
        assert done.returncode == 0, done.stderr
        return sorted(json.loads(done.stdout))


@pytest.fixture
def clone(desk):
    return Clone(desk)


@pytest.mark.parametrize(
    ("file", "flows"),
    [
        ("prompt.yaml", ["prompt.yaml"]),
        ("prompts/a.md", ["prompt.yaml"]),
        ("prompts/c.md", ["partial.yaml"]),
        ("prompts/inner.md", ["inner.yaml", "uses.yaml"]),
        ("inner.yaml", ["inner.yaml", "uses.yaml"]),
        ("rows.csv", ["data.yaml"]),
        ("docs/b.md", ["glob.yaml"]),
        ("docs/new.md", ["glob.yaml"]),
        ("inputs.inputs.yaml", ["inputs.yaml"]),
        ("logo.png", ["attached.yaml"]),
        ("tools.py", ["attached.yaml"]),
        ("poeflow.toml", sorted(FLOWS)),
        ("pyproject.toml", []),
        ("README.md", []),
        ("out/alone.md", []),
        ("docs/ignored", []),
    ],
)
def test_a_flow_is_changed_if_a_file_it_reads_is(clone, file, flows):
    path = clone.desk.folder / file
    before = path.read_text() if path.exists() else "{}\n"
    clone.desk.write(file, f"{before}\n")
    assert clone.changed() == flows
    if file != "docs/ignored":
        clone.commit()
        assert clone.changed() == []
        assert clone.changed("HEAD~1") == flows


def test_a_file_that_is_gone_is_a_change(clone):
    (clone.desk.folder / "docs/b.md").unlink()
    assert clone.changed() == ["glob.yaml"]


def test_what_only_a_run_knows_counts_by_the_lock(clone):
    clone.desk.run("run", "read.yaml")
    clone.commit()
    clone.desk.write("docs/a.md", "other")
    assert clone.changed() == ["glob.yaml", "read.yaml"]


def test_only_changed_flows_are_checked(clone):
    clone.desk.write("alone.yaml", FLOWS["alone.yaml"].replace("render", "rendr"))
    clone.commit()
    clone.desk.write("prompts/a.md", "{{ inputs.nope }}")
    done = clone.desk.run("check", "--since", "HEAD")
    assert done.returncode == 3
    assert "prompts/a.md" in done.stderr
    assert "rendr" not in done.stderr
    assert f"1 of {len(FLOWS)} flows reads a file that differs from HEAD\n" in done.stderr
    done = clone.desk.run("check", "--since", "HEAD~1")
    assert "rendr" in done.stderr


def test_only_changed_flows_run(clone):
    clone.desk.write("prompts/a.md", "b")
    flows = ["prompt.yaml", "alone.yaml", "--since", "HEAD"]
    done = clone.desk.run("run", *flows, "--output", "jsonl")
    started = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert {event.get("flow") for event in started if event["event"] == "run_started"} == {"prompt"}
    assert not (clone.desk.folder / "out").exists()
    done = clone.desk.run("run", *flows, "--locked")
    assert (done.returncode, "alone.yaml" in done.stderr) == (0, False), done.stderr


def test_inputs_files_that_are_named_count(clone):
    clone.desk.write("other.yml", "t: y\n")
    clone.desk.write("t.txt", "z\n")
    words = "nothing to do: of 1 flow none reads a file that differs from HEAD\n"
    for given in (["--inputs-file", "other.yml"], ["--input", "t=@t.txt"]):
        done = clone.desk.run("plan", "inputs.yaml", "--since", "HEAD", *given)
        assert (done.returncode, words in done.stderr) == (0, False), done.stderr
    assert clone.desk.run("plan", "inputs.yaml", "--since", "HEAD").stderr == words


def test_a_lock_and_its_outputs_count_for_a_proof(clone):
    proof = ["run", "alone.yaml", "inputs.yaml", "--locked", "--since", "HEAD"]
    clone.desk.run("run", "alone.yaml", "inputs.yaml")
    clone.commit()
    output, lock = (clone.desk.folder / name for name in ("out/alone.md", "alone.lock.json"))
    for path in (output, lock):
        before = path.read_bytes()
        for text in ("edited", None):
            path.unlink() if text is None else path.write_text(text)
            done = clone.desk.run(*proof)
            assert (done.returncode, "inputs.yaml:" in done.stderr) == (4, False), done.stderr
            assert clone.changed() == []
            path.write_bytes(before)
    assert clone.desk.run(*proof).returncode == 0
    for path in (output, lock):
        path.unlink()
    clone.commit()
    assert clone.desk.run(*proof[:-1], "HEAD~1").returncode == 4


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (["check"], ""),
        (["check", "--output", "json"], "[]\n"),
        (["plan", "alone.yaml"], ""),
        (["plan", "alone.yaml", "--output", "json"], "[]\n"),
        (["run", "alone.yaml"], ""),
        (["run", "alone.yaml", "--locked"], ""),
        (["status"], ""),
        (["status", "--output", "json"], "{}\n"),
    ],
)
def test_nothing_changed_is_fine_and_says_so(clone, command, printed):
    done = clone.desk.run(*command, "--since", "main")
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
    assert "nothing to do: of " in done.stderr
    assert "none reads a file that differs from main\n" in done.stderr


def test_in_a_repository_without_a_commit_it_says_so(desk):
    subprocess.run(["git", "init", "-q"], cwd=desk.folder, check=True)
    desk.write("a.yaml", "poeflow: 1\nsteps: {a: {render: x}}\n")
    done = desk.run("check", "a.yaml", "--since", "HEAD")
    assert (done.returncode, "has no commit yet: commit first" in done.stderr) == (2, True)


@pytest.mark.parametrize("command", ["check", "plan", "run", "status"])
def test_outside_git_and_for_an_unknown_revision_it_is_a_usage_error(clone, command):
    done = clone.desk.run(command, "alone.yaml", "--since", "nope")
    assert (done.returncode, 'git knows no revision "nope"' in done.stderr) == (2, True)
    (clone.desk.folder / ".git").rename(clone.desk.folder / "git")
    done = clone.desk.run(command, "alone.yaml", "--since", "main")
    assert done.returncode == 2
    assert "--since main needs a repository of git" in done.stderr


def test_mistakes_in_a_flow_that_did_not_change_are_not_in_the_way(clone):
    clone.desk.write("alone.yaml", FLOWS["alone.yaml"].replace("render", "rendr"))
    clone.commit()
    for command in ("plan", "run", "status", "check"):
        done = clone.desk.run(command, "alone.yaml", "--since", "HEAD")
        assert (done.returncode, "rendr" in done.stderr) == (0, False), done.stderr
        assert clone.desk.run(command, "alone.yaml", "--since", "HEAD~1").returncode == 3
