"""Both clients offer the same, and neither loads what it does not need."""

import inspect
import os
import subprocess
import sys

import pytest
from client_desk import ASKED, KEY, large

from poeflow.client import aio, endpoints, sync
from poeflow.client.client_options import AskOptions

RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
PAIRS = [
    *(
        (getattr(sync, name), getattr(aio, f"Async{name}"))
        for name in ("PoeClient", "Stream", "Chat", "Completions", "Models", "AccountUsage")
    ),
]


def offered(kind: type) -> dict[str, list[tuple]]:
    """Return every public method with its parameters: name, kind and default."""
    found = {}
    for name, member in vars(kind).items():
        if callable(member) and (name in RENAMED or not name.startswith("_") or name == "__init__"):
            given = inspect.signature(member).parameters.values()
            found[RENAMED.get(name, name)] = [(p.name, p.kind, p.default) for p in given]
        elif isinstance(member, property):
            found[name] = []
    return found


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_sync_and_async_have_the_same_names_and_parameters(ours, theirs):
    mirrored = {RENAMED.get(name, name) for name in vars(ours)}
    wanted = {
        name: given
        for name, given in offered(ours).items()
        if not name.startswith("__") or name == "__init__"
    }
    wanted |= {
        name: [(p.name, p.kind, p.default) for p in _parameters(ours, name)]
        for name in mirrored & set(RENAMED.values())
    }
    assert offered(theirs) == wanted


def _parameters(kind: type, name: str):
    return inspect.signature(vars(kind)[name]).parameters.values()


def test_ask_takes_the_options_it_says():
    _, _, *taken = inspect.signature(endpoints.ask).parameters.values()
    assert {one.name: one.annotation for one in taken} == AskOptions.__annotations__


def test_a_wrong_keyword_is_named(connect, server):
    driver = connect(server)
    with pytest.raises(TypeError, match=r"Client.__init__\(\) .* argument 'nonsense'"):
        type(driver.client)(nonsense=1)
    with pytest.raises(TypeError, match=r"ask\(\) .* argument 'nonsense'"):
        driver.do(lambda client: client.ask(large(1), nonsense=1))


@pytest.mark.parametrize("name", ["PoeClient", "AsyncPoeClient"])
def test_a_direct_request_loads_no_httpx(server, name):
    call = f"client.chat.completions.create(**{ASKED!r})"
    if name.startswith("Async"):
        call = f"asyncio.run(ask({call}))"
    script = (
        "import asyncio, sys\n"
        f"from poeflow import {name}\n"
        "async def ask(call): return await call\n"
        f"client = {name}()\n"
        f"assert {call}.text == 'Hello'\n"
        "assert not {'httpx', 'httpcore', 'certifi', 'rich'} & set(sys.modules)\n"
    )
    environ = {**os.environ, "POE_API_KEY": KEY, "POE_BASE_URL": server.base_url}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
