"""A step's own settings lie over its alias's, and those over the defaults."""

import msgspec
import pytest

from poeflow.flowfile.load import build, decode_valid
from poeflow.flowfile.model import Flow, Output, Tool
from poeflow.flowfile.step_settings import (
    Given,
    Settings,
    fallback_settings,
    has_settings,
    judge_settings,
    model_of,
    settings_of,
    with_alias_keys,
)
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


OWN = [
    "provider: other",
    "retry: {attempts: 7}",
    "timeout: 5",
    "fallback: [Other-Bot]",
    "stream: false",
    "cache: true",
    "system: Be long.",
    "system: null",
    "extra_body: {a: step}",
    "params: {temperature: 0.3}",
    "output: {media: out}",
]


@pytest.mark.parametrize("own", OWN)
def test_a_step_with_settings_is_told_from_those_that_share_theirs(own):
    shared = FLOW.replace("  stream: false\n", "")
    text = shared + f"  like: {{prompt: other}}\n  mine:\n    prompt: hi\n    {own}\n"
    flow = msgspec.convert(parse(text, "f").root.data, Flow)
    found = {name: settings_of(flow, name, named="w") for name in ("plain", "like", "mine")}
    assert {name: has_settings(flow.steps[name]) for name in found} == {
        "plain": False,
        "like": False,
        "mine": True,
    }
    assert found["plain"] == found["like"]
    assert found["plain"] != found["mine"]


def test_all_that_settings_are_made_of_tells_a_step_from_others(flow):
    read = set()

    class Watched:
        def __getattr__(self, name):
            read.add(name)
            return getattr(flow.steps["plain"], name)

    watched = msgspec.structs.replace(flow, steps={"plain": Watched()})
    settings_of(watched, "plain", named="w")
    assert read == {one.partition(":")[0] for one in OWN}


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


CREW = """\
poeflow: 1
models:
  critic:
    model: Bot
    system: You are a critic.
    timeout: {attempt: 2m, step: 9m}
    retry: {attempts: 3}
    tools: [{name: find}]
    output: {schema: {type: object}, repair: 2, accept: [length]}
  clerk: {model: Other-Bot, system: {file: clerk.md}, timeout: 5m}
defaults: {model: critic, system: Be kind., timeout: {attempt: 1m, step: 8m}, retry: {attempts: 2}}
steps:
  plain: {prompt: hi}
  own:
    prompt: hi
    system: You are me.
    timeout: {step: 7m}
    retry: {attempts: 1}
    tools: [{name: own}]
    output: {one_of: [a, b], save: out/a.md}
  none: {prompt: hi, tools: [], output: {repair: 0}}
  clerk: {prompt: hi, model: clerk}
  bot: {prompt: hi, model: Any-Bot}
  text: {render: hi}
"""


@pytest.fixture
def crew():
    document = parse(CREW, "f")
    flow, document = with_alias_keys(msgspec.convert(document.root.data, Flow), document)
    return flow, document


def test_system_timeout_and_retries_are_those_of_the_step_else_of_the_alias(crew):
    flow, _ = crew
    found = {name: settings_of(flow, name, named=flow.steps[name].model) for name in ("bot",)}
    found |= {name: settings_of(flow, name, named="critic") for name in ("plain", "own")}
    found["clerk"] = settings_of(flow, "clerk", named="clerk")
    said = {
        name: (one.system, one.timeout, one.step_timeout, one.attempts)
        for name, one in found.items()
    }
    assert said == {
        "plain": (("models", "critic", "system"), 120, 540, 3),
        "own": (("steps", "own", "system"), 120, 420, 1),
        "clerk": (("models", "clerk", "system"), 300, 480, 2),
        "bot": (("defaults", "system"), 60, 480, 2),
    }


def test_a_fallback_model_has_the_system_message_of_the_one_it_stands_in_for(crew):
    flow, _ = crew
    asking = settings_of(flow, "plain", named="critic")
    found = fallback_settings(flow, "plain", "clerk", asking)
    assert (found.system, found.timeout) == (("models", "critic", "system"), 300)


def test_a_judge_has_what_its_alias_says_else_the_times_of_the_step(crew):
    flow, _ = crew
    asking = settings_of(flow, "own", named="critic")
    said = {
        named: (one.system, one.timeout, one.step_timeout, one.attempts)
        for named in ("clerk", "critic", "Any-Bot")
        for one in [judge_settings(flow, named, asking)]
    }
    assert said == {
        "clerk": (("models", "clerk", "system"), 300, 420, 1),
        "critic": (("models", "critic", "system"), 120, 420, 3),
        "Any-Bot": (None, 120, 420, 1),
    }


