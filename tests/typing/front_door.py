"""What a type checker must know of the front door; mypy reads this, nothing runs it."""

from typing import assert_type

import poeflow
from poeflow import InstanceStatus, Outcome, Plan, RunOptions


def sync(options: RunOptions) -> None:
    assert_type(poeflow.run("a.yaml"), Outcome)
    assert_type(poeflow.run("a.yaml", options, offline=True, keep_going=True), Outcome)
    assert_type(poeflow.plan("a.yaml", inputs={"topic": "otters"}), Plan)
    assert_type(poeflow.status("a.yaml", offline=True), tuple[InstanceStatus, ...])
    poeflow.run("a.yaml", nonsense=1)  # type: ignore[call-arg]  # no option of that name
    poeflow.run("a.yaml", offline="yes")  # type: ignore[arg-type]  # it is a boolean


async def asynchronous(options: RunOptions) -> None:
    assert_type(await poeflow.arun("a.yaml", options, offline=True), Outcome)
    assert_type(await poeflow.aplan("a.yaml", offline=True), Plan)
    assert_type(await poeflow.astatus("a.yaml", offline=True), tuple[InstanceStatus, ...])


def names() -> None:
    poeflow.rnu("a.yaml")  # type: ignore[attr-defined]  # no such name
