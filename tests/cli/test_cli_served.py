"""Which model really answered: in the lock, and said if it is another than asked or last time."""

import html
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from repositories import Repository

from poeflow.store.lock.entries import LockEntry, other_names, served_otherwise

FLOW = """\
poeflow: 1
defaults: {model: GPT-5, stream: false}
steps:
  each: {for_each: [x, y, z], prompt: "on {{ item }}"}
  last: {prompt: "{{ steps.each.all | length }}"}
"""


class Server(ThreadingHTTPServer):
    """A server that answers as `model`, whichever is asked."""

    def __init__(self) -> None:
        self.model = "GPT-5"
        self.count = 0
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server: Any = self.server
        server.count += 1
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": asked["messages"][-1]["content"]},
        }
        body = json.dumps(
            {
                "id": f"resp-{server.count}",
                "object": "chat.completion",
                "created": 1,
                "model": server.model,
                "choices": [choice],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def served(desk):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        desk.environ |= {"POE_API_KEY": "canary-key-0123456789", "POE_BASE_URL": address}
        desk.write("a.yaml", FLOW)
        yield desk, server
        server.shutdown()
        thread.join()


def warnings_of(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "warning" in line]


def lock_of(desk) -> str:
    return (desk.folder / "a.lock.json").read_text()


def test_another_model_is_said_once_and_is_in_the_lock(served):
    desk, server = served
    assert warnings_of(desk.run("run", "a.yaml")) == []
    plain = lock_of(desk)
    assert '"served"' not in plain
    server.model = "small-one"
    summary = desk.write("s.md", "")
    desk.environ["GITHUB_STEP_SUMMARY"] = str(summary)
    done = desk.run("run", "a.yaml", "--refresh", "--output", "github")
    told = "asked GPT-5, answered by small-one (each[x] and 3 more)"
    assert warnings_of(done) == [f"run: warning: {told}", f"::warning title=poeflow::{told}"]
    assert "answered by small-one" in summary.read_text()
    lines = lock_of(desk).splitlines()
    assert lines.count('"served": "small-one",') == 2  # a line for each step
    assert len(lines) == len(plain.splitlines()) + 2
    status = desk.run("status", "a.yaml")
    assert "each  3 fresh, answered by small-one\n" in status.stdout
    found = json.loads(desk.run("status", "a.yaml", "--output", "json").stdout)["a.yaml"]
    assert {one["answered_by"] for one in found} == {"small-one"}
    assert warnings_of(desk.run("run", "a.yaml")) == []
    assert warnings_of(desk.run("run", "a.yaml", "--refresh")) == []


def test_a_date_is_said_only_when_it_changes(served):
    desk, server = served
    server.model = "gpt-5-2025-08-07"
    assert warnings_of(desk.run("run", "a.yaml")) == []
    assert "answered by" not in desk.run("status", "a.yaml").stdout
    server.model = "gpt-5-2026-02-01"
    done = desk.run("run", "a.yaml:last", "--refresh")
    told = "GPT-5 answered as gpt-5-2026-02-01, last time as gpt-5-2025-08-07 (last)"
    assert warnings_of(done) == [f"run: warning: {told}"]
    server.model = "gpt-5"
    done = desk.run("run", "a.yaml:last", "--refresh")
    told = "GPT-5 answered as GPT-5, last time as gpt-5-2026-02-01 (last)"
    assert warnings_of(done) == [f"run: warning: {told}"]


def test_the_lock_of_an_unchanged_flow_stays_as_it_is(served):
    desk, server = served
    server.model = "small-one"
    desk.write("a.yaml", FLOW.replace('length }}"}', 'length }}", expect: [{contains: "3"}]}'))
    assert desk.run("run", "a.yaml").returncode == 0
    older = lock_of(desk).replace('"served": "small-one",\n', "")
    desk.write("a.lock.json", older)
    assert desk.run("run", "a.yaml").returncode == 0
    assert lock_of(desk) == older
    assert desk.run("run", "a.yaml", "--locked").returncode == 0


def test_the_model_and_the_response_are_in_what_is_shown(served):
    desk, server = served
    desk.run("run", "a.yaml", "--concurrency", "1")
    server.model = "small-one\x1b\u202e"
    desk.run("run", "a.yaml:last", "--refresh")
    shown = desk.run("show", "last/last").stdout
    assert r", small-one\x1b\u202e, response resp-5" in shown
    assert r" by small-one\x1b\u202e, response resp-5" in shown
    assert desk.run("report", "last", "--html", "run.html").returncode == 0
    page = (desk.folder / "run.html").read_text()
    assert "<dd>resp-5</dd>" in " ".join(page.split()) or ">resp-5<" in page
    assert r"answered as <code>small-one\x1b\u202e</code>" in page
    told = desk.run("diff").stdout
    assert r"answered by: GPT-5 -> small-one\x1b\u202e" in told
    assert "response: resp-4 -> resp-5" in told
    assert desk.run("cache", "export", "answers.jsonl").returncode == 0
    lines = map(json.loads, (desk.folder / "answers.jsonl").read_text().splitlines())
    answers = {line["answer"]["id"]: line["answer"]["model"] for line in lines if "answer" in line}
    assert answers["resp-1"] == "GPT-5"
    assert answers["resp-5"] == server.model
    done = desk.run("run", "a.yaml:last", "--refresh", "--output", "jsonl")
    events = map(json.loads, done.stdout.splitlines())
    (finished,) = [one for one in events if one.get("step") == "last" and "source" in one]
    assert finished["served"] == r"small-one\x1b\u202e"


def test_a_simulated_model_is_no_other(desk):
    desk.write("a.yaml", FLOW)
    assert warnings_of(desk.run("run", "a.yaml", "--offline")) == []
    assert '"served"' not in (desk.folder / ".poeflow/offline/a.lock.json").read_text()


def test_a_project_can_ask_for_pinned_names(desk):
    desk.write("a.yaml", "poeflow: 1\nmodels: {w: {model: GPT-5}}\nsteps:\n"
        "  a: {model: w, prompt: hi}\n  b: {model: w, prompt: hi, fallback: [Grok-4-0709]}\n"
        "  c: {model: Claude-Sonnet-4.5, prompt: hi}\n")  # fmt: skip
    assert desk.run("check", "--strict").returncode == 0
    desk.write("poeflow.toml", 'pinned_models = ["*-[0-9][0-9][0-9][0-9]", "claude-sonnet-4.5"]\n')
    told = (
        'a.yaml:2:21: warning: the model "GPT-5" is not pinned: pinned_models has no pattern for '
        "it; ask a model with a date or version, or add it there\n"
    )
    done = desk.run("check")
    assert (done.returncode, done.stderr) == (0, f"{told}1 flow ok\n")
    assert desk.run("check", "--strict").returncode == 3
    desk.write("poeflow.toml", "pinned_models = 'x'\n")
    assert "poeflow.toml:1:1: " in desk.run("check").stderr


@pytest.fixture
def committed(served):
    """A repository in which another date of the model answered in the newer revision."""
    desk, server = served
    repository = Repository(desk)
    server.model = "gpt-5-2025-08-07"
    assert desk.run("run", "a.yaml").returncode == 0
    repository.commit(runs=False)
    server.model = "gpt-5-2026-02-01"
    assert desk.run("run", "a.yaml:each", "--refresh").returncode == 0
    repository.commit(runs=False)
    return repository, server


def test_a_comparison_says_who_answered_otherwise_than_before(committed):
    repository, server = committed
    (flow,) = repository.compared("HEAD~1..HEAD")["flows"]
    (step,) = flow["steps"]
    assert (step["id"], [one["kind"] for one in step["causes"]]) == ("each", ["answer"])
    assert step["answered"] == [
        {
            "model": "GPT-5",
            "by": "gpt-5-2026-02-01",
            "before": "gpt-5-2025-08-07",
            "instances": 3,
        }
    ]
    told = "GPT-5 answered as gpt-5-2026-02-01, before as gpt-5-2025-08-07 (3 instances)"
    text = repository.desk.run("diff", "HEAD~1..HEAD").stdout
    assert f"  each: 3 changed\n    {told}\n    answered again: " in text
    comment = repository.desk.run("diff", "HEAD~1..HEAD", "--output", "markdown").stdout
    assert f"; <code>{told}</code>" in html.unescape(comment)
    back = repository.compared("HEAD..HEAD~1")["flows"][0]["steps"][0]["answered"][0]
    assert (back["by"], back["before"]) == ("gpt-5-2025-08-07", "gpt-5-2026-02-01")
    server.model = "GPT-5"
    repository.desk.run("run", "a.yaml:last", "--refresh")
    (flow,) = repository.compared("--since", "HEAD")["flows"]
    (step,) = flow["steps"]
    assert (step["id"], step["answered"][0]["by"]) == ("last", "GPT-5")


def test_a_comparison_says_who_answered_instead_of_the_asked_model(committed):
    repository, server = committed
    desk = repository.desk
    server.model = "<b>@small-one</b>"
    desk.write("b.yaml", FLOW)
    assert desk.run("run", "b.yaml", "--refresh").returncode == 0
    asked = FLOW.replace("{model: GPT-5, ", "{model: Other, ")
    desk.write("a.yaml", asked)
    assert desk.run("run", "a.yaml").returncode == 0
    told = "answered by <b>@small-one</b>"
    text = desk.run("diff", "--since", "HEAD").stdout
    assert text.count(f"    asked GPT-5, {told} (3 instances)\n") == 1
    assert text.count(f"    asked Other, {told} (3 instances)\n") == 1
    assert text.count(told) == 4, "one line a step"
    comment = desk.run("diff", "--since", "HEAD", "--output", "markdown").stdout
    assert "<b>" not in comment
    assert "@small" not in comment
    repository.commit(runs=False)
    assert desk.run("run", "b.yaml", "--refresh").returncode == 0
    assert repository.compared("--since", "HEAD")["flows"] == [], "it is as it was before"


def test_a_comparison_shows_few_of_many_names(committed):
    repository, server = committed
    desk = repository.desk
    for key in "xyz":
        server.model = f"model-{key}"
        desk.run("run", f"a.yaml:each@{key}", "--refresh")
    desk.write("a.yaml", FLOW.replace("[x, y, z]", "[x, y, z, u]"))
    server.model = "model-u"
    done = desk.run("run", "a.yaml:each@u", "--only")
    assert done.returncode == 0, done.stderr
    (flow,) = repository.compared("--since", "HEAD")["flows"]
    (each,) = (step for step in flow["steps"] if step["id"] == "each")
    assert len(each["answered"]) == 4
    text = desk.run("diff", "--since", "HEAD").stdout
    assert text.count(" answered as model-") + text.count("answered by model-u") == 3
    assert "    and 1 more name\n" in text


def test_a_fallback_model_counts_as_another_name():
    entry = LockEntry(status="ok", recipe="r", model="GPT-5", answered_by="Grok-4")
    plain = LockEntry(status="ok", recipe="r", model="GPT-5")
    assert other_names(entry, plain) == ("GPT-5", "Grok-4", "")
    assert other_names(plain, entry) == ("GPT-5", "GPT-5", "Grok-4")
    assert other_names(entry, entry) is None
    assert served_otherwise(entry, plain) == "", "it was said when it was asked"


def test_status_says_who_answered_in_the_lock_that_git_has(committed):
    repository, server = committed
    desk = repository.desk
    assert "answered by" not in desk.run("status", "a.yaml").stdout
    server.model = "gpt-5-2026-07-07"
    desk.run("run", "a.yaml:each@x", "--refresh")
    told = ", 1 answered by gpt-5-2026-07-07, last time by gpt-5-2026-02-01"
    assert f"  each  3 fresh{told}\n  last  fresh\n" in desk.run("status", "a.yaml").stdout
    (found,) = json.loads(desk.run("status", "a.yaml", "--output", "json").stdout).values()
    assert [one["answered_before"] for one in found] == ["gpt-5-2026-02-01", None, None, None]
    server.model = "GPT-5"
    desk.run("run", "a.yaml:each@x", "--refresh")
    back = ", 1 answered by GPT-5, last time by gpt-5-2026-02-01"
    assert f"  each  3 fresh{back}\n" in desk.run("status", "a.yaml").stdout
    repository.git("gc", "-q", "--prune=now")  # now git itself must be asked
    assert f"  each  3 fresh{back}\n" in desk.run("status", "a.yaml").stdout
    repository.git("add", "a.lock.json")
    assert "answered by" not in desk.run("status", "a.yaml").stdout
    desk.write("a.lock.json", "{")
    assert desk.run("status", "a.yaml").returncode == 4


def test_status_asks_no_git_where_the_lock_is_as_git_has_it(committed, tmp_path):
    repository, _ = committed
    desk = repository.desk
    calls = tmp_path / "calls"
    fake = desk.write("bin/git", f'#!/bin/sh\necho "$@" >> {calls}\nexit 1\n')
    fake.chmod(0o755)
    desk.environ["PATH"] = f"{fake.parent}:{os.environ['PATH']}"
    assert "3 fresh\n" in desk.run("status", "a.yaml", "--trust-state").stdout
    assert not calls.exists()
