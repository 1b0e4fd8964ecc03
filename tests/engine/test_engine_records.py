"""What a run tells its recorder: every request before it is sent, and how each instance ended."""

import asyncio
from dataclasses import dataclass, field

import pytest

from poeflow.engine.recording import step_of
from poeflow.records import AnswerRecord, InstanceRecord, RequestRecord, RunEnd


@dataclass
class Notes:
    """A recorder that keeps what it is told, and how many requests had been sent by then."""

    sent: list = field(default_factory=list)
    told: list = field(default_factory=list)
    simulator: object = None

    async def requested(self, record: RequestRecord) -> int:
        await asyncio.sleep(0)
        self.sent.append((record, len(self.simulator.requests)))
        return len(self.sent)

    def answered(self, number: int, record: AnswerRecord) -> None:
        self.told.append((number, record))

    def instance(self, record: InstanceRecord) -> None:
        self.told.append((None, record))

    def ended(self, record: RunEnd) -> None:
        self.told.append((None, record))


@pytest.mark.parametrize(
    ("name", "step"),
    [("a", "a"), ("a[x]", "a"), ("a[x]#2", "a"), ("a/b[k]", "a/b"), ("a[k]/b", "a[k]/b")],
)
def test_the_step_of_an_instance(name, step):
    assert step_of(name.removesuffix("#2")) == step
