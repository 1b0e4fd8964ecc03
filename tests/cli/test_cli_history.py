"""`history`, `show` and `diff` as they are used on the command line."""

import json
import signal
import subprocess

import pytest

from poeflow.digest import sha256_of, short_hash
from poeflow.records import InstanceRecord, RunEnd, RunRecord, RunRow
from poeflow.report.history import LESS, instance_lines, run_table
from poeflow.simulator.server import Simulator
from poeflow.store.history import History

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2, params: {temperature: 0.5}}
inputs: {topic: {default: otters}}
steps:
  draft: {system: Be brief., prompt: "on {{ inputs.topic }}", output: {save: out.md}}
  each: {for_each: [x, y], prompt: "say {{ item }}"}
  page: {render: "<{{ steps.draft.text }}>"}
"""
RUN = RunRecord(flow="//a.yaml", name="a", started=1.0, simulated=False, version="1")


@pytest.fixture
def past(online):
    """A project with two runs: of otters, then of seals at another temperature."""
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml").returncode == 0
    online.write("a.yaml", FLOW.replace("otters", "seals").replace("0.5", "0.7"))
    assert online.run("run", "a.yaml").returncode == 0
    return online


def test_before_the_first_run_there_is_no_history(online):
    for command in ("history", "show", "diff"):
        done = online.run(command)
        assert (done.returncode, done.stdout) == (2, "")
        assert "there is no history in" in done.stderr


def test_runs_are_listed_the_newest_first(past):
    head, newer, older = past.run("history").stdout.splitlines()
    assert head.split() == [
        *("run", "when", "flow", "result", "commit"),
        *("asked", "cached", "tokens", "USD", "took"),
    ]
    assert newer.split()[0::3][:2] == ["2", "a.yaml"]
    assert older.split()[0] == "1"
    assert newer.split()[4:8] == ["ok", "-", "3", "0"]
    rows = json.loads(past.run("history", "--output", "json").stdout)
    assert [row["id"] for row in rows] == [2, 1]
    assert rows[0]["record"]["inputs"] == {"topic": "seals"}


@pytest.mark.parametrize("written", ["nand", "-5d", "infd", "7 days", "1.5.2d"])
def test_what_is_no_duration_forgets_no_run(past, written):
    for option in ("--prune", "--since"):
        done = past.run("history", f"{option}={written}")
        message = f"error: {option} {written}: not a duration\n  for example 12h or 7d\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
    assert len(json.loads(past.run("history", "--output", "json").stdout)) == 2


def test_runs_are_found_by_flow_words_and_time(past):
    def found(*words: str) -> list[int]:
        done = past.run("history", "--output", "json", *words)
        assert done.returncode == 0, done.stderr
        return [row["id"] for row in json.loads(done.stdout)]

    assert found("a.yaml") == [2, 1]
    assert found("--search", "otters") == [1]
    assert found("--search", "seals") == [2]
    assert found("--failed") == []
    assert found("--since", "1h", "--limit", "1") == [2]
    assert found("--since", "0s") == []
    assert past.run("history", "--since", "soon").returncode == 2


def test_a_run_that_failed_before_anything_ran_says_why(desk):
    desk.write("a.yaml", FLOW)
    assert desk.run("run", "a.yaml").returncode == 5
    head, _, why, spent, *_ = desk.run("show").stdout.splitlines()
    assert head == "run 1: a.yaml account"
    assert why == (
        "there is no API key in POE_API_KEY, and nothing was answered before;"
        " get a key at https://poe.com/api_key, or try it with --offline"
    )
    assert spent.startswith("0 requests")


def test_one_run_is_a_line_for_each_instance(past):
    told = past.run("show").stdout
    assert told.startswith("run 2: a.yaml ok\n")
    assert 'inputs {"topic":"seals"}' in told
    lines = {line.split()[1]: line for line in told.splitlines() if line.startswith("✓")}
    assert sorted(lines) == ["draft", "each[x]", "each[y]", "page"]
    assert "asked     gpt-5.2-" in lines["draft"], "the snapshot that answered"


def test_one_instance_is_all_there_is_to_know(past):
    told = past.run("show", "last~1/draft").stdout
    assert told.startswith("run 1: a.yaml ok\n")
    for part in (
        '{"model":"GPT-5.2","temperature":0.5}',
        "-- system --\nBe brief.\n",
        "-- user --\non otters\n",
        "-- answer --\n",
        "request 1 to GPT-5.2, ",
        "wrote out.md (",
    ):
        assert part in told
    shown = json.loads(past.run("show", "1/each@x", "--output", "json").stdout)
    assert [one["id"] for one in shown["instances"]] == ["each[x]"]
    assert shown["requests"][0]["record"]["request"]["body"]["messages"][-1]["content"] == "say x"


def test_a_failure_that_is_passed_over_is_counted(online):
    online.write(
        "a.yaml",
        "poeflow: 1\nsteps:\n"
        "  a: {model: GPT-5.2, prompt: hi, continue_on_error: true, expect: [{equals: never}]}\n"
        '  b: {render: "a {{ steps.a.status }}"}\n',
    )
    done = online.run("run", "a.yaml")
    counted = "1 asked, 1 rendered, 1 failed and passed over"
    assert (done.returncode, done.stderr.splitlines()[-1].startswith(f"{counted} in ")) == (0, True)
    listed = online.run("history").stdout.splitlines()[1].split()
    assert listed[4:8] == ["ok,", "1", "passed", "over"]
    head, _, spent, *_ = online.run("show", "last").stdout.splitlines()
    assert (head, spent.startswith(counted)) == ("run 1: a.yaml ok, 1 passed over", True)


def test_a_default_is_told_from_the_answer_that_cannot_be_read(desk):
    rules = desk.write("rules.yaml", "simulator: 1\nrules: [{answer: {text: feature request}}]\n")
    output = "{one_of: [bug, question], default: question}"
    flow = f"poeflow: 1\nsteps:\n  sort: {{model: GPT-5.2, prompt: sort, output: {output}}}\n"
    desk.write("a.yaml", flow)
    why = 'the answer is none of "bug", "question": "feature request"'
    with Simulator(script=rules) as serving:
        desk.environ |= {"POE_API_KEY": "any-key-at-all", "POE_BASE_URL": serving.base_url}
        for run in ("1", "2"):
            assert desk.run("run", "a.yaml").returncode == 0
            told = desk.run("show", f"{run}/sort").stdout
            assert (
                "\n-- answer --\nfeature request\n"
                f"not usable: {why}\n\n-- default in its place --\nquestion\n"
            ) in told, run
    shown = json.loads(desk.run("show", "1/sort", "--output", "json").stdout)["instances"][0]
    assert {name: shown[name] for name in ("text", "answer", "unread")} == {
        "text": "question", "answer": "feature request", "unread": why,
    }  # fmt: skip
    assert f"its default stands in: {why}\n" in desk.run("show", "1").stdout


ROWS = """\
poeflow: 1
steps:
  say: {model: GPT-5.2, for_each: {in: "{{ range(25) | list }}"}, prompt: "say {{ item }}"}
