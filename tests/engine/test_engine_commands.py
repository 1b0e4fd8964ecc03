"""Steps that run a program: with the user's permission, within limits, and only if they must."""

import asyncio
import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poeflow.engine.asking import programs
from poeflow.engine.results import Outcome
from poeflow.errors import InvalidFlowError, StepError, UsageError
from poeflow.events import StepStarted, Warned
from poeflow.operations.check import checkup
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.operations.watch.watched_files import WatchedFiles
from poeflow.project.project import Project
from poeflow.project.read_log import ReadLog

PYTHON = sys.executable
COUNT = f"""\
poeflow: 1
inputs: {{word: {{default: a}}}}
steps:
  count:
    command: [{PYTHON}, count.py, "{{{{ inputs.word }}}}"]
    stdin: "{{{{ inputs.word }}}}!"
    reads: [count.py, "data/*.txt"]
"""
SCRIPT = """\
import pathlib, sys
with open("runs", "a") as runs:
    runs.write("x")
texts = [path.read_text() for path in sorted(pathlib.Path("data").glob("*.txt"))]
print(*sys.argv[1:], sys.stdin.read(), *texts)
"""
KEY = "some-key-12345"


@pytest.fixture
def counted(bench):
    """Return a function that says how often the program of `COUNT` has run."""
    bench.write("count.py", SCRIPT)
    bench.write("data/one.txt", "one")
    runs = bench.folder / "runs"
    return lambda: len(runs.read_text()) if runs.exists() else 0


def step(*arguments: str, more: str = "") -> str:
    written = ", ".join(f"'{one}'" for one in arguments)
    return f"poeflow: 1\nsteps:\n  a:\n    command: [{written}]\n{more}"


def python(code: str, more: str = "") -> str:
    return step(PYTHON, "-c", code.replace("'", "''"), more=more)


def run(bench, flow: str, **options) -> Outcome:
    """Run a flow with the user's permission, and with a PATH."""
    environ = {"PATH": os.environ["PATH"], "POE_API_KEY": KEY}
    environ["POE_BASE_URL"] = bench.simulator.base_url
    return bench.run(flow, **{"allow_tools": True, "environ": environ, **options})


def failure(bench, flow: str, **options) -> str:
    outcome = run(bench, flow, **options)
    assert outcome.exit_code == 1
    return str(outcome.failures["a"])


def test_it_runs_only_with_the_users_permission(bench, counted):
    with pytest.raises(UsageError) as caught:
        bench.run(COUNT)
    assert str(caught.value) == (
        f"//a.yaml: step count runs a command: {PYTHON} count.py '{{{{ inputs.word }}}}'; "
        "look at it and add --allow-tools, or allow_tools = true to your own configuration"
    )
    assert counted() == 0


def test_the_users_configuration_allows_it_and_a_repository_does_not(bench, counted, tmp_path):
    bench.write("poeflow.toml", "")
    home = tmp_path.parent / f"{tmp_path.name}-home"
    home.mkdir()
    (home / "config.toml").write_text("allow_tools = true\n")
    environ = {"POEFLOW_CONFIG": str(home / "config.toml"), "POE_API_KEY": KEY}
    assert bench.run(COUNT, environ=environ).outputs == {"count": "a a! one"}


def test_nothing_but_a_run_runs_it(bench, counted):
    assert bench.states(COUNT) == {"count": ("new", ("the lock does not have it",))}
    assert bench.locked(allow_tools=True) == [
        "a.lock.json does not exist; run the flow and commit it"
    ]
    run(bench, COUNT)
    assert counted() == 1
    assert bench.states(COUNT) == {"count": ("fresh", ())}
    assert bench.locked() == []
    assert counted() == 1


