"""The action for GitHub: its script in real repositories, against a real server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from action.github_server import REPOSITORY, TOKEN, GitHub, serving

from poeflow.project.project import action_folder
from poeflow.simulator.server import Simulator
from poeflow.version import __version__

KEY = "canary-key-0123456789"
FLOW = """\
poeflow: 1
steps:
  page:
    model: GPT-5.2
    prompt: {file: page.md}
    output: {save: page.out.md}
"""
OUTPUTS = {"changed", "pull-request"}
BOT = "github-actions[bot] <41898282+github-actions[bot]@users.noreply.github.com>"


class Job:
    """A job of a workflow: a clone of the repository, and the files that a runner gives it."""

    def __init__(self, folder: Path, origin: Path, api: str, github: GitHub) -> None:
        self.checkout, self._folder = folder / "checkout", folder
        bin_folder = Path(sys.executable).parent
        self.environ = {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "HOME": str(folder),
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": github.address,
            "GITHUB_SERVER_URL": github.address,
            "GITHUB_REF_NAME": "main",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_OUTPUT": str(folder / "outputs"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "POE_BASE_URL": api,
        }
        subprocess.run(["git", "clone", "-q", origin, self.checkout], check=True)

    def run(self, mode: str, **inputs: str) -> "subprocess.CompletedProcess[str]":
        described = yaml.safe_load((action_folder() / "action.yml").read_text())
        (step,) = (one for one in described["runs"]["steps"] if one.get("id") == "poeflow")
        given = {name: spec["default"] for name, spec in described["inputs"].items()}
        given |= {"mode": mode, "token": TOKEN, "flows": "*.yaml"}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        environ = {
            name: given[value.removeprefix("${{ inputs.").removesuffix(" }}")]
            for name, value in step["env"].items()
        }
        Path(self.environ["GITHUB_OUTPUT"]).write_text("")
        return subprocess.run(
            ["bash", "-e", "-c", step["run"]],
            cwd=self.checkout,
            env=self.environ | environ | {"GITHUB_ACTION_PATH": str(action_folder())},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the step, but for those of the flows."""
        lines = Path(self.environ["GITHUB_OUTPUT"]).read_text().splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        return {name: value for name, value in found.items() if name in OUTPUTS}

    def event(self, event: dict[str, object]) -> None:
        Path(self.environ["GITHUB_EVENT_PATH"]).write_text(json.dumps(event))


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=me", "-c", "user.email=me@here", *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "change")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def github():
    with serving() as found:
        yield found


@pytest.fixture
def origin(tmp_path):
    """A repository with a flow that was never run."""
    folder = tmp_path / "author"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, flow_yaml=FLOW, page_md="Write about otters.\n", _gitignore=".poeflow/\n")
    origin = tmp_path / "origin.git"
    git(tmp_path, "clone", "-q", "--bare", str(folder), str(origin))
    git(folder, "remote", "add", "origin", str(origin))
    return origin


@pytest.fixture
def job(tmp_path, origin, github):
    made = 0

    with Simulator() as simulator:

        def new() -> Job:
            nonlocal made
            made += 1
            folder = tmp_path / f"job{made}"
            folder.mkdir()
            return Job(folder, origin, simulator.base_url, github)

        yield new


def test_check_annotates_mistakes(job):
    here = job()
    assert here.run("check").returncode == 0
    (here.checkout / "flow.yaml").write_text(FLOW.replace("model", "modle"))
    done = here.run("check")
    assert done.returncode == 3
    assert '::error file=flow.yaml,line=4,col=5,title=poeflow::unknown key "modle"' in done.stderr


def test_run_commits_what_changed_and_not_after_its_own_commit(job, origin):
    here = job()
    assert here.run("locked").returncode == 4
    done = here.run("run", deliver="commit", api_key=KEY)
    assert (done.returncode, here.outputs) == (0, {"changed": "true"}), done.stderr
    assert git(origin, "log", "-1", "--format=%an <%ae>", "main") == BOT
    assert git(origin, "log", "-1", "--format=%B", "main").endswith("\n\nMade-by: poeflow")
    changed = git(origin, "show", "--name-only", "--format=", "main").splitlines()
    assert changed == ["flow.lock.json", "page.out.md"]
    again = job()
    assert again.run("locked").returncode == 0
    done = again.run("run", deliver="commit", api_key=KEY)
    assert (done.returncode, again.outputs) == (0, {"changed": "false"})
    assert "the last commit is one of this action" in done.stdout


def test_only_a_push_can_be_its_own(job):
    here = job()
    assert here.run("run", deliver="commit", api_key=KEY).returncode == 0
    again = job()
    again.environ["GITHUB_EVENT_NAME"] = "schedule"
    done = again.run("run", deliver="commit", api_key=KEY)
    assert (done.returncode, again.outputs) == (0, {"changed": "false"})
    assert "nothing to do" in done.stderr


