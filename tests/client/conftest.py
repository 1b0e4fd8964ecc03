"""A server of scripted bytes, and clients of both kinds."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_desk import KEY, Driver
from client_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(params=["sync", "async", "uvloop"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Driver]]:
    """Make clients, sync in one test and async in its twin; they are closed at the end."""
    made: list[Driver] = []

    def make(server: ScriptedServer | None = None, /, **settings: Any) -> Driver:
        given = {"api_key": KEY, "base_url": server.base_url if server else "http://127.0.0.1:9/v1"}
        made.append(Driver(request.param, given | settings))
        return made[-1]

    yield make
    for driver in made:
        driver.close()
