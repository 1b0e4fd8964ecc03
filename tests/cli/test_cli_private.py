"""Keys, private files and the user's own configuration, from the command line."""

import json
import os
import signal
import subprocess

import pytest

from poeflow.cli.commands.config import EXAMPLE
from poeflow.settings import ProviderConfig, UserConfig, read_config

KEY = "canary-key-0123456789"
HINT = "if a model may see it, name it on the command line: --allow-file PATH"
PRIVATE = f"//.env is private: dot files hold settings and keys; {HINT}"
ASK = "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n"
READ = "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: \"{{ read('//.env') }}\"}\n"


@pytest.fixture
def config(desk):
    """Return a function that writes the user's configuration."""

    def write(text: str) -> None:
        path = desk.write("home/.config/poeflow/config.toml", text)
        path.chmod(0o600)

    return write


@pytest.fixture
def outside(desk, tmp_path_factory):
    """Move the user's home out of the project, where it belongs."""
    home = tmp_path_factory.mktemp("home")
    desk.environ["HOME"] = str(home)

    def write(text: str) -> None:
        path = home / ".config/poeflow/config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)

    return write


def test_a_flow_reads_no_key_file(online, simulator):
    online.write(".env", f"POE_API_KEY={KEY}\n")
    online.write("a.yaml", READ)
    for command in (["check", "a.yaml"], ["run", "a.yaml", "--env-file", ".env"]):
        done = online.run(*command)
        assert done.returncode == 3
        assert f"a.yaml:3:40: {PRIVATE}" in done.stderr
        assert KEY not in done.stdout + done.stderr
    assert simulator.requests == ()


def test_the_user_may_name_it(online, simulator):
    online.write(".env", "COLOR=red\n")
    online.write("a.yaml", READ)
    for command in ("check", "plan", "status", "run"):
        assert online.run(command, "a.yaml", "--allow-file", ".env").returncode == 0
    assert simulator.requests[0].json["messages"][0]["content"] == "COLOR=red\n"
    done = online.run("run", "a.yaml", "--allow-file", ".evn")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --allow-file .evn: no such file\n  check the path\n",
    )


def test_the_file_of_the_key_is_read_by_no_flow_whatever_its_name(desk, simulator):
    desk.environ["POE_BASE_URL"] = simulator.base_url
    desk.write("settings.txt", f"POE_API_KEY={KEY}\n")
    desk.write("a.yaml", READ.replace(".env", "settings.txt"))
    done = desk.run("run", "a.yaml", "--env-file", "settings.txt")
    assert done.returncode == 3
    assert f"//settings.txt is private: it is the file of --env-file; {HINT}" in done.stderr
    desk.write("a.yaml", ASK)
    assert desk.run("run", "a.yaml", "--env-file", "settings.txt").returncode == 0


def test_a_flow_in_a_dot_folder_reads_beside_itself(desk):
    desk.write(".github/flows/a.yaml", READ.replace("//.env", "b.md"))
    desk.write(".github/flows/b.md", "text")
    desk.write(".github/flows/.env", "text")
    assert desk.run("run", ".github/flows/a.yaml", "--offline").returncode == 0
    desk.write(".github/flows/a.yaml", READ.replace("//.env", ".env"))
    assert desk.run("check", ".github/flows/a.yaml").returncode == 3


def test_a_key_given_as_an_input_is_not_sent(online, simulator):
    asking = ASK.replace("steps:", "inputs: {x: {}}\nsteps:")
    online.write("a.yaml", asking.replace("hi", "'{{ inputs.x }}'"))
    done = online.run("run", "a.yaml", "--input", f"x={KEY}")
    assert (done.returncode, done.stdout, simulator.requests) == (1, "", ())
    assert "the request holds an API key, which goes nowhere" in done.stderr
    assert KEY not in done.stderr
    shown = online.run("plan", "a.yaml", "--input", f"x={KEY}", "--output", "json")
    assert KEY not in shown.stdout + shown.stderr


def test_a_key_of_the_file_is_masked_in_errors_too(desk):
    desk.write("keys.env", f"POE_API_KEY={KEY}\n")
    done = desk.run("run", f"{KEY}.yaml", "--env-file", "keys.env")
    assert done.stderr.startswith("error: [key].yaml: no such file\n")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_bytes(b"POE_API_KEY=\xff\n"), "is not UTF-8 text"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: None, "no such file"),
    ],
)
def test_a_file_of_keys_that_is_none(desk, make, told):
    desk.write("a.yaml", ASK)
    make(desk.folder / "keys.env")
    done = desk.run("run", "a.yaml", "--env-file", "keys.env")
    assert done.returncode == 2
    assert told in done.stderr


