"""Tools: what is imported, what a call answers, and that no fault of one stops the rest."""

import asyncio
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_project import CITY, Project, call

from poeflow.client.messages import Message
from poeflow.engine.asking.tools import (
    MAX_CALLS,
    MAX_RESULT,
    MAX_ROUNDS,
    Toolbox,
    ToolUse,
    definitions,
    with_ids,
)
from poeflow.flowfile.model import Tool


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path.resolve())


# what the model is told


def test_definitions_are_what_the_api_takes():
    tools = [
        Tool(name="get_weather", description="The weather.", parameters=CITY, run="a:b"),
        Tool(name="now"),
        Tool(name="any", parameters={"properties": {"a": {}}}),
    ]
    empty = {"type": "object", "properties": {}}
    assert definitions(tools) == [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "The weather.", "parameters": CITY},
        },
        {"type": "function", "function": {"name": "now", "description": "", "parameters": empty}},
        {
            "type": "function",
            "function": {
                "name": "any",
                "description": "",
                "parameters": {"type": "object", "properties": {"a": {}}},
            },
        },
    ]


def test_rounds_are_few():
    assert MAX_ROUNDS == 10


# calls


def test_answers_come_in_the_order_of_the_calls_and_tell_what_ran(project):
    project.write(
        "some_tools.py",
        "import asyncio, threading\n"
        "async def slow(city):\n"
        "    await asyncio.sleep(0)\n"
        "    return {'city': city, 'sky': ['rain', None, 1.5]}\n"
        "def quick():\n"
        "    return 'now'\n",
    )
    tools = [
        Tool(name="slow", parameters=CITY, run="some_tools:slow"),
        Tool(name="quick", run="some_tools:quick"),
    ]
    box = Toolbox.load(tools, folder=project.folder)
    calls = [call("slow", {"city": "Oslo"}, "a"), call("quick", "", "b"), call("nope", "{}", "c")]
    answered = asyncio.run(box.answer(calls))
    weather = '{"city":"Oslo","sky":["rain",null,1.5]}'
    unknown = '{"error":"there is no tool \\"nope\\"; there are: slow, quick"}'
    assert answered.messages == (
        Message(role="tool", content=weather, tool_call_id="a"),
        Message(role="tool", content="now", tool_call_id="b"),
        Message(role="tool", content=unknown, tool_call_id="c"),
    )
    assert answered.uses == (
        ToolUse(name="slow", result=weather, is_error=False),
        ToolUse(name="quick", result="now", is_error=False),
        ToolUse(name="nope", result=unknown, is_error=True),
    )


def test_no_calls_have_no_answers(project):
    project.write("some_tools.py", "def get(): ...")
    answered = asyncio.run(project.load("some_tools:get").answer([]))
    assert (answered.messages, answered.uses) == ((), ())


def test_plain_functions_run_side_by_side(project):
    project.write(
        "some_tools.py",
        "import threading\n"
        "both = threading.Barrier(2, timeout=20)\n"
        "def get():\n"
        "    return both.wait() in (0, 1)\n",
    )
    box = project.load("some_tools:get")
    answered = asyncio.run(box.answer([call("get"), call("get", own="b")]))
    assert [message.content for message in answered.messages] == ["true", "true"]


def test_coroutine_functions_run_side_by_side_in_the_loop(project):
    project.write(
        "some_tools.py",
        "import asyncio, threading\n"
        "both = asyncio.Barrier(2)\n"
        "async def get():\n"
        "    await both.wait()\n"
        "    return threading.current_thread() is threading.main_thread()\n",
    )
    answered = asyncio.run(project.load("some_tools:get").answer([call("get"), call("get")]))
    assert [message.content for message in answered.messages] == ["true", "true"]


@pytest.mark.parametrize(
    "code",
    [
        "class Get:\n    async def __call__(self, city): return city\nget = Get()",
        "class Get:\n    def __call__(self, city): return city\nget = Get()",
        "async def inner(city): return city\ndef get(city): return inner(city)",
        (
            "from functools import partial\nasync def inner(a, city): return city\n"
            "get = partial(inner, 1)"
        ),
        "class Get:\n    @staticmethod\n    def run(city): return city\nget = Get.run",
    ],
)
def test_whatever_can_be_called_is_called_and_awaited(project, code):
    use = project.use(code, {"city": "Oslo"}, CITY)
    assert (use.result, use.is_error) == ("Oslo", False)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def get(): return None", "null"),
        ("def get(): return ''", ""),
        ("def get(): return 'caf\u00e9'", "caf\u00e9"),
        ("def get(): return '\\ud83d!'", "?!"),
        ("def get(): return {'a': '\\ud83d'}", '{"a":"\\ud83d"}'),
        ("import datetime\ndef get(): return [datetime.date(2024, 2, 3)]", '["2024-02-03"]'),
        (
            (
                "from dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n"
                "def get(): return A(1)"
            ),
            '{"b":1}',
        ),
        ("import enum\nclass A(str, enum.Enum):\n    B = 'b'\ndef get(): return A.B", "b"),
    ],
)
def test_a_result_is_text_or_json(project, code, told):
    use = project.use(code)
    assert (use.result, use.is_error) == (told, False)
    assert type(use.result) is str


