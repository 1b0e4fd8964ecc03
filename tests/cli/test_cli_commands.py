"""The other commands: check, init, schema, version, help, completion, and a bug's report."""

import json
import subprocess
import sys

import pytest

from poeflow.simulator.script import read_script

BAD = """\
poeflow: 1
steps:
  draft:
    model: GPT-5.2
    prompt: Write about {{ inputs.topic }}.
  page:
    render: "{{ steps.draff.text }}"
"""


def test_check_finds_everything_at_its_place_without_a_key(desk):
    desk.write("flows/bad.yaml", BAD)
    done = desk.run("check", "flows")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        'flows/bad.yaml:5:35: unknown input "topic"; there are none',
        'flows/bad.yaml:7:23: unknown step "draff"; did you mean "draft"?',
        "2 problems in 1 flow",
    ]
    assert done.stdout == ""


def test_check_as_json_is_for_tools(desk):
    desk.write("bad.yaml", BAD)
    done = desk.run("check", "bad.yaml", "--output", "json")
    first = json.loads(done.stdout)[0]
    assert first["place"] == {"path": "bad.yaml", "line": 5, "column": 35}
    assert first["message"] == 'unknown input "topic"'


def test_check_takes_globs_and_says_what_is_sound(desk):
    flow = "poeflow: 1\nsteps:\n  a: {render: hi}\n"
    desk.write("one.yaml", flow)
    desk.write("two.yaml", flow)
    desk.write("data.yaml", "rows: []\n")
    done = desk.run("check", "*o*.yaml")
    assert (done.returncode, done.stderr) == (0, "2 flows ok\n")
    assert desk.run("check").stderr == "2 flows ok\n"


def test_strict_makes_warnings_errors(desk):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a:\n    model: GPT-5.2\n    prompt: hi # there\n")
    assert desk.run("check", "a.yaml").returncode == 0
    assert desk.run("check", "a.yaml", "--strict").returncode == 3


def test_init_writes_a_flow_that_is_sound_and_runs(desk):
    done = desk.run("init", "first.yaml")
    assert (done.returncode, done.stdout) == (0, "wrote first.yaml\n")
    assert desk.files() == ["first.yaml", "flow.schema.json", "poeflow.toml"]
    assert desk.run("check", "first.yaml").stderr == "1 flow ok\n"
    assert desk.run("run", "first.yaml", "--offline").returncode == 0