def test_a_limit_on_cost_has_prices(job):
    here = job()
    done = here.run("run", api_key=KEY, arguments="--max-cost-usd 1")
    assert (done.returncode, here.outputs["changed"]) == (0, "true"), done.stderr


def test_a_glob_takes_flows_only(job):
    here = job()
    (here.checkout / "flow.inputs.yaml").write_text("{}\n")
    commit(here.checkout, data_yaml="a: 1\n")
    assert here.run("run", api_key=KEY).returncode == 0


def test_a_refused_pull_request_says_what_to_allow(job, github, origin):
    github.may_write = False
    here = job()
    done = here.run("run", api_key=KEY)
    assert done.returncode == 1
    assert "allow GitHub Actions to create them" in done.stdout
    assert "Traceback" not in done.stderr
    assert git(origin, "log", "--format=%s", "main..poeflow/update") != "", "nothing is lost"


def test_run_opens_a_pull_request_once(job, origin, github, tmp_path):
    here = job()
    done = here.run("run", api_key=KEY)
    at = f"{github.address}/pull/0"
    assert (done.returncode, here.outputs) == (0, {"changed": "true", "pull-request": at}), done
    (pull,) = github.pulls
    assert (pull["head"], pull["base"]) == ("poeflow/update", "main")
    assert git(origin, "log", "--format=%s", "main..poeflow/update") == (
        "Update the outputs of the flows"
    )
    author = tmp_path / "author"
    commit(author, page_md="Write about seals.\n")
    git(author, "push", "-q", "origin", "main")
    later = job()
    done = later.run("run", api_key=KEY)
    assert later.outputs == {"changed": "true", "pull-request": at}
    assert len(github.pulls) == 1
    assert git(origin, "log", "--format=%s", "main..poeflow/update").count("\n") == 0


def test_what_a_failed_run_was_answered_is_delivered(job, origin):
    here = job()
    flow = FLOW + "  bad: {model: GPT-5.2, prompt: x, expect: [{contains: never said}]}\n"
    commit(here.checkout, flow_yaml=flow)
    git(here.checkout, "push", "-q", "origin", "main")
    done = here.run("run", deliver="commit", api_key=KEY)
    assert (done.returncode, here.outputs) == (1, {"changed": "true"})
    assert "page.out.md" in git(origin, "show", "--name-only", "--format=", "main")


@pytest.fixture
def pulled(job, origin):
    """A job of a pull request that changes a prompt whose output is committed."""
    here = job()
    assert here.run("run", deliver="commit", api_key=KEY).returncode == 0
    base = git(origin, "rev-parse", "main")
    commit(here.checkout, page_md="Write about seals.\n")
    here.event({"pull_request": {"number": 7, "base": {"sha": base}}})
    return here


def test_a_pull_request_has_one_comment_that_follows_it(pulled, github):
    github.comments = []
    github.add_comment("<!-- poeflow diff -->\nsomebody quotes it", "User")
    for _ in range(120):
        github.add_comment("unrelated", "Bot")
    done = pulled.run("comment")
    assert (done.returncode, len(github.comments)) == (0, 122), done
    body = github.comments[-1]["body"]
    assert "[-otters-]{+seals+}" in body
    assert Path(pulled.environ["GITHUB_STEP_SUMMARY"]).read_text().strip().endswith(body.strip())
    assert pulled.run("run", deliver="pull-request", api_key=KEY).returncode == 0
    done = pulled.run("comment")
    assert len(github.comments) == 122
    assert "This answer is simulated" in github.comments[-1]["body"], "old and new output"
    assert github.comments[0]["body"].endswith("somebody quotes it")


def test_without_permission_the_comment_is_in_the_summary(pulled, github):
    github.may_write = False
    done = pulled.run("comment")
    assert (done.returncode, github.comments) == (0, [])
    assert "this token may not comment" in done.stdout
    assert "seals" in Path(pulled.environ["GITHUB_STEP_SUMMARY"]).read_text()


@pytest.fixture
def conflicted(job, origin, tmp_path):
    """A job on a branch whose lock was merged by git alone, and committed as it was left."""
    author = tmp_path / "author"
    first = job()
    environ = first.environ | {"POE_API_KEY": KEY}

    def change(text):
        command = [sys.executable, "-m", "poeflow.cli.start", "run", "flow.yaml"]
        (author / "page.md").write_text(text)
        subprocess.run(command, cwd=author, env=environ, check=True, capture_output=True)
        commit(author)

    change("Write about seals.\n")
    git(author, "switch", "-q", "-c", "other")
    change("Write about puffins.\n")
    git(author, "switch", "-q", "main")
    change("Write about whales.\n")
    merged = subprocess.run(
        ["git", "-c", "user.name=me", "-c", "user.email=me@here", "merge", "-q", "other"],
        cwd=author, check=False, capture_output=True,
    )  # fmt: skip
    assert merged.returncode == 1
    git(author, "checkout", "--theirs", "page.md", "page.out.md")
    commit(author)
    assert "<<<<<<< HEAD" in (author / "flow.lock.json").read_text()
    git(author, "push", "-q", "origin", "main")
    here = job()
    here.event({"pull_request": {"number": 7, "base": {"sha": git(author, "rev-parse", "HEAD~1")}}})
    return here


def test_a_run_mends_a_lock_with_conflict_marks_first(conflicted, origin):
    done = conflicted.run("run", deliver="commit")
    assert (done.returncode, conflicted.outputs) == (0, {"changed": "true"}), done.stderr
    assert (
        "flow.yaml: mended: flow.lock.json has conflict marks; both sides are used" in done.stderr
    )
    assert "title=poeflow::this lock has conflict marks" not in done.stdout
    changed = git(origin, "show", "--name-only", "--format=", "main").splitlines()
    assert changed == ["flow.lock.json"], "nothing was asked, without a key"
    assert "<<<<<<<" not in git(origin, "show", "main:flow.lock.json")


def test_a_mended_lock_is_delivered_though_the_run_fails(conflicted, origin):
    commit(conflicted.checkout, page_md="Write about crabs.\n")
    git(conflicted.checkout, "push", "-q", "origin", "main")
    done = conflicted.run("run", deliver="commit")
    assert (done.returncode, conflicted.outputs) == (5, {"changed": "true"}), done.stderr
    assert "<<<<<<<" not in git(origin, "show", "main:flow.lock.json")


@pytest.mark.parametrize("mode", ["check", "locked"])
def test_a_mode_that_only_looks_reports_a_lock_with_conflict_marks(conflicted, origin, mode):
    before = git(origin, "rev-parse", "main")
    done = conflicted.run(mode)
    lines = (conflicted.checkout / "flow.lock.json").read_text().splitlines()
    line = lines.index("<<<<<<< HEAD") + 1
    told = f"::error file=flow.lock.json,line={line},title=poeflow::this lock has conflict marks"
    assert (done.returncode, done.stdout.count(told)) == (4, 1), done.stderr
    assert git(origin, "rev-parse", "main") == before
    assert git(conflicted.checkout, "status", "--porcelain") == ""


def test_the_comment_says_that_a_lock_has_conflict_marks(conflicted, github):
    assert conflicted.run("comment").returncode == 0
    assert "has conflict marks" in github.comments[0]["body"]


def test_the_lock_of_another_tool_is_not_looked_at(job):
    here = job()
    text = "<<<<<<< HEAD\n{}\n=======\n[]\n>>>>>>> other\n"
    (here.checkout / "npm.lock.json").write_text(text)
    git(here.checkout, "add", "--all")
    done = here.run("check")
    assert (done.returncode, "conflict marks" in done.stdout) == (0, False)


def test_run_touches_nobody_s_changes(job):
    here = job()
    (here.checkout / "page.md").write_text("mine")
    done = here.run("run", api_key=KEY)
    assert done.returncode == 2
    assert "there are changes that are not committed" in done.stdout


@pytest.mark.parametrize(
    ("mode", "inputs", "message"),
    [
        ("chek", {}, "mode is one of check, comment, locked, run"),
        ("run", {"deliver": "mail"}, "deliver is commit or pull-request"),
        ("locked", {"flows": ""}, "mode locked found no flows; name them, as flows/*.yaml"),
        ("comment", {}, "mode comment needs the event pull_request"),
    ],
)
def test_a_wrong_input_is_an_error(job, mode, inputs, message):
    here = job()
    here.event({})
    done = here.run(mode, **inputs)
    assert (done.returncode, done.stdout) == (2, f"::error title=poeflow::{message}\n")


def test_the_token_reaches_only_github(job, github):
    here = job()
    done = here.run("run", api_key=KEY)
    written = [path for path in here.checkout.parent.rglob("*") if path.is_file()]
    texts = [done.stdout, done.stderr, *(path.read_text("latin-1") for path in written)]
    assert github.pulls
    assert not any(TOKEN in text or KEY in text for text in texts)


@pytest.mark.parametrize(
    ("name", "schema"), [("action.yml", "github-actions"), ("workflow.yml", "github-workflows")]
)
def test_its_files_are_what_github_reads(name, schema):
    checker = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema"]
    subprocess.run([*checker, f"vendor.{schema}", action_folder() / name], check=True)


def test_the_workflow_installs_this_version():
    assert f"package: poeflow=={__version__}\n" in (action_folder() / "workflow.yml").read_text()


def test_no_input_is_part_of_a_script():
    steps = yaml.safe_load((action_folder() / "action.yml").read_text())["runs"]["steps"]
    assert not any("${{" in step.get("run", "") for step in steps)
