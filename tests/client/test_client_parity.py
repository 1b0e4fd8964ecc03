"""Both clients offer the same, and neither loads what it does not need."""

import inspect
import os
import subprocess
import sys

import pytest
from client_desk import ASKED, KEY

from poeflow.client import aio, sync
from poeflow.client import aio as aio_resources
from poeflow.client import aio as aio_stream
from poeflow.client import sync as sync_resources
from poeflow.client import sync as sync_stream

RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
PAIRS = [
    (sync.PoeClient, aio.AsyncPoeClient),
    (sync_stream.Stream, aio_stream.AsyncStream),
    *(
        (getattr(sync_resources, name), getattr(aio_resources, name))
        for name in ("Chat", "Completions", "Models", "Usage")
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