def test_init_keeps_one_schema_for_all_folders(desk):
    assert desk.run("init", "flows/a.yaml").returncode == 0
    assert desk.run("init", "flows/more/b.yaml").returncode == 0
    assert desk.files() == [
        "flow.schema.json",
        "flows/a.yaml",
        "flows/more/b.yaml",
        "poeflow.toml",
    ]
    first = (desk.folder / "flows/more/b.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../../flow.schema.json"


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize("option", ["--max-cost-usd", "--max-cost-usd-per-day", "--wait"])
def test_a_limit_is_a_finite_number(desk, option, number):
    done = desk.run("run", "a.yaml", option, number)
    assert done.returncode == 2
    assert f"'{option}': {number} is not a finite number" in done.stderr


def test_init_overwrites_nothing(desk):
    desk.write("first.yaml", "mine")
    done = desk.run("init", "first.yaml")
    assert done.returncode == 2
    assert (desk.folder / "first.yaml").read_text() == "mine"


def test_init_sets_up_the_workflow_of_github_once(desk):
    done = desk.run("init", "--github")
    written = [
        ".github/actions/poeflow/action.yml",
        ".github/actions/poeflow/action.py",
        ".github/workflows/poeflow.yml",
    ]
    assert done.stdout.splitlines() == [f"wrote {name}" for name in written]
    assert "the secret POE_API_KEY" in done.stderr
    assert desk.files() == sorted([*written, "poeflow.toml"]), "no flow is written"
    desk.write(written[2], "mine")
    (desk.folder / written[0]).unlink()
    done = desk.run("init", "--github")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{written[1]} is there already" in done.stderr
    assert not (desk.folder / written[0]).exists()


def test_init_writes_no_workflow_through_a_link(desk, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (desk.folder / ".github").symlink_to(elsewhere)
    done = desk.run("init", "--github")
    assert (done.returncode, list(elsewhere.iterdir())) == (8, [])
    assert "is a link; nothing is written through it" in done.stderr


def test_schema_prints_the_contract(desk):
    schema = json.loads(desk.run("schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_schema_prints_that_of_scripts_and_one_thing_at_a_time(desk):
    schema = json.loads(desk.run("schema", "--script").stdout)
    assert schema["$id"].endswith("/simulator-script.schema.json")
    done = desk.run("schema", "--script", "--events")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--events and --script are several things\n  give one of them" in done.stderr


def test_the_script_in_the_help_of_simulate_is_one(desk):
    lines = desk.run("simulate", "--help").stdout.splitlines()
    begin = lines.index("    simulator: 1")
    script = "\n".join(line[4:] for line in lines[begin : lines.index("", begin)])
    rules = read_script(desk.write("script.yaml", script)).rules
    assert [one.rule.answer.text for one in rules] == ["The Elbe.", None]


@pytest.mark.parametrize("group", ["cache", "lock"])
def test_a_group_without_a_command_shows_its_commands(desk, group):
    done = desk.run(group)
    shown = done.stdout + done.stderr
    assert shown.lower().startswith(f"usage: poeflow {group} ")
    assert "Commands:" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rum",), 'error: no such command "rum"; did you mean "run"?'),
        (("run",), "error: missing argument 'FLOW[:STEP[@KEY]]...'."),
        (("run", "nope.yaml"), "error: nope.yaml: no such file"),
        (("run", "."), "error: . is a folder"),
        (("run", "a.yaml", "--offlin"), "error: no such option --offlin"),
        (("check", "*.nothing"), "error: *.nothing: nothing matches"),
        (
            ("plan", "a.yaml", "--max-cost-usd-per-day", "x"),
            "error: invalid value for '--max-cost-usd-per-day': 'x' is not a number",
        ),
        (
            ("run", "a.yaml", "--concurrency", "1.5"),
            "error: invalid value for '--concurrency': '1.5' is not a whole number",
        ),
    ],
)
def test_a_usage_error_says_what_and_ends_with_2(desk, arguments, message):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {render: hi}\n")
    done = desk.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(message)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "a.yaml", "--offlin"), 'did you mean "--offline"?'),
        (
            ("run", "a.yaml", "--quiet"),
            "progress goes to stderr, results to stdout: 2>/dev/null",
        ),
        (("run", "a.yaml", "--dry-run"), "poeflow plan FLOW says what a run would do"),
        (("run", "a.yaml", "-i", "a=b"), "an input is --input NAME=VALUE"),
        (("graph", "a.yaml", "-i", "a=b"), "see `poeflow graph --help`"),
        (
            ("run", "a.yaml", "--verbose"),
            "every event: --output jsonl; of an answer: poeflow show last/STEP",
        ),
        (("run", "a.yaml", "--export"), "poeflow report RUN --html FILE"),
        (("run", "a.yaml", "--mock"), "--offline asks a local stand-in"),
        (("run", "a.yaml", "-w"), "poeflow watch FLOW runs it again when a file changes"),
        (("--dry-run", "a.yaml"), "poeflow plan FLOW says what a run would do"),
        (
            ("-i", "a=b", "run", "a.yaml"),
            "behind the command, as in poeflow run FLOW: an input is --input NAME=VALUE",
        ),
        (("run", "a.yaml", "--zzz"), "see `poeflow run --help`"),
    ],
)
def test_an_option_that_is_not_there_leads_to_the_right_one(desk, arguments, told):
    done = desk.run(*arguments)
    (option,) = (one for one in arguments if one.startswith("-"))
    assert (done.returncode, done.stderr) == (2, f"error: no such option {option}\n  {told}\n")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("chek", 'did you mean "check"?'),
        ("test", "poeflow check finds mistakes, poeflow run --locked proves a flow current"),
        ("ls", "poeflow history lists the runs"),
        ("pin", "poeflow run writes the lock, poeflow run --locked proves a flow current"),
        (
            "export",
            "poeflow report RUN --html FILE writes a page, poeflow cache export FILE the answers",
        ),
        ("notes.yaml", "poeflow run notes.yaml runs a flow"),
        ("flows/a.yaml:draft", "poeflow run flows/a.yaml:draft runs a flow"),
        ("frobnicate", "see `poeflow --help`"),
    ],
)
def test_a_command_that_is_not_there_leads_to_the_right_one(desk, name, told):
    assert desk.run(name).stderr == f'error: no such command "{name}"; {told}\n'


def test_ctrl_c_while_python_imports_ends_at_once(desk):
    interrupting = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    desk.write(
        "lib/click.py",
        f"try:\n    {interrupting.replace(chr(10), chr(10) + '    ')}\n"
        "except BaseException: pass\n",
    )
    code = "from poeflow.cli.start import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**desk.env(), "PYTHONPATH": str(desk.folder / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


DEEP_CALLS = """\
import os, resource

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def leaf():
    pass

def most(depth):
    before = faults()
    for _ in range(200):
        leaf()
    here = faults() - before
    return here if depth == 0 else max(here, most(depth - 1))

print(most(400))
os._exit(0)
"""


