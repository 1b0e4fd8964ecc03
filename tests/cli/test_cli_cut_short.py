"""Runs that do not come to their end say what they asked and spent, and how to go on."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from poeflow.records import RunFilter
from poeflow.simulator.server import Simulator
from poeflow.store.history import History

RULES = """\
simulator: 1
rules:
  - {match: {text: slow}, delay: 60}
"""
FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  quick: {for_each: [a, b], prompt: "{{ item }}"}
  doubtful: {prompt: doubtful, expect: [{judge: {rubric: good, threshold: 0.0}}]}
  slow: {for_each: [x, y, z], prompt: "slow {{ item }} {{ steps.quick.all | length }}"}
  last: {prompt: "{{ steps.slow.all | tojson }}"}
"""


@pytest.fixture
def begun(desk, tmp_path):
    """Yield a run that has four answers and waits for three, as a process."""
    desk.write("a.yaml", FLOW)
    script = desk.write("rules.yaml", RULES)
    with Simulator(script=script) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        process = subprocess.Popen(
            desk.command("run", "a.yaml", "--output", "jsonl"),
            cwd=desk.folder,
            env=desk.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        events, waiting = [], {"doubtful", "quick[a]", "quick[b]", "slow[x]", "slow[y]", "slow[z]"}
        for line in process.stdout:
            event = json.loads(line)
            events.append(event)
            if event["event"] == "step_finished" or (
                event["event"] == "request_sent" and event["step"].startswith("slow")
            ):
                waiting.discard(event["step"])
            if not waiting:
                break
        yield process, events
        process.kill()
        process.communicate()


def ended(desk) -> tuple:
    with History(desk.folder / ".poeflow" / "poeflow.db", warn=pytest.fail) as history:
        (run,) = history.runs(RunFilter())
    return run


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_ends_a_run_that_says_what_it_spent(desk, begun, number, code):
    process, events = begun
    process.send_signal(number)
    rest, _ = process.communicate(timeout=10)
    assert process.returncode == code
    told = json.loads(rest.splitlines()[-1])
    used = sum(
        (one["prompt_tokens"] or 0) + (one["completion_tokens"] or 0)
        for one in events
        if one["event"] == "step_finished"
    )
    assert used > 0
    expected = {"asked": 3, "cached": 0, "requests": 7, "tokens": used, "unknown": 3}
    expected |= {"done": 3, "instances": 7, "exit_code": code}
    assert {name: told[name] for name in expected} == expected
    run = ended(desk)
    assert {name: getattr(run.end, name) for name in expected} == expected
    shown = desk.run("show", "last").stdout.splitlines()
    assert shown[0].endswith("interrupted")
    assert re.fullmatch(
        rf"3 asked, 7 requests, {used:,} tokens, took \d\.\d s, 3 of unknown outcome", shown[2]
    )
    assert shown[3] == "run it again to go on: 3 of this run's 7 are done and not paid for again"
    listed = desk.run("history").stdout.splitlines()[1]
    assert re.search(rf"interrupted +- +3 +0 +{used:,} ", listed)


def test_a_run_that_was_killed_is_summed_up_by_its_requests(desk, begun):
    process, events = begun
    while ended(desk).counts.asked < 3:
        pass  # records that nobody waits for are written together
    process.send_signal(signal.SIGKILL)
    process.wait()
    used = sum(
        (one["prompt_tokens"] or 0) + (one["completion_tokens"] or 0)
        for one in events
        if one["event"] == "step_finished"
    )
    run = ended(desk)
    assert run.end is None
    counts = run.counts
    assert (counts.asked, counts.requests, counts.tokens) == (3, 7, used)
    assert (counts.unknown, counts.done) == (3, 3)
    shown = desk.run("show", "last").stdout.splitlines()
    assert shown[2:5] == [
        "it was killed: it has no end",
        f"3 asked, 7 requests, {used:,} tokens, 3 of unknown outcome",
        "run it again to go on: 3 are done and not paid for again",
    ]


def test_nohup_stays_as_it_is(online):
    online.write("a.yaml", "poeflow: 1\nsteps: {a: {render: x}}\n")
    command = [*online.command("run", "a.yaml")]
    done = subprocess.run(
        ["/bin/sh", "-c", 'trap "" HUP; kill -HUP $$; exec "$@"', "sh", *command],
        cwd=online.folder,
        env=online.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "x\n")
    assert os.WIFEXITED(done.returncode)


def test_a_log_says_how_to_go_on(desk, begun):
    process, _ = begun
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    done = subprocess.Popen(
        desk.command("run", "a.yaml"),
        cwd=desk.folder,
        env=desk.env(),
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 20
    with History(desk.folder / ".poeflow" / "poeflow.db", warn=pytest.fail) as history:
        while len(history.requests(2)) < 3 and time.monotonic() < until:
            time.sleep(0.05)
    done.send_signal(signal.SIGTERM)
    lines = done.communicate(timeout=10)[1].splitlines()
    assert lines[-1] == "run it again to go on: 3 of this run's 7 are done and not paid for again"
    assert re.fullmatch(
        r"interrupted after \d\.\d s: 3 cached, 3 requests, 3 of unknown outcome", lines[-2]
    )


def test_the_development_mode_of_python_lets_no_task_be_quoted():
    code = (
        "import asyncio\n"
        "from poeflow.cli.process import ended_by_signals\n"
        "async def main():\n"
        "    with ended_by_signals():\n"
        "        return asyncio.get_running_loop().get_debug()\n"
        "print(asyncio.run(main()))\n"
    )
    command = [sys.executable, "-X", "dev", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


TABLE = """\
poeflow: 1
steps:
  say: {model: GPT-5.2, for_each: [x, y, z], prompt: "row {{ item }}", OUTPUT}
"""
BAD_ROW = """\
simulator: 1
rules:
  - {match: {text: row y, nth: 1}, answer: {text: bad}}
  - {answer: {text: good}}
"""


@pytest.mark.parametrize("output", ["expect: [{contains: good}]", "output: {one_of: [good, fine]}"])
def test_what_a_failed_row_says_to_do_asks_for_that_row_alone(desk, output):
    desk.write("a.yaml", TABLE.replace("OUTPUT", output))
    done = "2 of this run's 3 are done and not paid for again"
    going_on = f"run it again with --failed to go on: {done}"
    with Simulator(script=desk.write("rules.yaml", BAD_ROW)) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        for _ in range(2):
            done = desk.run("run", "a.yaml", "--keep-going")
            assert (done.returncode, len(simulator.requests)) == (1, 3)
            assert "ask again with --failed" in done.stderr
            assert done.stderr.splitlines()[-1] == going_on
            assert desk.run("show", "last").stdout.splitlines()[3] == going_on
        assert desk.run("run", "a.yaml", "--failed").returncode == 0
        assert len(simulator.requests) == 4


def test_an_edited_file_is_to_be_decided_about_before_the_run_goes_on(online):
    step = "{model: GPT-5.2, prompt: Write., output: {save: a.md}}"
    flow = f"poeflow: 1\nsteps:\n  a: {step}\n  b: {{model: GPT-5.2, prompt: Say.}}\n"
    online.write("a.yaml", flow)
    online.run("run", "a.yaml")
    online.write("a.md", "mine")
    online.write("a.yaml", flow.replace("Write.", "Write more."))
    done = online.run("run", "a.yaml", "--keep-going")
    assert done.stderr.splitlines()[-1] == (
        "correct what failed and run it again to go on: "
        "1 of this run's 2 are done and not paid for again"
    )


STOPPING = """\
poeflow: 1
models: {good: {model: GPT-5.2}, bad: {model: No-Such-Bot}}
steps:
  done: {model: good, prompt: Begin.}
  bad: {model: bad, prompt: "{{ steps.done.text }}", output: {format: json}}
  of_bad: {model: good, for_each: steps.bad.data, prompt: "{{ item }}"}
  alone: {model: good, for_each: [x, y, z], prompt: "{{ steps.done.text }} Say {{ item }}."}
  of_alone: {model: good, prompt: "{{ steps.alone.all | length }}"}
  of_both: {model: good, prompt: "{{ steps.of_alone.text }} {{ steps.bad.text }}"}
"""


def test_what_a_failure_kept_from_running_is_counted_and_how_it_runs_is_said(online):
    online.write("a.yaml", STOPPING)
    done = online.run("run", "a.yaml:bad", "--until", "--concurrency", "1")
    assert done.stderr.splitlines()[-1] == (
        "correct what failed and run it again to go on: "
        "1 of this run's 2 are done and not paid for again"
    )
    done = online.run("run", "a.yaml", "--concurrency", "1")
    lines = done.stderr.splitlines()
    because = [one.partition(": ") for one in lines if ": skipped, " in one]
    stopped = "skipped, the run stopped when bad failed"
    assert {name: how for name, _, how in because} == {
        "of_bad": "skipped, bad failed",
        **{f"alone[{key}]": stopped for key in "xyz"},
        "of_alone": "skipped, alone[x] was skipped",
        "of_both": "skipped, bad failed",
    }
    held_back = "4 of 6 skipped do not need what failed: run it with --keep-going to run them, too"
    going_on = (
        "correct what failed and run it again to go on: "
        "1 of this run's 8 or more are done and not paid for again"
    )
    assert lines[-2:] == [held_back, going_on]
    assert f"{held_back}; {going_on}" in online.run("show", "last").stdout.splitlines()
    done = online.run("run", "a.yaml", "--keep-going")
    summary, last = done.stderr.splitlines()[-2:]
    assert summary.startswith("4 asked, 1 cached, 1 failed, 2 skipped in ")
    assert last == going_on.replace("1 of", "5 of")


def test_what_is_asked_in_every_run_is_not_done_for_the_next_one(online):
    steps = "  a: {prompt: hi, cache: false}\n  b: {prompt: again}\n"
    bad = '  bad: {model: No-Such-Bot, prompt: "{{ steps.a.text }} {{ steps.b.text }}"}\n'
    online.write("a.yaml", f"poeflow: 1\ndefaults: {{model: GPT-5.2}}\nsteps:\n{steps}{bad}")
    assert online.run("run", "a.yaml").stderr.splitlines()[-1] == (
        "correct what failed and run it again to go on: "
        "1 of this run's 3 are done and not paid for again"
    )


def test_a_failure_that_every_step_would_meet_lets_nothing_keep_going(online):
    online.write("a.yaml", STOPPING.replace("model: bad,", "model: good,"))
    done = online.run("run", "a.yaml", "--max-requests", "1")
    assert (done.returncode, "--keep-going" in done.stderr) == (9, False)


def test_without_a_server_nothing_would_be_gained_by_going_on(online):
    online.write(
        "a.yaml",
        "poeflow: 1\nsteps:\n"
        "  say: {model: GPT-5.2, for_each: [a, b, c], prompt: hi, retry: {attempts: 1}}\n",
    )
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        online.environ["POE_BASE_URL"] = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        done = online.run("run", "a.yaml", "--concurrency", "1")
    assert "refused the connection" in done.stderr
    assert "1 failed, 2 skipped" in done.stderr
    assert (done.returncode, "--keep-going" in done.stderr) == (6, False)


CHAINED = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a: {for_each: [x], prompt: "Write %s.", output: {save: "{{ item }}.md"}}
  b: {for_each: steps.a, prompt: "Say {{ source.text }}"}
  c: {render: "{{ steps.b.all | length }}"}
"""


def test_a_loop_over_results_that_all_failed_needs_what_failed(online):
    online.write("a.yaml", CHAINED % "it")
    assert online.run("run", "a.yaml").returncode == 0
    online.write("x.md", "mine")
    online.write("a.yaml", CHAINED % "more")
    planned = [line.split() for line in online.run("plan", "a.yaml").stdout.splitlines()]
    assert ["b[x]", "unknown", "a[x]", "would", "fail"] in planned
    done = online.run("run", "a.yaml")
    assert "b: skipped, a[x] failed\n" in done.stderr
    assert "--keep-going" not in done.stderr
    again = online.run("run", "a.yaml", "--keep-going")
    assert again.stderr.splitlines()[-1].startswith("1 failed, 2 skipped in ")


def test_a_loop_over_results_some_of_which_were_not_reached_does_not_need_what_failed(online):
    flow = CHAINED.replace("[x]", "[x, y]")
    online.write("a.yaml", flow % "it")
    assert online.run("run", "a.yaml").returncode == 0
    online.write("x.md", "mine")
    online.write("a.yaml", flow % "more")
    done = online.run("run", "a.yaml", "--concurrency", "1")
    assert "a[y]: skipped, the run stopped when a[x] failed\n" in done.stderr
    assert "b: skipped, the run stopped when a[x] failed\n" in done.stderr
    assert "--keep-going to run them, too" in done.stderr