def test_a_pipe_brings_the_key(online):
    online.write("a.yaml", ASK)
    read, write = os.pipe()
    os.write(write, f"POE_API_KEY={KEY}\n".encode())
    os.close(write)
    environ = {name: value for name, value in online.env().items() if name != "POE_API_KEY"}
    done = subprocess.run(
        online.command("run", "a.yaml", "--env-file", f"/dev/fd/{read}"),
        cwd=online.folder,
        env=environ,
        pass_fds=(read,),
        capture_output=True,
        timeout=30,
        check=False,
    )
    os.close(read)
    assert (done.returncode, done.stderr.count(b"answered")) == (0, 1)


class TestServersOfOnesOwn:
    LOCAL = ASK.replace("prompt: hi", "prompt: hi, provider: local")

    def test_any_key_will_do(self, online, simulator):
        online.environ["POE_API_KEY"] = "x"
        online.write("a.yaml", ASK)
        online.write("b.yaml", ASK)
        done = online.run("run", "a.yaml", "b.yaml")
        assert done.returncode == 0
        told = "warning: the key in POE_API_KEY is shorter than 8 characters, and so is not masked"
        assert done.stderr.count(told) == 1

    @pytest.mark.parametrize("more", ["", "key = 'none'\n", "key_variable = 'LOCAL_KEY'\n"])
    def test_none_will_do_on_this_machine(self, desk, outside, more):
        from poeflow.simulator.server import Simulator

        with Simulator() as simulator:
            outside(f"[providers.local]\nbase_url = '{simulator.base_url}'\n{more}")
            desk.write("a.yaml", self.LOCAL)
            done = desk.run("run", "a.yaml")
            assert (done.returncode, done.stderr.count("warning")) == (0, 0)
            assert "authorization" not in simulator.requests[0].headers

    def test_its_key_is_sent_where_there_is_one(self, desk, outside, simulator):
        outside(
            f"[providers.local]\nbase_url = '{simulator.base_url}'\nkey_variable = 'LOCAL_KEY'\n"
        )
        desk.environ["LOCAL_KEY"] = KEY
        desk.write("a.yaml", self.LOCAL)
        assert desk.run("run", "a.yaml").returncode == 0
        assert simulator.requests[0].headers["authorization"] == "Bearer [key]"

    def test_its_key_comes_from_the_file_too(self, desk, outside, simulator):
        outside(
            f"[providers.local]\nbase_url = '{simulator.base_url}'\nkey_variable = 'LOCAL_KEY'\n"
        )
        desk.write("keys.env", f"LOCAL_KEY={KEY}\nOTHER=1\n")
        desk.write("a.yaml", self.LOCAL)
        assert desk.run("run", "a.yaml", "--env-file", "keys.env").returncode == 0
        assert simulator.requests[0].headers["authorization"] == "Bearer [key]"

    def test_a_missing_key_is_told_with_the_provider(self, desk, outside):
        outside(
            "[providers.local]\nbase_url = 'https://x.example/v1'\nkey_variable = 'LOCAL_KEY'\n"
        )
        desk.write("a.yaml", self.LOCAL)
        done = desk.run("run", "a.yaml")
        assert (done.returncode, done.stderr) == (
            5,
            (
                "error: there is no API key in LOCAL_KEY, and nothing was answered before\n"
                "  set LOCAL_KEY, the key of provider local\n"
            ),
        )

    def test_a_missing_key_for_another_address_names_it(self, desk):
        desk.environ["POE_BASE_URL"] = "http://127.0.0.1:9/v1"
        desk.write("a.yaml", ASK)
        done = desk.run("run", "a.yaml")
        assert (done.returncode, done.stderr) == (
            5,
            (
                "error: there is no API key in POE_API_KEY, and nothing was answered before\n"
                "  set it to the key of http://127.0.0.1:9/v1 (any word, if that needs none;"
                " those of Poe are at https://poe.com/api_key), or try it with --offline\n"
            ),
        )

    @pytest.mark.parametrize("provider", ["poe", "local"])
    def test_plain_http_beyond_this_machine(self, desk, outside, provider):
        url = "http://poeflow-test.invalid:9/v1"
        desk.environ |= {"POE_API_KEY": KEY, "POE_BASE_URL": url}
        outside(f"[providers.local]\nbase_url = '{url}'\n")
        desk.write("a.yaml", ASK if provider == "poe" else self.LOCAL)
        done = desk.run("run", "a.yaml")
        where = "POE_BASE_URL" if provider == "poe" else provider
        assert (done.returncode, done.stderr) == (
            2,
            (
                f"error: {where}, http://poeflow-test.invalid:9, is not encrypted\n"
                "  use https; or, if the network is your own, write allow_insecure = true under"
                f" [providers.{provider}] in your own configuration (`poeflow config` says where)\n"
            ),
        )
        outside(
            f"[providers.local]\nbase_url = '{url}'\nallow_insecure = true\n"
            "[providers.poe]\nallow_insecure = true\n"
        )
        desk.write("a.yaml", desk.folder.joinpath("a.yaml").read_text() + "    \n")
        assert "is not encrypted" not in desk.run("plan", "a.yaml").stderr

    def test_a_gateway_that_is_the_same_server_keeps_all_current(self, online, outside, simulator):
        online.write("a.yaml", ASK)
        assert online.run("run", "a.yaml").returncode == 0
        moved = online.run("run", "a.yaml", "--locked")
        assert moved.returncode == 0
        del online.environ["POE_BASE_URL"]
        assert online.run("run", "a.yaml", "--locked").returncode == 4
        outside(f"[providers.poe]\nsame_as = ['{simulator.base_url}']\n")
        online.environ["POE_BASE_URL"] = simulator.base_url
        assert online.run("run", "a.yaml").returncode == 0
        assert online.run("run", "a.yaml", "--locked").returncode == 0
        del online.environ["POE_BASE_URL"]
        assert online.run("run", "a.yaml", "--locked").returncode == 0


