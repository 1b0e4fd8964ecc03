"""Drives a generator of commands: the only place where sync and async differ in shape."""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TypeVar

from poeflow.errors import APIError

Command = TypeVar("Command")
Reply = TypeVar("Reply")
T = TypeVar("T")


def drive(steps: Generator[Command, Reply, T], perform: Callable[[Command], Reply]) -> T:
    """Perform each command; what goes wrong on the network is thrown back into the generator."""
    advance: Callable[[], Command] = partial(next, steps)
    while True:
        try:
            command = advance()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            reply = perform(command)
        except (APIError, OSError) as error:
            advance = partial(steps.throw, error)
        else:
            advance = partial(steps.send, reply)


async def adrive(
    steps: Generator[Command, Reply, T], perform: Callable[[Command], Awaitable[Reply]]
) -> T:
    """Do the same, awaiting each command."""
    advance: Callable[[], Command] = partial(next, steps)
    while True:
        try:
            command = advance()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            reply = await perform(command)
        except (APIError, OSError) as error:
            advance = partial(steps.throw, error)
        else:
            advance = partial(steps.send, reply)