def test_it_runs_again_if_what_it_reads_changes(bench, counted):
    assert run(bench, COUNT).outputs == {"count": "a a! one"}
    assert bench.run(COUNT).outputs == {"count": "a a! one"}, "it needs no permission to stay"
    assert counted() == 1
    bench.write("data/one.txt", "two")
    assert bench.states(COUNT) == {"count": ("stale", ("reads //data/one.txt changed",))}
    assert run(bench, COUNT).outputs == {"count": "a a! two"}
    bench.write("data/other.txt", "three")
    assert bench.states(COUNT) == {"count": ("stale", ("glob //data/*.txt changed",))}
    run(bench, COUNT)
    bench.write("note.md", "nobody reads it")
    assert bench.states(COUNT) == {"count": ("fresh", ())}
    assert bench.states(COUNT, texts={"word": "b"})["count"][0] == "new"
    changed = COUNT.replace("}}!", "}}?")
    assert bench.states(changed) == {"count": ("stale", ("stdin changed",))}
    assert bench.states(COUNT + "    timeout: 5s\n") == {"count": ("fresh", ())}
    assert counted() == 3


def test_one_that_does_not_say_what_it_reads_runs_on_every_run(bench, counted):
    flow = COUNT.replace("    reads: [count.py", "    #")
    reason = "it runs on every run: it does not say all that it reads (reads:)"
    run(bench, flow)
    assert bench.states(flow) == {"count": ("stale", (reason,))}
    assert bench.locked() == [f"count: stale: {reason}"]
    with pytest.raises(UsageError, match="step count runs a command"):
        bench.run(flow)
    run(bench, flow)
    assert counted() == 2


def test_what_needs_it_runs_again_only_if_its_text_is_another(bench, counted):
    flow = (
        "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
        f"  date: {{command: [{PYTHON}, count.py]}}\n"
        "  ask: {prompt: 'Tell {{ steps.date.text }}'}\n"
    )
    run(bench, flow)
    assert bench.prompts() == ["Tell  one"]
    assert [found.calls for found in bench.statuses(flow)] == [0, 0]
    assert bench.states(flow)["ask"][0] == "unknown"
    run(bench, flow)
    assert len(bench.prompts()) == 1
    bench.write("data/one.txt", "two")
    run(bench, flow)
    assert bench.prompts()[1:] == ["Tell  two"]
    assert counted() == 3


def test_a_text_that_another_step_needs_is_stored(bench, counted):
    flow = COUNT + "  told: {render: 'It is {{ steps.count.text }}'}\n"
    run(bench, flow)
    assert bench.run(flow.replace("It is", "It was")).outputs == {"told": "It was a a! one"}
    assert counted() == 1
    bench.forget_answers()
    with pytest.raises(UsageError, match="step count runs a command"):
        bench.run(flow.replace("It is", "It was now"))
    outcome = run(bench, flow.replace("It is", "It was now"))
    assert outcome.outputs == {"told": "It was now a a! one"}


def test_a_failure_shows_the_end_of_stderr(bench):
    code = "import sys; sys.stderr.write(10000 * chr(97) + chr(10) + 'no such tag'); sys.exit(3)"
    told = failure(bench, python(code))
    assert "ended with exit code 3: aaa" in told
    assert told.endswith("no such tag; run it by hand to see what it needs")
    assert len(told) < 2500
    run(bench, python("pass", more="    reads: []\n"))
    assert bench.states(python(code, more="    reads: []\n"))["a"][0] == "stale"


def test_a_tolerated_failure_is_seen_by_what_comes_after(bench):
    flow = python("import sys; sys.exit(2)", more="    continue_on_error: true\n")
    flow += "  told: {if: steps.a.status == 'failed', render: '{{ steps.a.error }}'}\n"
    assert "exit code 2" in run(bench, flow).outputs["told"]


def test_a_program_that_is_not_there(bench):
    assert failure(bench, step("no-such-program-here")) == (
        'there is no program "no-such-program-here"; '
        "install it, or write ./no-such-program-here for a file beside the flow"
    )
    bench.write("plain.txt", "text")
    assert "cannot be started: permission denied" in failure(bench, step("./plain.txt"))
    (bench.folder / "plain.txt").chmod(0o755)
    told = "cannot be started: exec format error; begin the file with a line like #!/bin/sh"
    assert told in failure(bench, step("./plain.txt"))


def test_a_program_beside_the_flow(bench):
    bench.write("say.sh", "#!/bin/sh\necho said $1\n")
    (bench.folder / "say.sh").chmod(0o755)
    assert run(bench, step("./say.sh", "it")).outputs == {"a": "said it"}