"""


@pytest.mark.parametrize(
    "part",
    [("--first", "1"), ("--key", "0"), ("--until", "a.yaml:say@0"), ("--only", "a.yaml:say@0")],
)
def test_what_a_run_left_out_is_neither_gone_nor_new(online, part):
    online.write("a.yaml", ROWS)
    online.run("run", "a.yaml")
    named = [word for word in part if word.startswith("a.yaml")] or ["a.yaml"]
    options = [word for word in part if not word.startswith("a.yaml")]
    assert online.run("run", *named, *options).returncode == 0
    done = online.run("diff")
    assert (done.stdout, done.stderr) == (
        "",
        "run 2 left out 24 instances\nruns 1 and 2 do not differ\n",
    )
    assert json.loads(online.run("diff", "--output", "json").stdout)["changed"] == []
    online.run("run", "a.yaml")
    assert online.run("diff").stderr == "runs 2 and 3 do not differ\n"


def test_of_many_instances_that_are_gone_the_first_are_named(online):
    online.write("a.yaml", ROWS)
    online.run("run", "a.yaml")
    online.write("a.yaml", ROWS.replace("25", "2"))
    online.run("run", "a.yaml", "--first", "1")
    assert online.run("diff").stderr.startswith("run 2 left out 24 instances\n")
    online.run("run", "a.yaml")
    *named, last = online.run("diff", "1", "3").stdout.splitlines()
    assert named == [f"say[{row}] is gone" for row in range(2, 22)]
    assert last == "3 more are gone"


def test_what_changed_is_told_word_by_word(past):
    done = past.run("diff")
    assert done.returncode == 0
    told = done.stdout
    assert told.startswith("draft\n")
    assert "[-otters-]{+seals+}" in told
    assert "  temperature: 0.5 -> 0.7\n" in told
    one = past.run("diff", "1/each@x", "2/each@x").stdout
    assert one.startswith("each[x]\n  temperature: 0.5 -> 0.7\n")
    assert "each[y]" not in one
    found = json.loads(past.run("diff", "last~1", "last", "--output", "json").stdout)
    assert (found["old"], found["new"], found["changed"][0]["id"]) == (1, 2, "draft")


def test_runs_that_are_the_same_do_not_differ(past):
    assert past.run("run", "a.yaml").returncode == 0
    done = past.run("diff")
    assert (done.stdout, done.stderr) == ("", "runs 2 and 3 do not differ\n")


def test_a_result_that_was_current_is_that_of_the_run_that_made_it(desk):
    otters, seals = (
        InstanceRecord(
            id="draft",
            step="draft",
            status="ok",
            source="asked",
            model="A",
            fingerprint=topic,
            request={"body": {"messages": [{"role": "user", "content": f"on {topic}"}]}},
            text=f"They are {topic}.",
        )
        for topic in ("otters", "seals")
    )
    current = InstanceRecord(id="draft", step="draft", status="ok", fingerprint="seals")
    with History(desk.folder / ".poeflow" / "poeflow.db", warn=pytest.fail) as history:
        for one in (otters, seals, current):
            recorder = history.begin(RUN)
            recorder.instance(one)
            recorder.ended(RunEnd(exit_code=0, seconds=1.0))
    shown = desk.run("show", "3/draft").stdout
    assert "draft: current, nothing was done, A\n" in shown
    assert "-- user --\non seals\n\n-- answer --\nThey are seals.\n" in shown
    prompt, answer = "on [-otters-]{+seals+}", "They are [-otters-]{+seals+}."
    told = f"draft\n  prompt:\n    {prompt}\n  answer:\n    {answer}\n"
    assert [desk.run("diff", old, "3").stdout for old in ("1", "2")] == [told, ""]


def test_a_simulated_run_is_compared_with_one_that_was_simulated(past):
    assert past.run("run", "a.yaml", "--offline").returncode == 0
    done = past.run("diff")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a.yaml was not run before run 3" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "9"), 'there is no run "9"'),
        (("show", "last~7"), 'there is no run "last~7"'),
        (("show", "../../etc"), 'there is no run ".."'),
        (("show", "last/each@z"), "it has each@x, each@y"),
        (("diff", "last/each"), "it has each@x, each@y"),
        (("show", "last/daft"), 'did you mean "draft"?'),
        (("diff", "1"), "a.yaml was not run before run 1"),
        (("history", "b.yaml"), "no such file"),
    ],
)
def test_what_is_not_there_is_said(past, words, told):
    done = past.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_a_run_that_was_killed_left_a_request_of_unknown_outcome(online):
    online.write("a.yaml", FLOW)
    with Simulator(latency=30) as simulator:
        online.environ["POE_BASE_URL"] = simulator.base_url
        running = subprocess.Popen(
            online.command("run", "a.yaml", "--concurrency", "1", "--output", "jsonl"),
            cwd=online.folder,
            env=online.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stdout is not None
        assert any("request_sent" in line for line in running.stdout)
        assert online.run("history").stdout.splitlines()[1].split()[4] == "running"
        assert online.run("show").stdout.startswith("run 1: a.yaml running\n")
        running.send_signal(signal.SIGKILL)
        running.communicate()
    done = online.run("show")
    told = done.stdout
    assert done.stderr == ""
    assert "run 1: a.yaml unfinished\n" in told
    assert "it was killed: it has no end" in told
    assert "1 request of unknown outcome: draft" in told
    assert online.run("history").stdout.splitlines()[1].split()[4] == "unfinished"
    one = online.run("show", "last/draft").stdout
    assert "draft: failed, GPT-5.2\nit has not ended\n" in one
    assert "-- user --\non otters\n" in one
    assert "outcome unknown: it may have been billed" in one


def test_history_is_forgotten_on_demand(past):
    done = past.run("history", "--keep", "1")
    assert (done.returncode, done.stderr) == (0, "forgot 1 run\n")
    assert [row["id"] for row in json.loads(past.run("history", "--output", "json").stdout)] == [2]
    assert past.run("history", "--prune", "0s").stderr == "forgot 1 run\n"
    assert past.run("history").stderr == "no run fits\n"


def test_what_a_model_said_steers_no_terminal(online):
    online.write("script.yaml", 'simulator: 1\nrules:\n- {answer: {text: "\\e[2J\\a red"}}\n')
    with Simulator(script=online.folder / "script.yaml") as simulator:
        online.environ["POE_BASE_URL"] = simulator.base_url
        online.write("a.yaml", FLOW)
        online.run("run", "a.yaml")
    told = online.run("show", "last/draft").stdout
    assert "\\x1b[2J\\x07 red" in told
    assert "\x1b" not in told


SAMPLED = """\
poeflow: 1
steps:
  say: {model: GPT-5.2, prompt: say it, samples: 2, expect: [{judge: {rubric: kind}, level: warn}]}
