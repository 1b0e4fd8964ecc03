"""What a program gives as options is read as it is meant, or refused with the argument's name."""

import asyncio
import enum
import math
from collections import OrderedDict
from pathlib import Path

import pytest

import poeflow
from poeflow import Limits, RunOptions, UsageError
from poeflow.operations.run_options import with_keywords

FLOW = "poeflow: 1\ninputs: {a: {default: x}}\nsteps: {b: {render: '{{ inputs.a | tojson }}'}}\n"
JSON = "; give what JSON has: a text, a number, True, False, None, a list or a mapping"
CONCURRENCY = "; give a whole number from 1 to 1,000"


@pytest.fixture
def flow(tmp_path, monkeypatch):
    (tmp_path / "poeflow.toml").touch()
    (tmp_path / "a.yaml").write_text(FLOW)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "a.yaml"


STATUS = "poeflow.status says what is not current, and sends nothing"


class Color(enum.Enum):
    RED = "red"


async def listen(_event): ...


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"concurrency": 0}, f"concurrency is 0{CONCURRENCY}"),
        ({"concurrency": -1}, f"concurrency is -1{CONCURRENCY}"),
        ({"concurrency": 1001}, f"concurrency is 1,001{CONCURRENCY}"),
        ({"concurrency": True}, f"concurrency is of type bool{CONCURRENCY}"),
        ({"first": -1}, "first is -1; give a whole number, 1 or more"),
        ({"first": 1.5}, "first is of type float; give a whole number, 1 or more"),
        ({"wait": -1}, "wait is -1; give a number, 0 or more"),
        ({"wait": math.nan}, "wait is nan; give a number, 0 or more"),
        ({"wait": None}, "wait is of type NoneType; give a number, 0 or more"),
        (
            {"max_cost_usd_per_day": math.inf},
            "max_cost_usd_per_day is inf; give a number, 0 or more",
        ),
        (
            {"limits": {"max_requests": 2}},
            "limits is of type dict; write poeflow.Limits(max_requests=20)",
        ),
        ({"limits": Limits(concurrency=0)}, f"limits.concurrency is 0{CONCURRENCY}"),
        (
            {"limits": Limits(max_points=-1)},
            "limits.max_points is -1; give a whole number, 0 or more",
        ),
        (
            {"limits": Limits(max_requests=-1)},
            "limits.max_requests is -1; give a whole number, 0 or more",
        ),
        ({"folder": 3}, "folder is of type int; give a text or a Path"),
        ({"folder": "a\0b"}, "folder is of type str; give a text or a Path"),
        ({"inputs_file": b"x.yaml"}, "inputs_file is of type bytes; give a text or a Path"),
        ({"inputs": ["a"]}, "inputs is of type list; give values by the names of inputs"),
        ({"inputs": {1: "a"}}, "inputs: the name 1 is of type int; give a text"),
        ({"inputs": {"a": {"b": [{1}]}}}, f'inputs: "a".b[0] is of type set{JSON}'),
        ({"inputs": {"a": b"x"}}, f'inputs: "a" is of type bytes{JSON}'),
        ({"inputs": {"a": math.inf}}, 'inputs: "a" is inf; give a finite number, or None'),
        ({"texts": {"a": 1}}, 'texts: "a" is of type int; give a text'),
        ({"models": "GPT-5.2"}, "models is of type str; give texts by names"),
        ({"steps": [1]}, "steps: an item is of type int; give a text"),
        ({"steps": 1}, "steps is of type int; give a list of texts"),
        ({"key": 1}, "key is of type int; give a text"),
        ({"offline": "yes"}, "offline is of type str; give True or False"),
        ({"listen": "x"}, "listen is of type str; give a function"),
        ({"listen": listen}, "listen is a coroutine function; give one without async"),
        ({"stop": None}, "stop is of type NoneType; give a function"),
        ({"budget": 5}, "budget is of type int; give a Budget"),
        ({"limiters": 5}, "limiters is of type int; give RateLimiters"),
        ({"config": {}}, "config is of type dict; give a UserConfig"),
        ({"environ": None}, "environ is of type NoneType; give texts by names"),
        ({"ofline": True}, 'there is no option "ofline"; did you mean "offline"?'),
        ({"locked": True}, f'there is no option "locked"; {STATUS}'),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_name(given, message):
    with pytest.raises(UsageError) as caught:
        with_keywords(None, given)
    assert str(caught.value) == message


def test_nested_too_deeply():
    deep = []
    deep.append(deep)
    with pytest.raises(UsageError, match="inputs are nested too deeply; give flatter values"):
        with_keywords(None, {"inputs": {"a": deep}})


@pytest.mark.parametrize("name", ["run", "arun", "plan", "aplan", "status", "astatus"])
def test_every_function_refuses_them(flow, name):
    function = getattr(poeflow, name)
    with pytest.raises(UsageError, match="concurrency is 0"):
        asyncio.run(function(flow, concurrency=0))
    with pytest.raises(UsageError, match="options is of type dict"):
        asyncio.run(function(flow, {"offline": True}))
    with pytest.raises(UsageError, match="the path of the flow is of type NoneType"):
        asyncio.run(function(None))


def test_what_is_meant_is_taken(flow):
    given = {
        "inputs": OrderedDict(a=(1, (True, None)), b={"c": Path("x/y")}, d=Color.RED),
        "texts": {"e": Path("f")},
        "inputs_file": "sets/x.yaml",
        "folder": ".",
        "steps": ["b", "c"],
    }
    read = with_keywords(None, given)
    assert read.inputs == {"a": [1, [True, None]], "b": {"c": "x/y"}, "d": "red"}
    assert (read.texts, read.steps) == ({"e": "f"}, ("b", "c"))
    assert (read.inputs_file, read.folder) == (Path("sets/x.yaml"), Path())
    assert with_keywords(RunOptions(steps="b"), {}).steps == ("b",)
    assert with_keywords(read, {}) == read


def test_texts_and_tuples_reach_the_run(flow):
    outcome = poeflow.run(str(flow), offline=True, inputs={"a": Path("x")}, folder=".")
    assert outcome.outputs == {"b": '"x"'}
    Path("x.yaml").write_text("a: from a file\n")
    assert poeflow.run("a.yaml", offline=True, inputs_file="x.yaml").outputs == {
        "b": '"from a file"'
    }
    (planned,) = poeflow.plan("a.yaml", steps="b", until=True).instances.values()
    assert [one.id for one in planned] == ["b"]


def test_what_is_given_by_default_is_sound():
    options = RunOptions()
    assert with_keywords(options, {}) == options
