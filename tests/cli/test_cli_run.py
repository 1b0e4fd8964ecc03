"""`poeflow run` as a user meets it: results, files, exit codes, interruptions."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from poeflow.simulator.server import Simulator

FLOW = """\
poeflow: 1
name: notes
inputs:
  topic: {type: string, default: otters}
  count: {type: integer, default: 2}
steps:
  draft:
    model: Claude-Sonnet-4.5
    prompt: Write {{ inputs.count }} lines about {{ inputs.topic }}.
  page:
    render: |
      # {{ inputs.topic }}
      {{ steps.draft.text }}
    output: {save: "out/{{ inputs.topic }}.md"}
"""
CHAIN = """\
poeflow: 1
steps:
  first: {model: GPT-5.2, prompt: one}
  second: {model: GPT-5.2, prompt: "{{ steps.first.text }}"}
  apart: {model: GPT-5.2, prompt: apart, needs: [first]}
"""


def test_a_run_asks_prints_its_one_result_and_writes_its_file(online, simulator):
    online.write("notes.yaml", FLOW)
    done = online.run("run", "notes.yaml")
    assert done.returncode == 0, done.stderr
    page = (online.folder / "out/otters.md").read_text()
    assert done.stdout == page
    assert page.startswith("# otters\n")
    assert [request.json["messages"] for request in simulator.requests] == [
        [{"role": "user", "content": "Write 2 lines about otters."}]
    ]
    assert "page: rendered, wrote out/otters.md" in done.stderr
    assert "1 asked, 1 rendered" in done.stderr


def test_a_second_run_asks_nothing(online, simulator):
    online.write("notes.yaml", FLOW)
    first = online.run("run", "notes.yaml")
    second = online.run("run", "notes.yaml")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert len(simulator.requests) == 1
    assert "1 cached, 1 rendered" in second.stderr


def test_refresh_asks_again(online, simulator):
    online.write("notes.yaml", FLOW)
    online.run("run", "notes.yaml")
    assert online.run("run", "notes.yaml", "--refresh").returncode == 0
    assert len(simulator.requests) == 2


def test_a_stored_answer_needs_no_key(online, simulator):
    online.write("notes.yaml", FLOW)
    online.run("run", "notes.yaml")
    del online.environ["POE_API_KEY"]
    done = online.run("run", "notes.yaml")
    assert (done.returncode, len(simulator.requests)) == (0, 1)


def test_without_a_key_the_error_says_what_to_do_and_nothing_is_sent(online, simulator):
    online.write("notes.yaml", FLOW)
    del online.environ["POE_API_KEY"]
    done = online.run("run", "notes.yaml")
    assert done.returncode == 5
    assert done.stdout == ""
    for word in ("POE_API_KEY", "https://poe.com/api_key", "--offline"):
        assert word in done.stderr
    assert simulator.requests == ()


def test_offline_touches_nothing_real(desk):
    desk.write("notes.yaml", FLOW)
    done = desk.run("run", "notes.yaml", "--offline")
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stderr
    assert not (desk.folder / "out").exists()
    assert (desk.folder / ".poeflow/offline/out/otters.md").read_text() == done.stdout


def test_offline_reads_requests_as_strictly_as_the_api(desk):
    step = "{{model: {}, prompt: hi, extra_body: {{output_effort: low}}}}"
    known, unknown = step.format("Claude-Sonnet-4.5"), step.format("Brand-New-Bot")
    desk.write("a.yaml", f"poeflow: 1\nsteps:\n  known: {known}\n  unknown: {unknown}\n")
    done = desk.run("run", "a.yaml", "--offline", "--keep-going")
    assert done.returncode == 1
    assert "'output_effort' is not a parameter of Claude-Sonnet-4.5 (400)\n" in done.stderr
    assert "unknown: answered in " in done.stderr


def test_an_offline_answer_never_satisfies_a_real_run(online, simulator):
    online.write("notes.yaml", FLOW)
    online.run("run", "notes.yaml", "--offline")
    assert online.run("run", "notes.yaml").returncode == 0
    assert len(simulator.requests) == 1


def test_inputs_come_from_pairs_files_and_beside_the_flow_in_that_order(online, simulator):
    online.write("notes.yaml", FLOW)
    online.write("notes.inputs.yaml", "topic: beside\ncount: 7\n")
    online.write("set.yaml", "topic: set\n")
    online.write("text.txt", "from a file")
    for arguments, prompt in [
        ((), "Write 7 lines about beside."),
        (("--inputs-file", "set.yaml"), "Write 7 lines about set."),
        (("--inputs-file", "set.yaml", "--input", "count=3"), "Write 3 lines about set."),
        (("--input", "topic=@text.txt"), "Write 7 lines about from a file."),
        (("--input", "topic=@-"), "Write 7 lines about typed."),
        (("--input", "topic=@@home"), "Write 7 lines about @home."),
    ]:
        done = online.run("run", "notes.yaml", *arguments, stdin="typed")
        assert done.returncode == 0, done.stderr
        assert simulator.requests[-1].json["messages"][0]["content"] == prompt


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("topc=x", 'unknown input "topc"; did you mean "topic"?'),
        ("count=many", "the input \"count\" must be an integer, not 'many'"),
        ("topic", "is not NAME=VALUE"),
        ("topic=@nowhere.txt", "nowhere.txt: does not exist"),
    ],
)
def test_a_wrong_input_is_a_usage_error(desk, pair, message):
    desk.write("notes.yaml", FLOW)
    done = desk.run("run", "notes.yaml", "--offline", "--input", pair)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_value_that_holds_a_template_is_sent_as_it_is(online, simulator):
    online.write("notes.yaml", FLOW.replace('"out/{{ inputs.topic }}.md"', "out/a.md"))
    done = online.run("run", "notes.yaml", "--input", "topic={{ 7*7 }}")
    assert done.returncode == 0, done.stderr
    sent = simulator.requests[0].json["messages"][0]["content"]
    assert sent == "Write 2 lines about {{ 7*7 }}."


def test_several_results_are_json(online):
    online.write("a.yaml", CHAIN)
    done = online.run("run", "a.yaml")
    assert sorted(json.loads(done.stdout)) == ["apart", "second"]


def test_jsonl_tells_every_event(online):
    online.write("notes.yaml", FLOW)
    done = online.run("run", "notes.yaml", "--output", "jsonl")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "text_arrived"]
    assert kinds == [
        "run_started",
        "step_started",
        "request_sent",
        "step_finished",
        "step_started",
        "file_written",
        "step_finished",
        "run_finished",
    ]
    assert done.stderr == ""


def test_a_failure_stops_what_depends_on_it_and_the_rest_and_keeps_answers(desk):
    desk.write("a.yaml", CHAIN)
    script = desk.write(
        "script.yaml",
        'simulator: 1\nrules:\n- {match: {text: apart}, fault: "400"}\n',
    )
    with Simulator(script=script) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        done = desk.run("run", "a.yaml", "--keep-going")
        assert done.returncode == 1
        assert "apart: failed" in done.stderr
        asked = len(simulator.requests)
        again = desk.run("run", "a.yaml", "--keep-going")
        assert again.returncode == 1
        assert len(simulator.requests) == asked + 1, "only the failed step is asked again"


@pytest.mark.parametrize(("status", "code"), [(401, 5), (402, 5), (403, 1), (404, 1), (400, 1)])
def test_each_refusal_has_its_exit_code_and_is_sent_once(desk, status, code):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n")
    with Simulator(faults=str(status)) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        done = desk.run("run", "a.yaml")
        assert done.returncode == code, done.stderr
        assert len(simulator.requests) == 1


def test_an_invalid_flow_keeps_all_flows_from_running(online, simulator):
    online.write("good.yaml", CHAIN)
    online.write("bad.yaml", "poeflow: 1\nsteps:\n  a: {promt: hi}\n")
    done = online.run("run", "good.yaml", "bad.yaml")
    assert done.returncode == 3
    assert 'bad.yaml:3:7: unknown key "promt"; did you mean "prompt"?' in done.stderr
    assert simulator.requests == ()


def test_the_key_is_in_no_file_and_no_output(online):
    online.write("notes.yaml", FLOW)
    key = online.environ["POE_API_KEY"]
    done = online.run("run", "notes.yaml", "--output", "jsonl")
    told = done.stdout + done.stderr
    assert key not in told
    for name in online.files():
        assert key.encode() not in (online.folder / name).read_bytes(), name


def test_events_are_without_the_key_even_where_a_prompt_would_hold_it(online, simulator):
    online.write("notes.yaml", FLOW.replace('"out/{{ inputs.topic }}.md"', "out/a.md"))
    key = online.environ["POE_API_KEY"]
    options = ("--input", f"topic={key}", "--output", "jsonl")
    done = online.run("run", "notes.yaml", *options)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["outputs"], simulator.requests) == (1, {}, ())
    assert key not in done.stdout + done.stderr


def test_an_env_file_brings_the_key_and_may_not_bring_the_address(online, simulator):
    online.write("notes.yaml", FLOW)
    key = online.environ.pop("POE_API_KEY")
    online.write("secret.env", f"POE_API_KEY={key}\nOTHER=1\n")
    assert online.run("run", "notes.yaml", "--env-file", "secret.env").returncode == 0
    online.write("moved.env", f"POE_API_KEY={key}\nPOE_BASE_URL=http://127.0.0.1:1/v1\n")
    done = online.run("run", "notes.yaml", "--env-file", "moved.env")
    assert done.returncode == 2
    assert "POE_BASE_URL" in done.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_within_a_second_with_nothing_half_written(desk, sent, code):
    desk.write("a.yaml", CHAIN)
    with Simulator(latency=30) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        process = subprocess.Popen(
            desk.command("run", "a.yaml"),
            cwd=desk.folder,
            env=desk.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 20
        while not simulator.requests and time.monotonic() < deadline:
            time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(sent)
        _, told = process.communicate(timeout=10)
        took = time.monotonic() - began
    assert process.returncode == code
    assert took < 2, "a second is promised; a loaded machine gets two"
    assert "Traceback" not in told
    assert [name for name in desk.files() if "cache" in name or name.endswith(".tmp")] == []


def test_a_second_run_waits_and_then_says_who_holds_the_project(desk):
    desk.write("a.yaml", CHAIN)
    with Simulator(latency=30) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        first = subprocess.Popen(
            desk.command("run", "a.yaml"),
            cwd=desk.folder,
            env=desk.env(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not simulator.requests and time.monotonic() < deadline:
            time.sleep(0.02)
        second = desk.run("run", "a.yaml", "--wait", "0")
        first.kill()
        first.wait()
    assert second.returncode == 7
    assert f"process {first.pid}" in second.stderr


def test_a_full_disk_at_the_end_of_a_pipe_is_one_line(online):
    online.write("notes.yaml", FLOW)
    online.run("run", "notes.yaml")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            online.command("run", "notes.yaml"),
            cwd=online.folder,
            env=online.env(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 8
    assert done.stderr.splitlines()[-1] == "error: no space left on device"
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error_message(online):
    online.write("notes.yaml", FLOW)
    online.run("run", "notes.yaml")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        online.command("run", "notes.yaml", "--output", "jsonl"),
        cwd=online.folder,
        env=online.env(),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_template_error_at_run_time_names_file_line_and_step(desk):
    desk.write("t.md", "first line\n{{ inputs.items[5].name }}\n")
    desk.write(
        "a.yaml",
        "poeflow: 1\ninputs:\n  items: {type: array, default: []}\n"
        "steps:\n  page: {render: {file: t.md}}\n",
    )
    done = desk.run("run", "a.yaml", "--offline")
    assert done.returncode == 1
    assert "page: failed" in done.stderr
    assert "t.md:2:" in done.stderr


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("a#77", ["error: a has no number 77", "  name it without a number: a"]),
        ("b#3", ["error: b has no number 3", "  it has 1 to 2"]),
    ],
)
def test_a_sample_that_a_step_cannot_have_is_not_refreshed_in_silence(desk, step, told):
    desk.write(
        "a.yaml",
        "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
        "steps: {a: {prompt: x}, b: {prompt: x, samples: 2}}\n",
    )
    done = desk.run("run", f"a.yaml:{step}", "--refresh", "--offline")
    assert (done.returncode, done.stderr.splitlines()) == (2, told)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (
            "for_each: {in: [x, y], carry: previous.text}, prompt: '{{ item }} {{ carry }}'",
            "the first instance has none: write {{ carry or '' }}, or {% if carry %}",
        ),
        (
            "prompt: '{{ previous.text }}', repeat: {until: output.text, max: 2}",
            (
                "previous has no value at first; the first turn has none: "
                "write {% if previous %}...{% endif %}"
            ),
        ),
    ],
)
def test_a_name_without_a_value_at_first_has_a_hint(desk, step, told):
    desk.write("a.yaml", f"poeflow: 1\nsteps:\n  a: {{model: GPT-5.2, {step}}}\n")
    assert told in desk.run("run", "a.yaml", "--offline").stderr


def test_a_long_result_is_printed_whole(online):
    long = "".join(f"{number} otters, é\n" for number in range(100_000))
    online.write("long.txt", long)
    online.write("f.yaml", "poeflow: 1\nsteps:\n  page: {render: \"{{ read('long.txt') }}\"}\n")
    done = online.run("run", "f.yaml")
    assert (done.returncode, done.stdout) == (0, long)