def test_a_long_result_is_cut(project):
    use = project.use("def get(): return 'a' + '\u00e9' * 600_000")
    note = "\n[cut: these are the first 1,048,576 of 1,200,001 bytes]"
    assert use.result == "a" + "\u00e9" * ((MAX_RESULT - 1) // 2) + note
    assert not use.is_error
    assert project.use(f"def get(): return 'b' * {MAX_RESULT}").result == "b" * MAX_RESULT


# calls without an id, or with one id


def test_calls_get_the_ids_they_lack():
    calls = [call("a", own=None), call("b", own=""), call("c", own="x"), call("d", own="x")]
    assert [c.id for c in with_ids(calls)] == ["call_1", "call_2", "x", "call_4"]
    assert [c.function.name for c in with_ids(calls)] == ["a", "b", "c", "d"]


def test_a_new_id_is_nobody_elses():
    calls = [call("a", own=None), call("b", own="call_1"), call("c", own="call_1_")]
    assert [c.id for c in with_ids(calls)] == ["call_1__", "call_1", "call_1_"]


@given(st.lists(st.sampled_from([None, "", "a", "call_1", "call_2", "call_2_"])))
def test_every_call_gets_an_id_of_its_own_and_keeps_one_that_is(ids):
    found = [c.id for c in with_ids([call("a", own=own) for own in ids])]
    assert len(set(found)) == len(ids)
    assert None not in found
    assert "" not in found
    assert {own for own in ids if own} <= set(found)
    first = {own: ids.index(own) for own in ids if own}
    assert all(found[index] == own for own, index in first.items())


def test_an_answer_goes_by_the_new_id(project):
    project.write("some_tools.py", "def get(): return 1")
    answered = asyncio.run(project.load("some_tools:get").answer([call("get", own=None)] * 2))
    assert [message.tool_call_id for message in answered.messages] == ["call_1", "call_2"]


# faults are told to the model


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"city": ', "the arguments are not JSON: Input data was truncated"),
        ("city", "the arguments are not JSON: JSON is malformed: invalid character (byte 0)"),
        ('{"city": NaN}', "the arguments are not JSON: JSON is malformed: invalid character"),
        ("[" * 100_000, "the arguments are not JSON: "),
        ("\ud83d", "the arguments are not JSON: "),
        ('["Oslo"]', "the arguments are not a JSON object"),
        ("null", "the arguments are not a JSON object"),
        ("", 'the arguments do not fit: the key "city" is missing'),
        ('{"city": 7}', "the arguments do not fit: city: 7 is not text"),
        (
            '{"city": "Oslo", "url": "http://x", "self": 1}',
            'the arguments do not fit: the key "url" is not allowed; the key "self" is not allowed',
        ),
    ],
)
def test_arguments_must_fit(project, arguments, told):
    code = "def get(city, url='https://weather'): raise AssertionError('it ran')"
    assert project.error(code, arguments, CITY).startswith(told)


def test_a_tool_that_names_no_arguments_takes_none(project):
    assert project.error("def get(secret=1): ...", {"secret": 2}) == (
        'the arguments do not fit: the key "secret" is not allowed'
    )


@pytest.mark.parametrize("key", ["additionalProperties", "unevaluatedProperties"])
def test_a_schema_may_be_open_by_its_own_word(project, key):
    schema = {**CITY, key: {"type": "integer"}}
    use = project.use("def get(city, **rest): return rest", {"city": "Oslo", "days": 2}, schema)
    assert use.result == '{"days":2}'