def test_no_depth_of_calls_costs_memory_for_each_call(desk):
    desk.write("lib/click.py", DEEP_CALLS)
    done = subprocess.run(
        [sys.executable, "-c", "from poeflow.cli.start import script; script()"],
        env={**desk.env(), "PYTHONPATH": str(desk.folder / "lib")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 100


def test_version(desk):
    assert desk.run("--version").stdout == "poeflow 0.2.0\n"


def test_version_imports_next_to_nothing():
    code = (
        "import sys; sys.argv = ['poeflow', '--version'];"
        "from poeflow.cli.start import main; main();"
        "print(sorted({m.partition('.')[0] for m in sys.modules}"
        " & {'click', 'yaml', 'jinja2', 'msgspec', 'httpx', 'asyncio', 'rich', 'jsonschema'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "poeflow 0.2.0\n[]\n"


def test_run_imports_only_what_one_prompt_needs():
    code = (
        "import sys, poeflow.cli.commands.run;"
        "print(sorted({m.partition('.')[0] for m in sys.modules}"
        " & {'h11', 'httpx', 'email', 'jsonschema', 'difflib', 're2', 'watchfiles'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_garbage_is_collected_once_a_command_is_loaded():
    code = (
        "import gc; gc.disable(); from poeflow.cli.main import poeflow;"
        "poeflow.get_command(None, 'schema'); print(gc.isenabled(), gc.get_freeze_count() > 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(desk, shell):
    done = desk.run("completion", shell)
    assert done.returncode == 0
    assert "_POEFLOW_COMPLETE" in done.stdout


def test_a_bug_is_reported_as_one_with_a_scrubbed_file(desk):
    key = "canary-key-0123456789"
    desk.environ |= {"POE_API_KEY": key, "TMPDIR": str(desk.folder)}
    code = (
        "import os, sys, click\n"
        "from poeflow.cli.exit_codes import command_end\n"
        "@click.command()\n"
        "def broken():\n"
        "    raise ZeroDivisionError(os.environ['POE_API_KEY'])\n"
        "with command_end() as end:\n"
        "    broken.main([], standalone_mode=False, obj=end.keys)\n"
        "sys.exit(end.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=desk.folder,
        env=desk.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 70
    assert "this is a bug in poeflow (ZeroDivisionError)" in done.stderr
    assert "Traceback" not in done.stderr
    (report,) = desk.folder.glob("poeflow-bug-*.txt")
    text = report.read_text()
    assert "ZeroDivisionError: [key]" in text
    assert key not in text + done.stderr


ASCII = {"LC_ALL": "POSIX", "LANG": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The locale of bare containers, where Python cannot name a file but in ASCII."""


def test_in_an_ascii_locale_a_file_that_cannot_be_named_is_a_problem(desk):
    desk.environ |= ASCII
    desk.write("d/é.md", "x")
    desk.write(
        "a.yaml",
        "poeflow: 1\nsteps:\n"
        "  saved: {render: x, output: {save: out/é.md}}\n"
        "  read: {render: \"{{ read('d/é.md') }}\"}\n"
        "  found: {for_each: \"glob('d/*.md')\", render: x}\n",
    )
    done = desk.run("check", "a.yaml")
    hint = "set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
    assert (done.returncode, done.stderr.splitlines()) == (
        3,
        [
            f"a.yaml:3:37: out/é.md: this locale has no such file names; {hint}",
            f"a.yaml:4:27: d/é.md: this locale has no such file names; {hint}",
            rf"a.yaml:5:27: //d/\udcc3\udca9.md: the name is not UTF-8; {hint}, or rename it",
            "3 problems in 1 flow",
        ],
    )


def test_in_an_ascii_locale_texts_are_written_as_they_are(desk):
    desk.environ |= ASCII
    desk.write("ü.yaml", "poeflow: 1\nsteps:\n  a: {render: é, output: {save: a.md}}\n")
    done = desk.run("run", "ü.yaml", "--offline")
    assert (done.returncode, done.stdout) == (0, "é\n")
    assert desk.run("init", "new/é.yaml").returncode == 0
    assert desk.run("check", "new/é.yaml").returncode == 0


@pytest.mark.parametrize("name", ["true.yaml", "1.0.yaml", "a: b.yaml", "- x.yaml"])
def test_init_writes_a_sound_flow_whatever_its_name(desk, name):
    assert desk.run("init", f"./{name}").returncode == 0
    assert desk.run("check", f"./{name}").returncode == 0


def test_more_problems_than_are_told_are_counted_as_over_that(desk):
    steps = "".join(
        f'  s{n}: {{render: "{{{{ steps.none }}}}", needs: [t{n}]}}\n' for n in range(300)
    )
    desk.write("a.yaml", f"poeflow: 1\nsteps:\n{steps}")
    done = desk.run("check", "a.yaml")
    lines = done.stderr.splitlines()
    assert (done.returncode, lines[-1]) == (3, "over 200 problems in 1 flow")
    assert len(lines) == 202
    assert sum("there are more problems" in line for line in lines) == 1


SAVING = "poeflow: 1\nsteps:\n  {step}: {{render: x, output: {{save: {path}}}}}\n"


def test_flows_of_one_command_write_each_file_once(desk):
    desk.write("f.yaml", SAVING.format(step="a", path="out/x.md"))
    desk.write("flows/g.yaml", SAVING.format(step="b", path="//out/X.md"))
    desk.write("h.yaml", SAVING.format(step="c", path="out/y.md"))
    hint = "give each step a path of its own; one of a used flow may hold an input"
    told = f"flows/g.yaml:3:33: //out/X.md is written by step a of f.yaml too; {hint}"
    done = desk.run("check", "f.yaml", "flows/g.yaml", "h.yaml")
    assert (done.returncode, done.stderr.splitlines()) == (3, [told, "1 problem in 3 flows"])
    done = desk.run("run", "--offline", "f.yaml", "flows/g.yaml", "h.yaml")
    assert (done.returncode, done.stderr.splitlines()) == (3, [told])
    assert not (desk.folder / ".poeflow/offline/out").exists()
    assert desk.run("check", "f.yaml", "h.yaml").returncode == 0


def test_a_used_flow_beside_its_user_does_not_write_against_itself(desk):
    desk.write("flows/u.yaml", "poeflow: 1\nsteps: {used: {use: parts/sub.yaml}}\n")
    sub = SAVING.format(step="s", path="../../out/sub.md")
    desk.write("flows/parts/sub.yaml", sub)
    for flows in ([], ["flows/parts/sub.yaml", "flows/u.yaml"]):
        done = desk.run("check", *flows)
        assert (done.returncode, done.stderr) == (0, "2 flows ok\n")
    desk.write("flows/v.yaml", "poeflow: 1\nsteps: {also: {use: parts/sub.yaml}}\n")
    for flows in ([], ["flows/parts/sub.yaml", "flows/u.yaml", "flows/v.yaml"]):
        done = desk.run("check", *flows)
        assert (done.returncode, done.stderr.count(" is written by step used/s")) == (3, 1)
    (desk.folder / "flows/v.yaml").unlink()
    desk.write("w.yaml", SAVING.format(step="s", path="out/sub.md"))
    done = desk.run("check")
    assert (done.returncode, done.stderr.count(" is written by step ")) == (3, 1), done.stderr


def test_flows_of_one_command_have_a_lock_each(desk):
    desk.write("f.yaml", SAVING.format(step="a", path="a.md"))
    desk.write("f.yml", SAVING.format(step="b", path="b.md"))
    told = "f.yml:1:1: f.yml and f.yaml have one lock file, as only their endings differ"
    done = desk.run("check", "f.yaml", "f.yml")
    assert done.stderr.splitlines() == [f"{told}; rename one of them", "1 problem in 2 flows"]


@pytest.mark.parametrize(
    "flow",
    [
        '{"poeflow": 1, "steps": {"a": {"prompt": "no model"}}}',
        "---\n{steps: {a: {prompt: no model}},\n poeflow: 1}\n",
        "  'poeflow' : 1\n  steps: {a: {prompt: no model}}\n",
        "\ufeff# a flow\npoeflow: 1\nsteps: {a: {prompt: no model}}\n",
        "poeflow: 1\nsteps: [\n",
        '{"poeflow": 1, "steps": {\n',
    ],
)
def test_a_flow_in_a_folder_is_found_however_it_is_written(desk, flow):
    desk.write("f.yaml", flow)
    named = desk.run("check", "f.yaml")
    assert named.returncode == 3
    assert desk.run("check", ".").stderr == named.stderr


@pytest.mark.parametrize("text", ["a:\n  poeflow: 1\n", "a: |\n  poeflow: 1\n", "poeflows: 1\n"])
def test_what_only_speaks_of_poeflow_is_no_flow(desk, text):
    desk.write("f.yaml", text)
    assert "no flow in this folder" in desk.run("check", ".").stderr


def test_a_flow_whose_name_is_in_another_unicode_form(desk):
    desk.write("cafe\u0301.yaml", "poeflow: 1\nsteps:\n  a: {render: x}\n")
    done = desk.run("check", "caf\u00e9.yaml")
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            "error: caf\u00e9.yaml: no such file",
            "  a file's name differs from it in Unicode form only; let the shell complete it",
        ],
    )
    assert desk.run("check", "caf\u00e9*.yaml").returncode == 0
