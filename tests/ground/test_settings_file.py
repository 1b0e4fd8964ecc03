"""The user's own configuration: read strictly, and never out of a project."""

import os
from pathlib import Path

import pytest

from poeflow.errors import AccountError, UsageError
from poeflow.settings import (
    ProviderConfig,
    UserConfig,
    api_key_from,
    child_environment,
    config_path,
    find_config,
    key_variables,
    known_keys,
    read_config,
)


@pytest.fixture
def write(tmp_path):
    def written(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "home/config.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return written


def read(path: Path | None) -> UserConfig:
    return read_config(path, project_root=Path("/nowhere/project"))


def test_where_it_is_looked_for():
    assert config_path({"POEFLOW_CONFIG": "/a/b.toml", "HOME": "/h"}) == Path("/a/b.toml")
    assert config_path({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/poeflow/config.toml")
    assert config_path({"HOME": "/h"}) == Path("/h/.config/poeflow/config.toml")
    assert config_path({}) is None


def test_without_a_file_there_are_the_defaults(tmp_path):
    assert read(None) == UserConfig()
    assert read(tmp_path / "none.toml") == UserConfig()


def test_everything_it_may_say(write):
    path = write(
        "allow_tools = true\nallow_unpriced = true\nmedia_hosts = ['cdn.example']\n"
        "max_requests = 1\nmax_tokens = 2\nmax_cost_usd = 3.5\nmax_points = 4\n"
        "max_cost_usd_per_day = 5\nmax_cost_usd_per_month = 60.5\n"
        "[providers.mine]\nbase_url = 'http://127.0.0.1:8000/v1'\nkey_variable = 'MINE'\n"
        "requests_per_minute = 5\nconcurrency = 6\nresponse_format = true\n"
        "same_as = ['https://gateway.example/v1']\nallow_insecure = true\n"
        "[providers.free]\nbase_url = 'http://lan:8000/v1'\nkey = 'none'\n"
        "[providers.poe]\nsame_as = ['https://poe.example/v1']\nallow_insecure = true\n"
    )
    assert read(path) == UserConfig(
        allow_tools=True,
        allow_unpriced=True,
        media_hosts=("cdn.example",),
        max_requests=1,
        max_tokens=2,
        max_cost_usd=3.5,
        max_points=4,
        max_cost_usd_per_day=5,
        max_cost_usd_per_month=60.5,
        providers={
            "mine": ProviderConfig(
                base_url="http://127.0.0.1:8000/v1",
                key_variable="MINE",
                requests_per_minute=5,
                concurrency=6,
                response_format=True,
                same_as=("https://gateway.example/v1",),
                allow_insecure=True,
            ),
            "free": ProviderConfig(base_url="http://lan:8000/v1", key="none"),
            "poe": ProviderConfig(same_as=("https://poe.example/v1",), allow_insecure=True),
        },
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = \n", r"config\.toml:1: this is not TOML"),
        (f"max_requests = {'9' * 5_000}\n", "a number in it has too many digits; correct it"),
        (f"a = {'[' * 5_000}\n", "is nested too deep; correct it"),
        ("max_request = 1\n", "unknown field max_request; known: providers, allow_tools, "),
        ("[providers.m]\nurl = 'x'\n", "unknown field url at .*; known: base_url, key_variable"),
        ("max_requests = -1\n", "max_requests"),
        ("[providers.mine]\nkey_variable = 'MINE'\n", r"providers\.mine has no base_url"),
        (
            "[providers.mine]\nbase_url = 'https://x.example'\nkey = 'sk-pw@'\n",
            r"providers\.mine\.key may only be \"none\"; put the key into a variable",
        ),
        (
            "[providers.mine]\nbase_url = 'https://x.example'\nkey = 'none'\nkey_variable = 'K'\n",
            "has both key and key_variable",
        ),
        (
            "[providers.mine]\nbase_url = 'https://x.example'\nsame_as = ['pw@']\n",
            r"providers\.mine\.same_as is not a web address",
        ),
        (
            "[providers.poe]\nbase_url = 'https://x.example'\nkey_variable = 'K'\n",
            'the provider "poe" is built in',
        ),
        (
            "[providers.m]\nbase_url = 'https://x.example'\nkey_variable = 'sk-12 34'\n",
            "is not the name of a variable",
        ),
        (
            "[providers.m]\nbase_url = 'https://me:pw@x.example'\nkey_variable = 'K'\n",
            "has a user name",
        ),
        ("[providers.m]\nbase_url = 'x.example'\nkey_variable = 'K'\n", "is not a web address"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(write, text, told):
    with pytest.raises(UsageError, match=told) as caught:
        read(write(text))
    assert "pw@" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_refused(write, mode):
    with pytest.raises(UsageError, match="can be written by others"):
        read(write("", mode))


def test_a_file_in_the_project_is_refused(write, tmp_path):
    with pytest.raises(UsageError, match="is in the project"):
        read_config(write(""), project_root=tmp_path)


def test_what_needs_a_key():
    def needs(url: str, **more) -> bool:
        return ProviderConfig(base_url=url, **more).needs_key

    assert needs("https://x.example/v1", key_variable="K")
    assert needs("http://192.168.1.5/v1", key_variable="K")
    assert not needs("http://127.0.0.1:8000/v1", key_variable="K")
    assert not needs("http://localhost:8000/v1", key_variable="K")
    assert not needs("http://[::1]:8000/v1", key_variable="K")
    assert not needs("https://x.example/v1")
    assert not needs("https://x.example/v1", key="none")


def test_addresses_that_are_one_server():
    gateway = ProviderConfig(base_url="https://gw.example/v1", same_as=("https://gw2.example/v1",))
    config = UserConfig(
        providers={"poe": ProviderConfig(same_as=("https://a.example/v1", "b")), "gw": gateway}
    )
    origins = {
        moved: config.origin_of(moved)
        for moved in (
            None,
            "https://api.poe.com/v1",
            "https://a.example/v1/",
            "https://A.example/v1",
            "https://a.example/v2",
            "https://gw.example/v1",
            "https://gw2.example/v1",
            "https://other.example/v1",
        )
    }
    assert origins == {
        None: "poe",
        "https://api.poe.com/v1": "poe",
        "https://a.example/v1/": "poe",
        "https://A.example/v1": "poe",
        "https://a.example/v2": "https://a.example/v2",
        "https://gw.example/v1": "gw",
        "https://gw2.example/v1": "gw",
        "https://other.example/v1": "https://other.example/v1",
    }
    assert UserConfig().origin_of("https://a.example/v1") == "https://a.example/v1"


class TestFind:
    def test_one_that_is_named_must_be_there(self, tmp_path):
        with pytest.raises(UsageError) as caught:
            find_config({"POEFLOW_CONFIG": str(tmp_path / "gone.toml")}, project_root=None)
        assert str(caught.value) == (
            f"POEFLOW_CONFIG: {tmp_path}/gone.toml: no such file;"
            " write it (see `poeflow config`), or unset POEFLOW_CONFIG"
        )

    def test_none_can_be_named_on_purpose(self):
        assert (
            find_config({"POEFLOW_CONFIG": "/dev/null"}, project_root=None).config == UserConfig()
        )

    @pytest.mark.parametrize("home", ["/nonexistent", "/dev/null", ""])
    def test_no_home(self, home):
        found = find_config({"HOME": home}, project_root=None)
        assert (found.config, found.warning) == (UserConfig(), "")

    def test_one_of_somebody_else_is_not_used_in_the_usual_place(self, tmp_path):
        path = tmp_path / ".config/poeflow/config.toml"
        path.parent.mkdir(parents=True)
        path.write_text("max_requests = 1\n")
        os.chown(path, 12345, 12345) if os.getuid() == 0 else pytest.skip("needs root")
        found = find_config({"HOME": str(tmp_path)}, project_root=None)
        why = "belongs to another user; it is not used (another is named with POEFLOW_CONFIG)"
        assert (found.config, found.warning) == (UserConfig(), f"{path} {why}")
        with pytest.raises(UsageError, match="belongs to another user; make it your own"):
            find_config({"POEFLOW_CONFIG": str(path)}, project_root=None)


def test_every_key_there_is(write):
    path = write(
        "[providers.a]\nbase_url = 'https://a.example'\nkey_variable = 'A_KEY'\n"
        "[providers.b]\nbase_url = 'https://b.example'\n"
    )
    environ = {"POEFLOW_CONFIG": str(path), "POE_API_KEY": "first-key-1", "A_KEY": "second-key-2"}
    assert key_variables(environ) == ("POE_API_KEY", "A_KEY")
    assert [key.reveal() for key in known_keys(environ)] == ["first-key-1", "second-key-2"]
    path.write_text("nonsense")
    assert key_variables(environ) == ("POE_API_KEY",)


def test_a_key_is_read_from_its_own_variable():
    key = api_key_from(
        {"MINE": " my-own-key-123 ", "POE_API_KEY": "another-key-1"}, variable="MINE"
    )
    assert key is not None
    assert key.reveal() == "my-own-key-123"
    assert api_key_from({"POE_API_KEY": "another-key-1"}, variable="MINE") is None
    with pytest.raises(AccountError, match="MINE: ") as caught:
        api_key_from({"MINE": "two words"}, variable="MINE")
    assert "two words" not in str(caught.value)


def test_a_program_that_is_started_gets_no_key(write):
    path = write("[providers.mine]\nbase_url = 'https://x.example'\nkey_variable = 'MINE'\n")
    keys = {"POE_API_KEY": "first-key-0123456789", "MINE": "second-key-0123456789"}
    others = {"COPY": "Bearer first-key-0123456789", "B64": "c2Vjb25kLWtleS0wMTIzNDU2Nzg5"}
    kept = {"PATH": "/usr/bin", "ODD": "\udcff", "POEFLOW_CONFIG": str(path)}
    assert child_environment({**keys, **others, **kept}) == kept
    assert child_environment({**kept, "MINE": "short"}) == kept
