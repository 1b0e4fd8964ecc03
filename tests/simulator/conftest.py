"""A simulator on a real socket, and a service without one."""

from collections.abc import Iterator

import pytest
from simulator_desk import Desk

from poeflow.simulator.server import Simulator


@pytest.fixture
def desk() -> Desk:
    """A service that reads requests as the API once did, but for those that ask to be strict."""
    return Desk(profile="legacy")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator
