"""Every block of the README, and of the pages it leads to, does what it says."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poeflow.flowfile.project_settings import read_project_settings
from poeflow.project.project import Project
from poeflow.settings import ProviderConfig, UserConfig, read_config
from poeflow.simulator.server import Simulator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github/docs").glob("*.md"))]
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(
        r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
]
SET_UP = [text for kind, text in BLOCKS if kind == "sh" and "-m venv" in text]
LASTING = {
    "poeflow watch": "watching ",
    "poeflow view": "listening ",
    "poeflow simulate": "listening ",
}
"""Commands that go on until they are stopped, and what they say when they are ready."""
SHELL = [
    text
    for kind, text in BLOCKS
    if kind == "sh" and "-m venv" not in text and not text.startswith(tuple(LASTING))
]
LONG = [text for kind, text in BLOCKS if kind == "sh" and text.startswith(tuple(LASTING))]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
SETTINGS = [text for kind, text in BLOCKS if kind == "toml"]
SESSIONS = [text for kind, text in BLOCKS if kind == "console"]
FLOWS = [text for kind, text in BLOCKS if kind == "yaml"]
POEFLOW = (sys.executable, "-m", "poeflow.cli.start")


@pytest.fixture
def checkout(tmp_path):
    """A folder like a clone, with the API's place taken by a simulator."""
    shutil.copytree(ROOT / "flows", tmp_path / "flows")
    (tmp_path / "poeflow.toml").touch()
    own = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "."], *[["commit", "-qm", "x", "--allow-empty"]] * 2):
        subprocess.run([*own, *words], cwd=tmp_path, check=True)
    with Simulator() as simulator:
        environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "POE_API_KEY": "some-key-12345",
            "POE_BASE_URL": simulator.base_url,
        }
        yield tmp_path, environ


def ran(checkout: tuple[Path, dict[str, str]], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command there to its end."""
    folder, environ = checkout
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_every_kind_of_block_is_tried():
    assert {kind for kind, _ in BLOCKS} == {"yaml", "sh", "text", "python", "toml", "console"}
    assert (len(SET_UP), len(SHELL), len(LONG), len(PYTHON), len(FLOWS)) == (2, 15, 2, 6, 2)
    assert len(SESSIONS) == 1
    assert len(SETTINGS) == 2


def test_the_users_configuration_has_every_key(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(SETTINGS[0])
    config = read_config(path, project_root=None)
    assert list(config.providers) == ["local", "poe"]
    for name in (*UserConfig.__struct_fields__, *ProviderConfig.__struct_fields__):
        assert name in SETTINGS[0], name


def test_what_flows_share_can_be_read(tmp_path):
    (tmp_path / "poeflow.toml").write_text(SETTINGS[1])
    shared = read_project_settings(Project(tmp_path))
    assert (shared.problems, list(shared.models), list(shared.prices)) == (
        (),
        ["writer"],
        ["gpt-5.2"],
    )


@pytest.mark.parametrize("block", SHELL)
def test_shell_blocks_run(checkout, block):
    done = ran(checkout, "bash", "-euo", "pipefail", "-c", block)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", LONG)
def test_what_goes_on_until_it_is_stopped_starts(checkout, block):
    folder, environ = checkout
    ready = next(said for command, said in LASTING.items() if block.startswith(command))
    running = subprocess.Popen(
        ["bash", "-c", f"exec {block}"],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    with running.stdout as lines:
        assert any(line.startswith(ready) for line in lines)
        running.send_signal(signal.SIGINT)
        lines.read()
    assert running.wait(timeout=10) == 130


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(checkout, block):
    (checkout[0] / "test_block.py").write_text(block)
    pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_block.py")
    command = pytest_ if "def test_" in block else ("-W", "error", "-c", block)
    done = ran(checkout, sys.executable, *command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", FLOWS)
def test_flows_in_it_run(checkout, block):
    (checkout[0] / "flows/shown.yaml").write_text(block)
    done = ran(checkout, *POEFLOW, "run", "flows/shown.yaml", "--offline")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("session", SESSIONS)
def test_sessions_show_what_a_terminal_shows(checkout, session):
    assert ran(checkout, *POEFLOW, "run", "flows/release-notes.yaml").returncode == 0
    for part in session.split("$ ")[1:]:
        command, _, shown = part.partition("\n")
        done = ran(checkout, "bash", "-c", f"exec 2>&1; {command}")
        assert (done.returncode, untimed(done.stdout)) == (0, untimed(shown)), command


def untimed(text: str) -> list[str]:
    """Return its lines without times, in no order: steps end as they happen to."""
    return sorted(re.sub(r"\d+\.\d s", "T s", text).splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^()\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Return how GitHub names the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_mistakes_it_shows_are_told_like_that(checkout):
    assert ran(checkout, *POEFLOW, "init", "hello.yaml").returncode == 0
    path = checkout[0] / "hello.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("{ inputs.topic", "{ inputs.topc").replace("steps.facts", "steps.fact")
    )
    done = ran(checkout, *POEFLOW, "check", "hello.yaml")
    (shown,) = [text for kind, text in BLOCKS if kind == "text" and "hello.yaml" in text]
    assert done.stderr.splitlines()[:-1] == shown.splitlines()


def test_ci_runs_the_command_for_contributors():
    _, contribute = SET_UP
    for page in (".github/CONTRIBUTING.md", ".ci/run"):
        assert contribute.strip() in (ROOT / page).read_text()


def test_every_flow_in_flows_is_sound_and_runs_offline(checkout):
    folder, _ = checkout
    flows = sorted(path.name for path in (folder / "flows").glob("*.yaml"))
    assert flows == [
        "attachments.yaml",
        "budget.yaml",
        "changelog.yaml",
        "code-review.yaml",
        "compare-models.yaml",
        "crew.yaml",
        "custom-parameters.yaml",
        "digest.yaml",
        "expectations.yaml",
        "feedback.yaml",
        "interview.yaml",
        "judge-calibration.yaml",
        "letters.yaml",
        "media.yaml",
        "minutes.yaml",
        "product-pages.yaml",
        "quality.yaml",
        "quickstart.yaml",
        "refine.yaml",
        "release-notes.yaml",
        "report.yaml",
        "structured.yaml",
        "thread.yaml",
        "tools.yaml",
        "translations.yaml",
        "triage.yaml",
        "voices.yaml",
        "vote.yaml",
    ]
    arguments = ["run", "--offline", "--allow-tools", *(f"flows/{name}" for name in flows)]
    done = ran(checkout, *POEFLOW, *arguments)
    assert done.returncode == 0, done.stderr
    assert "plan_a_walk: ran get_weather" in done.stderr, "its tool is called offline"
    told = [line for line in done.stderr.splitlines() if "warning" in line]
    assert all(line.startswith("slogan#") for line in told), "only the judge of an example warns"
    check_report(folder / ".poeflow/offline/flows/out/report/report.md")


def test_the_report_shows_its_cover_in_any_folder(checkout):
    folder = checkout[0] / "own"
    shutil.copytree(checkout[0] / "flows", folder)
    command = (sys.executable, "-m", "poeflow", "run", "report.yaml", "--offline")
    done = ran((folder, checkout[1]), *command)
    assert done.returncode == 0, done.stderr
    check_report(checkout[0] / ".poeflow/offline/own/out/report/report.md")


def check_report(page: Path) -> None:
    """Check the front matter of the page that `flows/report.yaml` makes, and its picture."""
    _, front, body = page.read_text().split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["title"] == "The river: an overview"
    assert (page.parent / facts["cover"]).is_file(), "the picture is where its page says"
    assert f"![Cover]({facts['cover']})" in body
