"""`poeflow watch` on a pseudo-terminal, with real files changed under it."""

import os

import pexpect
import pytest

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  facts: {prompt: {file: prompts/facts.md}}
  other: {prompt: other}
  page: {render: "{{ glob('notes/*.txt') | length }} notes", output: {save: out/page.md}}
"""


@pytest.fixture
def session(online):
    """A session that has run once. `asked(n)` waits for the run whose requests are n in all."""
    online.write("prompts/facts.md", "Three facts.\n")
    online.write("a.yaml", FLOW)
    child = _started(online)
    yield child
    child.close(force=True)


def _started(desk, *options: str) -> pexpect.spawn:
    environ = {**desk.env(), "TERM": "xterm", "NO_COLOR": "1"}
    del environ["CI"]
    command, *rest = desk.command("watch", "a.yaml", *options)
    child = pexpect.spawn(
        command,
        rest,
        cwd=desk.folder,
        env=environ,
        dimensions=(40, 100),
        encoding="utf-8",
        timeout=20,
    )
    child.expect(
        "watching a.yaml, 200 requests at most; r run again" if not options else "watching"
    )
    child.expect("2 asked, 1 rendered in ")
    return child


def ended(child: pexpect.spawn) -> int:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_a_changed_template_runs_only_what_it_makes_stale(session, online, simulator):
    online.write("prompts/facts.md", "Three facts of otters.\n")
    session.expect("prompts/facts.md changed")
    session.expect("1 asked, 1 cached, 1 rendered in ")
    session.expect(r"\{\+")
    session.expect("session: 3 requests")
    assert len(simulator.requests) == 3
    session.send("q")
    assert ended(session) == 0


def test_an_atomic_save_is_one_change(session, online, simulator):
    online.write("prompts/.facts.md.swp", "Three facts, in short.\n")
    os.replace(online.folder / "prompts/.facts.md.swp", online.folder / "prompts/facts.md")  # noqa: PTH105 - what editors do
    session.expect("prompts/facts.md changed")
    session.expect("session: 3 requests")
    session.send("q")
    assert ended(session) == 0
    assert "changed" not in session.before


def test_broken_yaml_is_shown_and_mended(session, online, simulator):
    online.write("a.yaml", FLOW + "  bad:\n")
    session.expect('step "bad" has no value')
    online.write("a.yaml", FLOW + "  good: {prompt: good}\n")
    session.expect("a.yaml changed")
    session.expect("session: 3 requests")
    session.send("q")
    assert ended(session) == 0


def test_a_new_file_in_a_pattern_runs_what_reads_it_and_its_own_output_nothing(
    session, online, simulator
):
    online.write("notes/one.txt", "one")
    session.expect("notes/one.txt is new|notes/one.txt")
    session.expect("2 cached, 1 rendered in ")
    session.send("q")
    assert ended(session) == 0
    assert "rendered" not in session.before
    assert len(simulator.requests) == 2


def test_keys_run_again_and_ask_again(session, simulator):
    session.send("r")
    session.expect("2 cached, 1 rendered in ")
    session.send("f")
    session.expect("2 asked, 1 rendered in ")
    session.expect("session: 4 requests")
    session.send("p")
    session.expect("paused; p goes on")
    session.send("p")
    session.expect("watching again")
    session.sendintr()
    assert ended(session) == 130


def test_a_spent_budget_keeps_watching_and_sends_nothing(online, simulator):
    online.write("prompts/facts.md", "Three facts.\n")
    online.write("a.yaml", FLOW)
    child = _started(online, "--max-requests", "2")
    child.expect("nothing is sent")
    online.write("prompts/facts.md", "Four facts.\n")
    child.expect("prompts/facts.md changed")
    child.expect("has used 2")
    child.send("q")
    assert ended(child) == 0
    assert len(simulator.requests) == 2


def test_a_trial_is_watched_too(online, simulator):
    online.write("prompts/facts.md", "Three facts.\n")
    flow = FLOW.replace("defaults: {model: GPT-5.2}", "models: {w: {model: GPT-5.2}}\n%s")
    online.write("a.yaml", flow % "defaults: {model: w}")
    child = _started(online, "--model", "w=Grok-4")
    online.write("prompts/facts.md", "Four facts.\n")
    child.expect("1 asked, 1 cached, 1 rendered in ")
    child.send("q")
    assert ended(child) == 0
    assert {request.json["model"] for request in simulator.requests} == {"Grok-4"}
    assert not (online.folder / "out").exists()
    assert not (online.folder / "a.lock.json").exists()


def test_a_trial_that_would_change_outputs_is_not_watched(online):
    online.write("a.yaml", FLOW)
    done = online.run("watch", "a.yaml", "--model", "w=Grok-4", "--force")
    assert done.returncode == 2
    assert "--model and --force are two things" in done.stderr
