"""`poeflow config`: the files, and each value with its origin, without keys."""

import json

import pytest

KEY = "canary-key-0123456789"
OWN = """\
max_requests = 50
media_hosts = ["pictures.example"]

[providers.local]
base_url = "http://127.0.0.1:1/v1"
key_variable = "LOCAL_KEY"
"""
PROJECT = """\
[defaults]
model = "writer"

[models.writer]
model = "Claude-Sonnet-4.5"
params = {temperature = 0.5}
"""


@pytest.fixture
def home(desk, tmp_path_factory):
    """A home with the user's own configuration, outside of the project."""
    folder = tmp_path_factory.mktemp("home")
    path = folder / ".config/poeflow/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(OWN)
    path.chmod(0o600)
    desk.environ["HOME"] = str(folder)
    return path


def shown(desk, *arguments: str, exit_code: int = 0) -> dict:
    done = desk.run("config", "--output", "json", *arguments)
    assert done.returncode == exit_code, done.stderr
    assert KEY not in done.stdout + done.stderr
    return json.loads(done.stdout)


def origins(document: dict) -> dict:
    settings = document["settings"]
    return {one["name"]: (one["value"], one["origin"], one["place"]) for one in settings}


def test_each_value_has_its_origin(desk, home):
    desk.write("poeflow.toml", PROJECT)
    env_file = desk.write("keys", f"LOCAL_KEY={KEY}\n")
    desk.environ["SSL_CERT_FILE"] = ""
    desk.environ |= {"POE_API_KEY": KEY, "HTTPS_PROXY": f"http://me:{KEY}@proxy.example:3128"}
    document = shown(desk, "--env-file", str(env_file))
    assert document["files"] == [
        {"owner": "yours", "path": str(home), "status": "read"},
        {"owner": "project", "path": f"{desk.folder}/poeflow.toml", "status": "read"},
        {"owner": "state", "path": f"{desk.folder}/.poeflow", "status": "not made yet"},
        {"owner": "keys", "path": str(env_file), "status": "read"},
    ]
    assert origins(document) == {
        "POE_API_KEY": ("present", "environment", "POE_API_KEY"),
        "LOCAL_KEY": ("present", ".env", str(env_file)),
        "server": ("https://api.poe.com/v1", "default", ""),
        "HTTPS_PROXY": ("http://[password]@proxy.example:3128", "environment", "HTTPS_PROXY"),
        "allow_tools": (False, "default", ""),
        "allow_unpriced": (False, "default", ""),
        "max_tokens": (None, "default", ""),
        "max_cost_usd": (None, "default", ""),
        "max_cost_usd_per_day": (None, "default", ""),
        "max_cost_usd_per_month": (None, "default", ""),
        "max_points": (None, "default", ""),
        "max_instances": (20000, "default", ""),
        "max_requests": (50, "user file", f"{home}:1"),
        "media_hosts": (["pictures.example"], "user file", f"{home}:2"),
        "providers.local.base_url": ("http://127.0.0.1:1/v1", "user file", f"{home}:5"),
        "providers.local.key_variable": ("LOCAL_KEY", "user file", f"{home}:6"),
        "defaults.model": ("writer", "project file", "poeflow.toml:2"),
        "models.writer.model": ("Claude-Sonnet-4.5", "project file", "poeflow.toml:5"),
        "models.writer.params.temperature": (0.5, "project file", "poeflow.toml:6"),
    }
    assert document["problems"] == []


def test_a_line_for_each_value(desk, home):
    desk.environ["POE_BASE_URL"] = "http://127.0.0.1:8000/v1"
    done = desk.run("config")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert (done.returncode, lines[:2]) == (0, ["files", f"yours {home} read"])
    for line in (
        "POE_API_KEY missing default",
        "server http://127.0.0.1:8000/v1 environment POE_BASE_URL",
        f"max_requests 50 user file {home}:1",
        "max_instances 20000 default",
    ):
        assert line in lines


def test_where_a_configuration_would_be(desk):
    done = desk.run("config")
    path = f"{desk.folder}/home/.config/poeflow/config.toml"
    words = " ".join(done.stdout.splitlines()[1].split())
    assert words == f"yours {path} missing; poeflow config --example prints one"


def test_without_a_home_there_is_none(desk):
    desk.environ |= {"HOME": "", "XDG_CONFIG_HOME": ""}
    first = shown(desk)["files"][0]
    assert first["status"] == "none: neither HOME nor POEFLOW_CONFIG is set"


def test_files_that_cannot_be_used_are_shown_with_the_reason(desk, home):
    home.write_text("max_requests = -1\n")
    document = shown(desk, exit_code=2)
    assert document["files"][0]["status"] == "not usable"
    assert len(document["problems"]) == 1
    assert str(home) in document["problems"][0]
    home.write_text(OWN)
    desk.write("poeflow.toml", "[limits]\nmax_request = 3\n")
    document = shown(desk, exit_code=3)
    assert document["files"][1]["status"] == "not usable"
    assert document["problems"][0].startswith("poeflow.toml:2:1: ")
    done = desk.run("config")
    assert (done.returncode, done.stderr.startswith("error: poeflow.toml:2:1: ")) == (3, True)


def test_an_unsafe_place_for_the_state_is_an_error(desk):
    desk.environ["POEFLOW_STATE_DIR"] = "state"
    document = shown(desk, exit_code=2)
    assert document["files"][2] == {"owner": "state", "path": "state", "status": "not usable"}


def test_a_key_that_cannot_be_one_is_not_shown(desk):
    desk.environ["POE_API_KEY"] = f"{KEY} {KEY}"
    row = next(one for one in shown(desk)["settings"] if one["name"] == "POE_API_KEY")
    assert (row["value"], row["is_set"]) == ("not usable", False)