"""
SPOKEN = """\
simulator: 1
rules:
  - {match: {text: kind}, answer: {text: '{"reason": "it is", "score": 1}'}}
  - {match: {text: say it, nth: 1}, answer: {text: first}}
  - {match: {text: say it}, answer: {text: second}}
"""


def test_each_sample_is_shown(desk):
    desk.write("a.yaml", SAMPLED)
    with Simulator(script=desk.write("rules.yaml", SPOKEN)) as serving:
        desk.environ |= {"POE_API_KEY": "any-key-at-all", "POE_BASE_URL": serving.base_url}
        assert desk.run("run", "a.yaml").returncode == 0
    shown = desk.run("show", "last/say").stdout
    parts = shown.split("\n\nrequest ")
    assert "\n-- answer --\nfirst" in parts[0]
    heads = sorted(part.partition(", ")[0].partition(" to ")[2] for part in parts[1:])
    assert heads == [
        "GPT-5.2 (judge) for say#1",
        "GPT-5.2 (judge) for say#2",
        "GPT-5.2 for say#1",
        "GPT-5.2 for say#2",
    ]
    assert sum("\nsecond" in part for part in parts) == 1


def test_scores_are_shown_and_compared(desk):
    flow = "poeflow: 1\nsteps:\n  a: {render: one, output: {save: a.md}, expect: [%s]}\n"
    desk.write("a.yaml", flow % "{contains: one, level: score}")
    assert desk.run("run", "a.yaml").returncode == 0
    desk.write("a.yaml", flow % "{contains: two, level: score}")
    assert desk.run("run", "a.yaml").returncode == 0
    assert desk.run("show", "last~1").stdout.splitlines()[-1].endswith("score 1")
    assert desk.run("show").stdout.splitlines()[-1].endswith("score 0")
    shown = desk.run("diff").stdout
    assert "  score: 1 -> 0\n" in shown
    assert "not met:" in shown


MATRIX = """\
poeflow: 1
steps:
  tone:
    matrix: {axes: {model: [GPT-5.2, Grok-4], topic: [tea, rain]}}
    model: "{{ matrix.model }}"
    prompt: "{{ matrix.model }} on {{ matrix.topic }}"
    expect: [{not_contains: grim}, {max_length: 9, level: warn}]