def test_no_shell_reads_an_argument(bench):
    code = "import sys; print(sys.argv[1:])"
    flow = f"poeflow: 1\nsteps:\n  a:\n    command: [{PYTHON}, -c, '{code}', '$(id); *', '']\n"
    assert run(bench, flow).outputs == {"a": "['$(id); *', '']"}


def test_what_another_step_made_is_no_option(bench):
    flow = (
        "poeflow: 1\nsteps:\n  said: {render: '--output=x'}\n"
        f"  a: {{command: [{PYTHON}, '{{{{ steps.said.text }}}}']}}\n"
    )
    told = failure(bench, flow)
    assert told.startswith('argument 1 would be the option "--output=x"; write what it begins with')


def test_an_answer_is_no_template(bench):
    flow = (
        "poeflow: 1\nsteps:\n  said: {render: '{% raw %}{{ 7 * 7 }}{% endraw %}'}\n"
        "  a: {command: [printf, '%s', '{{ steps.said.text }}'], stdin: '{{ steps.said.text }}'}\n"
    )
    assert run(bench, flow).outputs == {"a": "{{ 7 * 7 }}"}


def test_it_sees_what_is_named_and_never_the_key(bench):
    code = "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))"
    environ = {"PATH": os.environ["PATH"], "POE_API_KEY": KEY, "HOME": "/home/me", "OTHER": "x"}
    flow = python(code, more="    env: [HOME, GONE]\n")
    assert run(bench, flow, environ=environ).outputs == {"a": "['HOME', 'PATH']"}
    flow = python(code, more="    env: [OTHER]\n")
    with pytest.raises(UsageError) as caught:
        run(bench, flow, environ={**environ, "OTHER": f"Bearer {KEY}"})
    assert str(caught.value).startswith("step a: the variable OTHER holds an API key")
    with pytest.raises(InvalidFlowError, match="POE_API_KEY is the API key"):
        run(bench, python(code, more="    env: [POE_API_KEY]\n"))


def test_a_key_in_its_output_is_masked(bench):
    bench.write("key.txt", KEY)
    outcome = run(bench, step("cat", "key.txt"))
    assert outcome.outputs == {"a": "[key]"}
    told = [event.message for event in bench.events if isinstance(event, Warned)]
    assert told == ["the output held a key or a secret input; it is stored masked"]
    code = "import sys; sys.exit(open('key.txt').read())"
    assert failure(bench, python(code)).endswith(": [key]; run it by hand to see what it needs")


def test_a_key_is_not_handed_to_it(bench):
    flow = "poeflow: 1\nsteps:\n  a: {command: [cat], stdin: '{{ read(\"key.txt\") }}'}\n"
    bench.write("key.txt", KEY)
    assert failure(bench, flow).startswith("the command holds an API key, which goes nowhere")


def test_too_much_output_ends_it(bench):
    code = "while True: print('x' * 100000)"
    assert f"wrote more than {programs.MAX_OUTPUT:,} bytes" in failure(bench, python(code))


def open_files() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


async def test_a_program_that_is_ended_leaves_no_pipe_open(tmp_path, monkeypatch):
    start = functools.partial(asyncio.create_subprocess_exec, limit=1000)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)  # it stops reading soon
    code = "while True: print('x' * 100000)"
    command = programs.Command(arguments=(sys.executable, "-c", code))
    before = open_files()
    with pytest.raises(StepError, match="wrote more"):
        await programs.Program(tmp_path, os.environ, timeout=60).run(command)
    await asyncio.sleep(0)
    assert open_files() == before


def test_too_much_time_ends_it_with_all_that_it_started(bench):
    bench.write("family.sh", "sleep 60 & echo $! > child; trap '' TERM; sleep 60; sleep 60\n")
    told = failure(bench, step("sh", "family.sh", more="    timeout: 500ms\n"))
    assert told == "sh family.sh took longer than 0.5 s; raise timeout: of the step"
    assert not alive(int((bench.folder / "child").read_text()))


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended may stay until somebody takes note of it."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_output_that_is_not_read_is_no_failure(bench):
    bench.write("long.txt", "x" * 1_000_000)
    flow = "poeflow: 1\nsteps:\n  a: {command: ['true'], stdin: '{{ read(\"long.txt\") }}'}\n"
    assert run(bench, flow).exit_code == 0