def test_arguments_may_be_named_in_parts_of_the_schema(project):
    schema = {"$ref": "#/$defs/place", "$defs": {"place": CITY}, "properties": {"days": {}}}
    code = "def get(**given): return given"
    assert project.use(code, {"city": "Oslo", "days": 2}, schema).result == (
        '{"city":"Oslo","days":2}'
    )
    assert project.error(code, {"city": "Oslo", "b": 2}, schema) == (
        'the arguments do not fit: the key "b" is not allowed'
    )


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def get(): raise KeyError('x')", "get failed: KeyError: 'x'"),
        (
            "async def get(): raise ValueError('no such city')",
            "get failed: ValueError: no such city",
        ),
        ("def get(): raise TimeoutError('the service')", "get failed: TimeoutError: the service"),
        (
            "def get(): raise StopIteration",
            "get failed: RuntimeError: coroutine raised StopIteration",
        ),
        ("def get(): raise SyntaxError('odd')", "get failed: SyntaxError: odd"),
        (
            "class Odd(Exception):\n    def __str__(self): raise ValueError\ndef get(): raise Odd",
            "get failed: some_tools.Odd: <exception str() failed>",
        ),
        (
            "import asyncio\nasync def get(): raise asyncio.CancelledError('inside')",
            "get failed: asyncio.exceptions.CancelledError: inside",
        ),
        (
            "import asyncio\ndef get(): raise asyncio.CancelledError('inside')",
            "get failed: asyncio.exceptions.CancelledError: inside",
        ),
        ("def get(city): ...", "get failed: TypeError: get() missing 1 required positional"),
        ("def get(): return (n for n in [1])", "the result cannot be written as JSON: Encoding"),
        ("def get(): return open", "the result cannot be written as JSON: Encoding objects of"),
        ("def get(): return {(1, 2): 3}", "the result cannot be written as JSON: "),
        ("def get():\n    a = []\n    a.append(a)\n    return a", "the result cannot be written"),
        ("def get(): raise ValueError('x' * 9000)", "get failed: ValueError: xxx"),
    ],
)
def test_what_goes_wrong_in_a_tool_is_told(project, code, told):
    found = project.error(code)
    assert found.startswith(told)
    assert len(found) < 1100


def test_an_error_with_half_a_character_is_still_json(project):
    assert project.error("def get(): raise ValueError('\\ud83d')") == (
        "get failed: ValueError: \ud83d"
    )


def test_a_coroutine_that_takes_too_long_is_ended(project):
    code = (
        "import asyncio\nended = []\n"
        "async def get():\n"
        "    try:\n        await asyncio.Event().wait()\n"
        "    finally:\n        ended.append(1)\n        raise ValueError('while ending')\n"
    )
    assert project.error(code, timeout=0.02) == "get took longer than 0.02 s"
    assert sys.modules["some_tools"].ended == [1]


def test_a_function_that_never_returns_keeps_nobody_waiting(project):
    code = (
        "import threading\ngo, gone = threading.Event(), threading.Event()\n"
        "def get():\n    go.wait(50)\n    gone.set()\n"
    )
    assert project.error(code, timeout=0.02) == "get took longer than 0.02 s"
    module = sys.modules["some_tools"]
    assert not module.gone.is_set()
    module.go.set()
    assert module.gone.wait(20)
    for thread in threading.enumerate():
        if thread.name == "poeflow-tool":
            thread.join(20)


def test_the_calls_of_one_turn_are_limited(project):
    project.write(
        "some_tools.py",
        "import asyncio\nrunning, most = 0, 0\n"
        "async def get():\n"
        "    global running, most\n"
        "    running += 1\n    most = max(most, running)\n"
        "    await asyncio.sleep(0)\n"
        "    running -= 1\n    return most\n",
    )
    box = project.load("some_tools:get")
    answered = asyncio.run(box.answer([call("get", own=str(n)) for n in range(MAX_CALLS + 2)]))
    assert sys.modules["some_tools"].most == 8
    results = [use.result for use in answered.uses]
    assert all(result.isdigit() for result in results[:MAX_CALLS])
    refusal = '{"error":"only 64 calls of one turn are run"}'
    assert results[MAX_CALLS:] == [refusal, refusal]


@pytest.mark.parametrize("kind", ["async def", "def"])
@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_what_ends_a_program_ends_the_call_alone(project, kind, error):
    told = project.error(f"{kind} get(): raise {error}(7)")
    assert told == f"get failed: {error}: 7"


async def test_a_call_that_is_left_alone_can_be_closed(project):
    code = "import asyncio\nasync def get(): await asyncio.Event().wait()\n"
    project.write("some_tools.py", code)
    waiting = project.load("some_tools:get")._use(call("get"), 0, asyncio.Semaphore())
    waiting.send(None)
    waiting.close()


async def test_who_waits_can_be_cancelled(project):
    project.write(
        "some_tools.py",
        "import asyncio\nbegun = asyncio.Event()\n"
        "async def get():\n    begun.set()\n    await asyncio.Event().wait()\n",
    )
    waiting = asyncio.create_task(project.load("some_tools:get").answer([call("get")]))
    await sys.modules["some_tools"].begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