def test_tools_and_output_of_an_alias_become_those_of_its_steps(crew):
    flow, document = crew
    alias = flow.models["critic"]
    found = {name: (step.tools, step.output) for name, step in flow.steps.items()}
    assert found == {
        "plain": ([Tool(name="find")], alias.output),
        "own": (
            [Tool(name="own")],
            Output(one_of=["a", "b"], repair=2, accept=["length"], save="out/a.md"),
        ),
        "none": ([], Output(schema={"type": "object"}, repair=0, accept=["length"])),
        "clerk": (None, Output()),
        "bot": (None, Output()),
        "text": (None, Output()),
    }
    written = {
        name: {key: node.data[key] for key in ("tools", "output") if key in node.data}
        for name, node in document.node(("steps",)).values.items()
    }
    assert written == {
        "plain": {
            "tools": [{"name": "find"}],
            "output": {"schema": {"type": "object"}, "repair": 2, "accept": ["length"]},
        },
        "own": {
            "tools": [{"name": "own"}],
            "output": {"one_of": ["a", "b"], "repair": 2, "accept": ["length"], "save": "out/a.md"},
        },
        "none": {
            "tools": [],
            "output": {"schema": {"type": "object"}, "repair": 0, "accept": ["length"]},
        },
        **{name: {} for name in ("clerk", "bot", "text")},
    }
    assert document.place(("steps", "own", "output", "repair")).line == 9
    assert document.key_place(("steps", "plain", "tools")).line == 8


def test_a_flow_without_such_aliases_stays_as_it_is(flow):
    document = parse(FLOW, "f")
    assert with_alias_keys(flow, document) == (flow, document)
    assert with_alias_keys(flow, document)[1] is document


LEFT_OUT = """\
poeflow: 1
models:
  critic: {model: Bot, system: You are a critic., params: {max_tokens: 5, top_p: 0.5}}
  plain: {model: Bot, system: null, params: {temperature: null}}
defaults:
  model: critic
  system: Be kind.
  params: {temperature: 0.1}
  extra_body: {verbosity: low, web_search: true}
steps:
  none:
    prompt: hi
    system: null
    params: {temperature: null, top_p: null}
    extra_body: {verbosity: null}
  plain: {prompt: hi, model: plain}
  own: {prompt: hi, model: plain, system: Mine., params: {temperature: 1}}
  again: {prompt: hi, fallback: [Other-Bot], extra_body: {verbosity: null}}
"""


@pytest.mark.parametrize(
    ("step", "system", "params", "extra_body"),
    [
        ("none", None, {"max_tokens": 5}, {"web_search": True}),
        ("plain", None, {}, {"verbosity": "low", "web_search": True}),
        (
            "own",
            ("steps", "own", "system"),
            {"temperature": 1},
            {"verbosity": "low", "web_search": True},
        ),
    ],
)
def test_a_null_leaves_out_what_would_be_inherited(step, system, params, extra_body):
    flow = build(parse(LEFT_OUT, "f"))
    settings = settings_of(flow, step, named=str(model_of(flow, step).value))
    assert settings.system == system
    assert {name: given.value for name, given in settings.params.items()} == params
    assert {name: given.value for name, given in settings.extra_body.items()} == extra_body


def test_a_fallback_model_is_not_sent_what_its_step_leaves_out():
    flow = build(parse(LEFT_OUT, "f"))
    asking = settings_of(flow, "again", named="critic")
    other = fallback_settings(flow, "again", "Other-Bot", asking)
    assert {name: given.value for name, given in other.extra_body.items()} == {"web_search": True}


def test_nulls_of_an_alias_are_left_out_for_judges():
    flow = build(parse(LEFT_OUT, "f"))
    judge = judge_settings(flow, "plain", settings_of(flow, "own", named="plain"))
    assert (judge.system, judge.params) == (None, {})


def test_a_flow_with_such_nulls_is_decoded_without_its_schema():
    assert decode_valid(parse(LEFT_OUT, "f")) is not None
    assert (
        decode_valid(parse(LEFT_OUT.replace("prompt: hi", "prompt: hi, tools: null"), "f")) is None
    )