class TestConfiguration:
    def test_the_example_is_one(self, desk, tmp_path):
        assert desk.run("config", "--example").stdout == EXAMPLE
        path = desk.write("example.toml", EXAMPLE)
        assert read_config(path, project_root=None) == UserConfig(
            max_requests=500,
            max_cost_usd_per_day=5.0,
            max_cost_usd_per_month=50.0,
            max_instances=20000,
            providers={
                "local": ProviderConfig(base_url="http://127.0.0.1:11434/v1"),
                "poe": ProviderConfig(),
            },
        )

    def test_every_key_is_in_the_example(self):
        for name in (*UserConfig.__struct_fields__, *ProviderConfig.__struct_fields__):
            assert name in EXAMPLE or name == "key", name

    @pytest.mark.skipif(os.getuid() != 0, reason="needs to be somebody else")
    def test_somebody_elses_home_is_no_fault(self, online):
        home = online.folder / "other"
        online.write("other/.config/poeflow/config.toml", "max_requests = 0\n").chmod(0o600)
        os.chown(home / ".config/poeflow/config.toml", 54321, 54321)
        online.environ["HOME"] = str(home)
        online.write("a.yaml", ASK)
        told = "belongs to another user; it is not used (another is named with POEFLOW_CONFIG)"
        for command in (["plan"], ["run"], ["run", "--locked"], ["status"]):
            done = online.run(*command, "a.yaml")
            assert (done.returncode, done.stderr.count(told)) == (0, 1), done.stderr

    def test_one_that_is_named_must_be_there(self, desk):
        desk.environ["POEFLOW_CONFIG"] = "/nowhere/config.toml"
        desk.write("a.yaml", ASK)
        done = desk.run("plan", "a.yaml")
        assert (done.returncode, done.stderr) == (
            2,
            (
                "error: POEFLOW_CONFIG: /nowhere/config.toml: no such file\n"
                "  write it (see `poeflow config`), or unset POEFLOW_CONFIG\n"
            ),
        )


class TestWhatFlowsShare:
    def test_all_commands_see_it(self, online):
        online.write("poeflow.toml", '[defaults]\nmodel = "GPT-5.2"\n[limits]\nmax_requests = 0\n')
        online.write("a.yaml", "poeflow: 1\nsteps:\n  a: {prompt: hi}\n")
        online.write("b.yaml", "poeflow: 1\nsteps:\n  b: {prompt: hi}\n")
        assert online.run("check").stderr == "2 flows ok\n"
        planned = json.loads(online.run("plan", "a.yaml", "--output", "json").stdout)
        assert [one["model"] for one in planned] == ["GPT-5.2"]
        assert online.run("run", "a.yaml").returncode == 9
        online.write("poeflow.toml", "[defaults]\nmodle = 'GPT-5.2'\nallow_tools = true\n")
        for command in ("check", "plan", "status", "run"):
            done = online.run(command, "a.yaml")
            assert done.returncode == 3
            told = 'poeflow.toml:2:1: unknown key "modle"; did you mean "model"?'
            assert done.stderr.count(told) == 1
        assert online.run("check").stderr.count(told) == 1