def test_the_output_is_data(bench):
    more = "    output: {format: json, save: out/a.json}\n    reads: []\n"
    flow = python("print('[1, 2]')", more=more) + "  sum: {render: '{{ steps.a.data | sum }}'}\n"
    assert run(bench, flow).outputs == {"sum": "3"}
    assert (bench.folder / "out" / "a.json").read_text() == "[1, 2]\n"
    (bench.folder / "out" / "a.json").unlink()
    reasons = ("out/a.json is missing", "its answer is not here")
    assert bench.states(flow)["a"] == ("missing", reasons)
    broken = python("print('no')", more=more)
    assert "not JSON" in failure(bench, broken, force=True)


def test_bytes_that_are_not_text(bench):
    code = "import sys; sys.stdout.buffer.write(b'a\\xff')"
    assert run(bench, python(code)).outputs == {"a": "a\ufffd"}
    told = [event.message for event in bench.events if isinstance(event, Warned)]
    assert told == ["the output holds characters that are not UTF-8 (U+FFFD)"]


def test_a_loop_of_commands_runs_what_changed(bench, counted):
    flow = (
        "poeflow: 1\nsteps:\n  a:\n    for_each: [one, two]\n"
        f"    command: [{PYTHON}, count.py, '{{{{ item }}}}']\n"
        "    reads: ['data/{{ item }}*.txt']\n"
    )
    run(bench, flow)
    assert counted() == 2
    bench.write("data/two.txt", "2")
    run(bench, flow)
    assert counted() == 3
    started = [event.step for event in bench.events if isinstance(event, StepStarted)]
    assert started == ["a[two]"]


def test_a_file_that_a_step_before_wrote_is_read_anew(bench):
    flow = (
        "poeflow: 1\ninputs: {word: {default: one}}\nsteps:\n"
        "  draft: {render: '{{ inputs.word }}', output: {save: out/draft.md}}\n"
        "  a: {command: [cat, out/draft.md], needs: [draft], reads: [out/draft.md]}\n"
    )
    assert run(bench, flow).outputs == {"a": "one"}
    changed = flow.replace("default: one", "default: two")
    assert run(bench, changed).outputs == {"a": "two"}


def test_a_part_of_a_flow_takes_the_last_output(bench, counted):
    flow = COUNT.replace("    reads: [count.py", "    #")
    flow += "  told: {render: '{{ steps.count.text }}'}\n"
    run(bench, flow)
    changed = flow.replace("'{{ steps", "'so {{ steps")
    assert bench.run(changed, only=True, steps=("told",)).outputs == {"told": "so a a! one"}
    assert counted() == 1


