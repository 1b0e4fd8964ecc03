"""`--model ALIAS=NAME` on the command line: a trial, and what it says of itself."""

import json

import pytest

import poeflow

FLOW = """\
poeflow: 1
models: {writer: {model: GPT-5.2}, editor: {model: GPT-5.2}}
steps:
  draft: {model: editor, prompt: draft it}
  polish: {model: writer, prompt: "polish {{ steps.draft.text }}", output: {save: out.md}}
"""
OTHER = "poeflow: 1\nmodels: {clerk: {model: GPT-5.2}}\nsteps:\n  a: {model: clerk, prompt: hi}\n"


@pytest.fixture
def ran(online):
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml").returncode == 0
    return online


def models(simulator) -> list[str]:
    return [request.json["model"] for request in simulator.requests]


def test_a_trial_says_where_its_files_go_and_leaves_the_rest(ran, simulator):
    before = {name: (ran.folder / name).read_bytes() for name in ("out.md", "a.lock.json")}
    own = ran.run("run", "a.yaml")
    tried = ran.run("run", "a.yaml", "--model", "writer=Grok-4")
    assert tried.returncode == 0
    assert tried.stderr.startswith(
        "a.yaml: a trial of writer=Grok-4; files go to .poeflow/trial, outputs and lock stay as"
        " they are\n"
    )
    assert ", wrote .poeflow/trial/writer=Grok-4/out.md\n" in tried.stderr
    assert tried.stdout != own.stdout
    assert models(simulator) == ["GPT-5.2", "GPT-5.2", "Grok-4"]
    assert {name: (ran.folder / name).read_bytes() for name in before} == before
    assert ran.run("run", "a.yaml", "--locked").returncode == 0


def test_the_history_says_which_runs_were_trials(ran):
    ran.run("run", "a.yaml", "--model", "writer=Grok-4")
    assert "a.yaml (writer=Grok-4)" in ran.run("history").stdout
    assert ran.run("show", "last").stdout.startswith("run 2: a.yaml (writer=Grok-4) ok\n")


def test_outputs_are_compared_with_those_of_the_last_run_that_was_no_trial(ran):
    ran.environ["GITHUB_STEP_SUMMARY"] = str(ran.folder / "summary.md")
    ran.run("run", "a.yaml", "--model", "writer=Grok-4")
    assert ran.run("run", "a.yaml", "--output", "github").returncode == 0
    assert "```diff" not in (ran.folder / "summary.md").read_text()


def test_a_trial_is_planned_with_its_calls(ran, simulator):
    planned = ran.run("plan", "a.yaml", "--model", "writer=Grok-4")
    assert planned.stdout == "polish  stale    model changed\n"
    assert planned.stderr.startswith("1 stale, 1 fresh: 1 call, about ")
    (polish,) = json.loads(
        ran.run("plan", "a.yaml", "--model", "writer=Grok-4", "--output", "json").stdout
    )[1:]
    assert polish["model"] == "Grok-4"
    assert ran.run("plan", "a.yaml").stdout == ""
    status = ran.run("status", "a.yaml", "--model", "writer=Grok-4").stdout
    assert "polish  stale: model changed" in status
    assert len(simulator.requests) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "writr=X"), 'unknown model alias "writr"; did you mean "writer"?'),
        (("--model", "writer"), "--model 'writer' is not ALIAS=NAME; for example writer=GPT-5.2"),
        (("--model", "writer="), "--model 'writer=' is not ALIAS=NAME"),
        (("--model", "=X"), "--model '=X' is not ALIAS=NAME"),
        (("--model", "writer=X", "--model", "writer=Y"), "--model names two models for writer"),
        (("--model", "writer=X", "--locked"), "--locked and --model are two things"),
        (("--model", "writer=X", "--force"), "--model and --force are two things"),
        (("--model", "writer={{ x }}"), "writer={{ x }}: a template cannot be tried"),
    ],
)
def test_what_cannot_be_tried_is_a_usage_error(ran, simulator, arguments, said):
    done = ran.run("run", "a.yaml", *arguments)
    assert done.returncode == 2
    assert said in done.stderr.replace("\n  ", "; ")
    assert len(simulator.requests) == 2


def test_of_several_flows_those_are_meant_that_have_the_alias(ran, simulator):
    ran.write("b.yaml", OTHER)
    done = ran.run("run", "a.yaml", "b.yaml", "--model", "clerk=Grok-4")
    assert done.returncode == 0
    assert models(simulator)[2:] == ["Grok-4"]
    assert not (ran.folder / "b.lock.json").exists()
    assert ran.run("status", "--model", "clerk=Grok-4").returncode == 0
    unknown = ran.run("status", "--model", "clrk=Grok-4")
    assert unknown.returncode == 2
    assert 'unknown model alias "clrk"; did you mean "clerk"?' in unknown.stderr.replace(
        "\n  ", "; "
    )


def test_offline_a_trial_is_simulated_and_kept_apart(desk):
    desk.write("a.yaml", FLOW)
    done = desk.run("run", "a.yaml", "--offline", "--model", "writer=Any/Bot")
    assert done.returncode == 0
    assert "; files go to .poeflow/simulated/trial, outputs and" in done.stderr.replace("\n  ", " ")
    (made,) = [name for name in desk.files() if name.endswith("out.md")]
    assert made.startswith(".poeflow/simulated/trial/writer=Any-Bot-")


def test_a_trial_says_where_its_files_go_if_the_state_is_elsewhere(desk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    desk.environ["POEFLOW_STATE_DIR"] = str(folder)
    desk.write("a.yaml", FLOW)
    done = desk.run("run", "a.yaml", "--offline", "--model", "writer=Any-Bot")
    (made,) = folder.glob("**/simulated/trial/writer=Any-Bot/out.md")
    assert f"; files go to {made.parents[1]}, " in done.stderr


def test_python_tries_models_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poeflow.toml").touch()
    (tmp_path / "a.yaml").write_text(FLOW)
    outcome = poeflow.run("a.yaml", models={"writer": "Grok-4"}, offline=True)
    assert outcome.exit_code == 0
    assert not (tmp_path / "out.md").exists()
    planned = poeflow.plan("a.yaml", models={"writer": "Grok-4"})
    assert planned.instances["polish"][0].settings.model == "Grok-4"
    with pytest.raises(poeflow.UsageError, match="unknown model alias"):
        poeflow.plan("a.yaml", models={"x": "Grok-4"})