@pytest.mark.parametrize("command", ["check", "plan", "status", "run"])
def test_a_key_in_the_flow_itself_is_not_shown(online, command):
    online.write("a.yaml", f"poeflow: 1\n{KEY}: 1\nsteps:\n  a: {{model: GPT-5.2, prompt: hi}}\n")
    done = online.run(command, "a.yaml")
    assert (done.returncode, KEY in done.stdout + done.stderr) == (3, False)
    assert 'unknown key "[key]"' in done.stderr
    found = online.run("check", "a.yaml", "--output", "json")
    assert json.loads(found.stdout)[0]["message"] == 'unknown key "[key]"'


def test_a_session_takes_its_key_from_a_file_and_sees_what_flows_share(desk, simulator):
    desk.environ["POE_BASE_URL"] = simulator.base_url
    desk.write("keys.env", f"POE_API_KEY={KEY}\n")
    desk.write("poeflow.toml", '[defaults]\nmodel = "GPT-5.2"\n')
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {prompt: hi}\n")
    watching = subprocess.Popen(
        desk.command("watch", "a.yaml", "--env-file", "keys.env"),
        cwd=desk.folder,
        env=desk.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert watching.stdout is not None
    with watching.stdout as lines:
        assert any(line.startswith("1 asked in ") for line in lines)
        desk.write("poeflow.toml", '[defaults]\nmodel = "Claude-Sonnet-4.5"\n')
        assert any("poeflow.toml changed" in line for line in lines)
        assert any(line.startswith("1 asked in ") for line in lines)
        watching.send_signal(signal.SIGINT)
        lines.read()
    assert watching.wait(timeout=10) == 130
    assert [one.json["model"] for one in simulator.requests] == ["GPT-5.2", "Claude-Sonnet-4.5"]
    assert {one.headers["authorization"] for one in simulator.requests} == {"Bearer [key]"}


IN_PLACES = {
    "a model": f"  a: {{model: {KEY}, prompt: hi}}\n",
    "an alias": f"  a: {{model: w, prompt: hi}}\nmodels: {{w: {KEY}}}\n",
    "a tool": f"  a: {{model: GPT-5.2, prompt: hi, tools: [{{name: f, run: '{KEY}:f'}}]}}\n",
    "a file": f"  a: {{model: GPT-5.2, prompt: {{file: {KEY}.md}}}}\n",
    "a save": f"  a: {{model: GPT-5.2, prompt: hi, output: {{save: {KEY}.md}}}}\n",
    "an output": f"  a: {{model: GPT-5.2, prompt: hi}}\noutputs: {{{KEY.replace('-', '_')}: x}}\n",
    "an item": f"  a: {{model: GPT-5.2, prompt: hi, for_each: [{KEY}]}}\n",
}


@pytest.mark.parametrize("source", ["environment", "file", "provider"])
@pytest.mark.parametrize("place", IN_PLACES)
def test_no_report_for_ci_holds_a_key(online, outside, tmp_path_factory, place, source):
    summary = tmp_path_factory.mktemp("ci") / "summary.md"
    online.environ |= {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_ACTIONS": "true"}
    online.write("a.yaml", f"poeflow: 1\nsteps:\n{IN_PLACES[place]}")
    extra = []
    if source != "environment":
        online.environ["POE_API_KEY"] = "another-key-0123456789"
    if source == "file":
        keys = summary.with_name("keys")
        keys.write_text(f"POE_API_KEY={KEY}\n")
        extra = ["--env-file", str(keys)]
    if source == "provider":
        outside("[providers.x]\nbase_url = 'https://x.example'\nkey_variable = 'MINE'\n")
        online.environ["MINE"] = KEY
    done = online.run("run", "a.yaml", "--output", "github", "--junit", "j.xml", *extra)
    written = [online.folder / "j.xml", summary, *(online.folder / ".poeflow").rglob("*")]
    shown = [path.read_bytes() for path in written if path.is_file()]
    assert not any(KEY.encode() in one for one in [*shown, (done.stdout + done.stderr).encode()])


@pytest.mark.parametrize("notation", ["mermaid", "dot"])
def test_a_drawing_holds_no_key(online, notation):
    online.write("a.yaml", f"poeflow: 1\nsteps:\n{IN_PLACES['a model']}")
    done = online.run("graph", "a.yaml", "--format", notation)
    assert (done.returncode, "[key]" in done.stdout, KEY in done.stdout) == (0, True, False)