def poeflow(bench, *arguments: str) -> str:
    """Return what a command of poeflow prints."""
    done = subprocess.run(
        [PYTHON, "-m", "poeflow.cli.start", *arguments],
        cwd=bench.folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_history_and_pages_have_the_command(bench, counted):
    run(bench, COUNT)
    shown = poeflow(bench, "show", "1/count")
    assert shown.splitlines()[-4:] == [
        f'{{"command":["{PYTHON}","count.py","a"],"stdin":"a!"}}',
        "",
        "-- text --",
        "a a! one",
    ]
    poeflow(bench, "report", "last", "--html", "run.html")
    page = (bench.folder / "run.html").read_text()
    (section,) = re.findall('<section aria-label="command">(.*?)</section>', page, re.DOTALL)
    assert ("count.py" in section, "a!" in section) == (True, True)
    graph = poeflow(bench, "graph", "a.yaml")
    assert f's_count{{{{"count<br/>{PYTHON.replace("_", "#95;")} count.py' in graph


def test_it_runs_again_if_the_user_asks_for_that(bench, counted):
    run(bench, COUNT)
    with pytest.raises(UsageError, match="step count runs a command"):
        bench.run(COUNT, refresh=True)
    run(bench, COUNT, refresh=True)
    assert counted() == 2


def test_a_flow_that_is_used_runs_its_command_in_its_own_folder(bench, counted):
    bench.write("parts/part.yaml", COUNT)
    bench.write("parts/count.py", SCRIPT)
    bench.write("parts/data/two.txt", "two")
    flow = "poeflow: 1\nsteps:\n  a: {use: parts/part.yaml, with: {word: b}}\n"
    with pytest.raises(UsageError, match=r"^//parts/part.yaml: step count runs a command"):
        bench.run(flow)
    assert run(bench, flow).outputs == {"a": {"count": "b b! two"}}
    assert bench.locked() == []
    assert counted() == 0


def test_what_it_reads_is_watched(bench, counted):
    bench.write("a.yaml", COUNT)
    project = Project(bench.folder, ReadLog())
    options = RunOptions(allow_tools=True, folder=bench.folder, environ={})
    asyncio.run(run_checked(checkup(project, "//a.yaml", "a.yaml"), options))
    watched = WatchedFiles(project.log, bench.folder)
    bench.write("data/new.txt", "new")
    bench.write("count.py", SCRIPT + "\n")
    bench.write("note.md", "")
    assert [change.path.name for change in watched.changes()] == ["count.py", "new.txt"]


CALL = """\
poeflow: 1
inputs: {word: {default: a}}
steps:
  a: {call: 'words_of:count', with: {word: '{{ inputs.word }}', least: 2}, reads: [words.txt]}
"""
WORDS = """\
import pathlib
def count(word, least):
    with open(pathlib.Path(__file__).with_name("runs"), "a") as runs:
        runs.write("x")
    return {"word": word, "least": least}
"""


@pytest.fixture
def called(bench):
    """Return a function that says how often the function of `CALL` has run."""
    bench.write("words_of.py", WORDS)
    bench.write("words.txt", "a")
    runs = bench.folder / "runs"
    return lambda: len(runs.read_text()) if runs.exists() else 0


def test_a_function_that_needs_more_stops_a_run_that_may_call_it(bench, called):
    flow = CALL.replace(", least: 2", "")
    message = 'step a: words_of:count needs "least"; it is given word'
    with pytest.raises(UsageError, match=message):
        bench.run(flow, allow_tools=True)
    skipped = flow.replace("a: {", "a: {if: inputs.word == 'b', ")
    assert bench.run(skipped, allow_tools=True).exit_code == 0
    assert called() == 0


def test_a_function_is_called_with_permission_and_if_it_must(bench, called):
    with pytest.raises(UsageError) as caught:
        bench.run(CALL)
    assert str(caught.value) == (
        "//a.yaml: step a runs Python functions of this project: words_of:count; "
        "look at it and add --allow-tools, or allow_tools = true to your own configuration"
    )
    assert bench.states(CALL) == {"a": ("new", ("the lock does not have it",))}
    assert called() == 0
    assert run(bench, CALL).outputs == {"a": '{"word":"a","least":2}'}
    assert bench.run(CALL).outputs == {"a": '{"word":"a","least":2}'}
    assert called() == 1
    assert bench.states(CALL.replace("least: 2", "least: 3")) == {"a": ("stale", ("with changed",))}
    bench.write("words_of.py", WORDS.replace('"least": l', '"most": l'))
    assert bench.states(CALL) == {"a": ("stale", ("reads //words_of.py changed",))}
    run(bench, CALL)
    assert called() == 2
    bench.write("words.txt", "b")
    assert bench.states(CALL) == {"a": ("stale", ("reads //words.txt changed",))}
    run(bench, CALL)
    always = CALL.replace(", reads: [words.txt]", "")
    run(bench, always)
    run(bench, always)
    assert called() == 5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('bad word')", "words_of:count failed: ValueError: bad word"),
        ("return object()", "the result cannot be written as JSON"),
        ("import time; time.sleep(60)", "words_of:count took longer than 0.2 s"),
        (
            f"return 'x' * {programs.MAX_OUTPUT + 1}",
            f"gave more than {programs.MAX_OUTPUT:,} bytes",
        ),
    ],
)
def test_a_call_that_fails(bench, body, message):
    bench.write("words_of.py", f"def count(word, least):\n    {body}\n")
    bench.write("words.txt", "a")
    assert message in failure(bench, CALL.replace("reads:", "timeout: 200ms, reads:"))


