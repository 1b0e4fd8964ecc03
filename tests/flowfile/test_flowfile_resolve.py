"""A step's own settings lie over its alias's, and those over the defaults."""

import msgspec
import pytest

from poeflow.flowfile.model import Flow
from poeflow.flowfile.step_settings import Given, Settings, model_of, settings_of
from poeflow.flowfile.yaml_tree import parse

FLOW = """\
poeflow: 1
models:
  w:
    model: Bot
    params: {temperature: 0.2, top_p: 0.2}
    extra_body: {a: alias, b: alias}
defaults:
  model: w
  system: Be brief.
  params: {temperature: 0.1, top_p: 0.1, max_tokens: 1}
  extra_body: {a: default, b: default, c: default}
  timeout: 1m
  retry: {attempts: 2}
  stream: false
  cache: false
steps:
  plain: {prompt: hi}
  own:
    prompt: hi
    system: {file: x.md}
    params: {temperature: 0.3}
    extra_body: {a: step}
    timeout: 5
    retry: {attempts: 7}
    stream: true
    cache: true
  bot: {prompt: hi, model: Other-Bot}
"""


@pytest.fixture
def flow():
    return msgspec.convert(parse(FLOW, "f").root.data, Flow)


def test_alias_over_defaults(flow):
    named = model_of(flow, "plain")
    assert named == Given("w", ("defaults", "model"))
    assert settings_of(flow, "plain", named="w") == Settings(
        named="w",
        model="Bot",
        provider="poe",
        params={
            "temperature": Given(0.2, ("models", "w", "params", "temperature")),
            "top_p": Given(0.2, ("models", "w", "params", "top_p")),
            "max_tokens": Given(1, ("defaults", "params", "max_tokens")),
        },
        extra_body={
            "a": Given("alias", ("models", "w", "extra_body", "a")),
            "b": Given("alias", ("models", "w", "extra_body", "b")),
            "c": Given("default", ("defaults", "extra_body", "c")),
        },
        system=("defaults", "system"),
        timeout=60.0,
        step_timeout=None,
        attempts=2,
        stream=False,
        cache=False,
    )


def test_the_step_over_both(flow):
    own: tuple[str, ...] = ("steps", "own")
    assert settings_of(flow, "own", named="w") == Settings(
        named="w",
        model="Bot",
        provider="poe",
        params={
            "temperature": Given(0.3, (*own, "params", "temperature")),
            "top_p": Given(0.2, ("models", "w", "params", "top_p")),
            "max_tokens": Given(1, ("defaults", "params", "max_tokens")),
        },
        extra_body={
            "a": Given("step", (*own, "extra_body", "a")),
            "b": Given("alias", ("models", "w", "extra_body", "b")),
            "c": Given("default", ("defaults", "extra_body", "c")),
        },
        system=(*own, "system"),
        timeout=5.0,
        step_timeout=None,
        attempts=7,
        stream=True,
        cache=True,
    )


def test_a_bot_that_is_no_alias_takes_only_the_defaults(flow):
    assert model_of(flow, "bot") == Given("Other-Bot", ("steps", "bot", "model"))
    settings = settings_of(flow, "bot", named="Other-Bot")
    assert settings.model == "Other-Bot"
    assert {name: given.value for name, given in settings.params.items()} == {
        "temperature": 0.1,
        "top_p": 0.1,
        "max_tokens": 1,
    }


def test_where_nothing_is_said():
    flow = msgspec.convert({"poeflow": 1, "steps": {"a": {"prompt": "hi"}}}, Flow)
    assert model_of(flow, "a") is None
    assert settings_of(flow, "a", named=None) == Settings(
        named="",
        model=None,
        provider="poe",
        params={},
        extra_body={},
        system=None,
        timeout=None,
        step_timeout=None,
        attempts=4,
        stream=True,
        cache=True,
    )