"""
ON_MATRIX = """\
simulator: 1
rules:
  - {match: {text: Grok-4 on rain}, answer: {text: grim rain}}
  - {match: {text: Grok-4}, answer: {text: It is good tea.}}
  - {match: {text: GPT-5.2}, answer: {text: fine}}
"""


def test_the_instances_of_a_matrix_are_shown_with_how_many_passed(desk):
    desk.write("a.yaml", MATRIX)
    with Simulator(script=desk.write("rules.yaml", ON_MATRIX)) as serving:
        desk.environ |= {"POE_API_KEY": "any-key-at-all", "POE_BASE_URL": serving.base_url}
        assert desk.run("run", "a.yaml", "--keep-going").returncode == 1
    failure = 'expected not to contain "grim", found "grim rain" in line 1'
    judged, rows = desk.run("show", "last/tone").stdout.split("\n\n")[1:]
    assert judged.splitlines() == [
        "tone: 2 of 4 passed",
        "model  GPT-5.2  2 of 2 passed",
        "model  Grok-4   0 of 2 passed",
        "topic  tea      1 of 2 passed",
        "topic  rain     1 of 2 passed",
    ]
    below = [line.strip() for line in rows.splitlines() if line.startswith("   ")]
    assert [line.partition("; ask")[0] for line in below] == [
        "fine",
        "fine",
        "expected at most 9 characters, found 15",
        "It is good tea.",
        failure,
        "grim rain",
    ]
    shown = json.loads(desk.run("show", "last/tone", "--output", "json").stdout)
    assert [one["step"] for one in shown["instances"]] == ["tone"] * 4
    assert len(shown["requests"]) == 4


def test_a_hash_is_shown_in_one_form_also_of_a_stored_answer():
    digest = sha256_of(b"text")
    for written in (digest, short_hash(digest)):
        one = InstanceRecord(id="a", step="a", status="ok", files={"//a.md": written})
        last = list(instance_lines(one, []))[-1]
        assert last[0][0] == f"wrote a.md ({digest[:12]})"


def test_a_record_that_is_damaged_is_shown_all_the_same():
    verdicts = ({"kind": "judge", "score": 10**400}, {"kind": "judge", "score": float("nan")})
    one = InstanceRecord(
        id="a", step="a", status="ok", files={"//a.md": "A" * 21 + "!"}, verdicts=verdicts
    )
    lines = [line[0][0] for line in instance_lines(one, []) if line]
    assert lines[-1] == "wrote a.md (AAAAAAAAAAAA)"


def test_a_table_of_runs_leaves_out_columns_that_do_not_fit():
    rows = [RunRow(id=1, record=RUN, end=None)]
    whole = next(line[0][0].split() for line in run_table(rows))
    assert len(whole) == 10
    for width, left_out in ((89, set()), (79, {"commit"}), (20, {*LESS})):
        head, row = ("".join(text for text, _ in line) for line in run_table(rows, width=width))
        assert set(whole) - set(head.split()) == left_out
        assert len(row) <= max(width, 53)