def test_a_call_of_what_is_not_there_is_found_before_anything_is_asked(bench, called):
    with pytest.raises(UsageError) as caught:
        run(bench, CALL.replace("words_of:count", "words_of:counted"))
    assert str(caught.value) == ('step a: there is no "counted" in words_of; did you mean "count"?')


def test_items_of_glob_are_named_as_the_program_finds_them(bench):
    for name in ("docs/a.md", "-n", "flows/b.md"):
        bench.write(name, f"{name}\n")
    flow = """\
poeflow: 1
steps:
  show:
    for_each: [//docs/a.md, //-n, //flows/b.md, //title, //../a]
    command: [printf, "%s", "{{ item }}"]
    reads: []
"""
    assert list(run(bench, flow).outputs["show"].values()) == [
        *("./docs/a.md", "./-n", "./flows/b.md"),
        *("//title", "//../a"),  # no file of the project
    ]
    each = flow.replace("[//docs/a.md, //-n, //flows/b.md, //title, //../a]", '{glob: "docs/*"}')
    assert run(bench, each.replace('printf, "%s"', "cat")).outputs == {
        "show": {"a.md": "docs/a.md"}
    }


def test_a_key_that_a_call_gives_is_masked(bench):
    bench.write("words_of.py", f"def count(word, least):\n    return '{KEY}'\n")
    bench.write("words.txt", "a")
    assert run(bench, CALL).outputs == {"a": "[key]"}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_ends_it_and_runs_it_again(bench, sent):
    bench.write("slow.sh", "echo $$ > began\ntest -f go || sleep 60\necho done\n")
    bench.write("a.yaml", step("sh", "slow.sh", more="    reads: []\n"))
    command = [PYTHON, "-m", "poeflow.cli.start", "run", "a.yaml", "--allow-tools"]
    begun = subprocess.Popen(command, cwd=bench.folder, env=os.environ, stderr=subprocess.PIPE)
    began = bench.folder / "began"
    until = time.monotonic() + 30
    while not (began.exists() and began.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.05)
    begun.send_signal(sent)
    if sent == signal.SIGKILL:  # nobody is left to end it
        os.killpg(int(began.read_text()), signal.SIGKILL)
    begun.communicate(timeout=30)
    assert begun.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(sent, -sent)
    until = time.monotonic() + 30
    while alive(int(began.read_text())) and time.monotonic() < until:
        time.sleep(0.05)  # an orphan is there until somebody takes note of its end
    assert not alive(int(began.read_text()))
    bench.write("go", "")
    assert bench.states((bench.folder / "a.yaml").read_text())["a"][0] == "new"
    done = subprocess.run(
        command, cwd=bench.folder, env=os.environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("done", 0), done.stderr


JUDGED = f"""\
poeflow: 1
steps:
  count:
    for_each: {{glob: "data/*.txt"}}
    command: [{PYTHON}, count.py]
    stdin: "{{{{ read(item) }}}}"
    reads: [count.py]
    output: {{format: json, default: {{n: 0}}}}
    expect:
      - {{that: output.data.n > 1, level: score, weight: 3}}
      - {{contains: n, level: score}}
  told:
    render: >-
      {{% for one in steps.count.all %}}{{{{ one.data.n }}}} {{{{ one.score }}}}
      {{{{ one.passed | tojson }}}}, {{% endfor %}}{{{{ steps.count.all | pass_rate | round(2) }}}}
"""


def test_outputs_are_judged_and_have_a_default(bench, counted):
    printed = "print(sys.stdin.read())\n"
    bench.write("count.py", "".join(SCRIPT.splitlines(keepends=True)[:3]) + printed)
    for name, text in {"one": '{"n": 1}', "other": "none", "two": '{"n": 2}'}.items():
        bench.write(f"data/{name}.txt", text)
    told = "1 0.25 false, 0 0.0 false, 2 1.0 true, 0.33"
    outcome = run(bench, JUDGED)
    assert outcome.outputs == {"told": told}
    warned = [event for event in bench.events if isinstance(event, Warned)]
    assert [(one.step, one.message[-34:]) for one in warned] == [
        ("count[other.txt]", "output.default stands in its place")
    ]
    assert {state for state, _ in bench.states(JUDGED).values()} == {"fresh"}
    assert counted() == 3
    changed = JUDGED.replace("      {%", "      Then {%")
    assert bench.states(changed)["told"][0] == "stale"
    assert bench.run(changed).outputs == {"told": f"Then {told}"}, "nothing runs to be judged again"
    assert counted() == 3


def test_an_output_that_fails_an_expectation_fails_the_step(bench):
    more = "    reads: []\n    expect: [{equals: b}]\n"
    assert failure(bench, step("echo", "a", more=more)).endswith("change what it runs, or expect:")
    assert run(bench, step("echo", "b", more=more)).outputs == {"a": "b"}


def test_an_output_is_judged_by_a_model_once(bench, counted, scripted):
    scripted('- {match: {text: a  one}, answer: {text: \'{"reason": "so", "score": 0.7}\'}}\n')
    flow = (
        f"poeflow: 1\nsteps:\n  count:\n    command: [{PYTHON}, count.py, a]\n"
        "    reads: [count.py, 'data/*.txt']\n"
        "    expect: [{judge: {rubric: Is it good?, model: Grok-4}}]\n"
        "  told: {render: '{{ steps.count.score }}'}\n"
    )
    planned = {one.id: one for one in bench.statuses(flow)}["count"].kinds
    assert [(one.purpose, one.model, one.least) for one in planned] == [("judge", "Grok-4", 1)]
    assert run(bench, flow).outputs == {"told": "0.7"}
    changed = flow.replace("told: {render: '", "told: {render: 'It has ")
    assert run(bench, changed, allow_tools=False).outputs == {"told": "It has 0.7"}
    assert (counted(), len(bench.simulator.requests)) == (1, 1)


def test_it_runs_again_where_it_ran_if_a_variable_has_another_value(bench, tmp_path_factory):
    flow = python(
        "import os; print(os.environ.get('TONGUE'), os.environ.get('GONE'))",
        more="    env: [TONGUE, GONE]\n    reads: []\n",
    )
    home = str(tmp_path_factory.mktemp("home"))

    def environ(**variables: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "POE_API_KEY": KEY, "HOME": home, **variables}

    german, french = environ(TONGUE="de-tongue"), environ(TONGUE="fr-tongue")
    assert run(bench, flow, environ=german).outputs == {"a": "de-tongue None"}
    assert bench.states(flow, environ=german) == {"a": ("fresh", ())}
    assert bench.states(flow, environ=environ()) == {"a": ("stale", ("env TONGUE changed",))}
    both = {**german, "GONE": ""}
    assert bench.states(flow, environ=both) == {"a": ("stale", ("env GONE changed",))}
    assert bench.locked(environ=french) == ["a: stale: env TONGUE changed"]
    assert run(bench, flow, environ=french).outputs == {"a": "fr-tongue None"}
    assert bench.states(flow, environ=french) == {"a": ("fresh", ())}
    lock = (bench.folder / "a.lock.json").read_text()
    assert "tongue" not in lock
    other = {"HOME": str(tmp_path_factory.mktemp("other"))}
    assert bench.states(flow, environ={**german, **other}) == {"a": ("fresh", ())}, "another key"
    bench.forget_answers()
    assert bench.states(flow, environ=german) == {"a": ("fresh", ())}, "the lock has no values"
    assert bench.locked(environ=german) == []


def test_all_that_would_run_is_named_with_its_step(bench):
    flow = """\
poeflow: 1
steps:
  first: {call: "words_of:count", reads: [], with: {}}
  last: {command: [rm, -rf, x], reads: []}
"""
    with pytest.raises(UsageError) as caught:
        bench.run(flow)
    assert caught.value.message == (
        "//a.yaml: step first runs Python functions of this project: words_of:count; "
        "//a.yaml: step last runs a command: rm -rf x"
    )
