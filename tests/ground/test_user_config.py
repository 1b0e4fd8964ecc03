"""The user's own configuration: read strictly, and never out of a project."""

from pathlib import Path

import pytest

from poeflow.errors import AccountError, UsageError
from poeflow.user_config import Provider, UserConfig, config_path, key_of, read_config


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
        "[providers.mine]\nbase_url = 'http://127.0.0.1:8000/v1'\nkey_variable = 'MINE'\n"
        "requests_per_minute = 5\nconcurrency = 6\nresponse_format = true\n"
    )
    assert read(path) == UserConfig(
        allow_tools=True,
        allow_unpriced=True,
        media_hosts=("cdn.example",),
        max_requests=1,
        max_tokens=2,
        max_cost_usd=3.5,
        max_points=4,
        providers={
            "mine": Provider(
                base_url="http://127.0.0.1:8000/v1",
                key_variable="MINE",
                requests_per_minute=5,
                concurrency=6,
                response_format=True,
            )
        },
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = \n", r"config\.toml:1: this is not TOML"),
        ("max_request = 1\n", "unknown field max_request"),
        ("max_requests = -1\n", "max_requests"),
        ("[providers.mine]\nbase_url = 'https://x.example'\n", "key_variable"),
        (
            "[providers.poe]\nbase_url = 'https://x.example'\nkey_variable = 'K'\n",
            'the provider "poe" is built in',
        ),
        (
            "[providers.m]\nbase_url = 'https://x.example'\nkey_variable = 'sk-12 34'\n",
            "is no name of a variable",
        ),
        (
            "[providers.m]\nbase_url = 'https://me:pw@x.example'\nkey_variable = 'K'\n",
            "holds a user name",
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


def test_a_key_is_read_from_its_own_variable():
    key = key_of("MINE", {"MINE": " my-own-key-123 ", "POE_API_KEY": "another-key-1"})
    assert key is not None
    assert key.reveal() == "my-own-key-123"
    assert key_of("MINE", {"POE_API_KEY": "another-key-1"}) is None
    with pytest.raises(AccountError, match="MINE: ") as caught:
        key_of("MINE", {"MINE": "two words"})
    assert "two words" not in str(caught.value)
