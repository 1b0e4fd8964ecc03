"""The commands of logic without I/O to the code that does the I/O, and the loops that run them.

Only here the sync and async clients differ in structure.
"""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TypeAlias, TypeVar

import msgspec

from poeflow.client.http.wire import Head, WireRequest
from poeflow.errors import APIError

T = TypeVar("T")
CommandT = TypeVar("CommandT")
ReplyT = TypeVar("ReplyT")


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """Connect, send, and return the `Head` of the response."""

    request: WireRequest
    connect: float
    total: float
    head: float


class Read(msgspec.Struct, frozen=True):
    """Return the next bytes of the body, b"" at its end."""

    timeout: float


class Wait(msgspec.Struct, frozen=True):
    seconds: float


Command: TypeAlias = Send | Read | Wait
Reply: TypeAlias = Head | bytes | None


def drive(steps: Generator[CommandT, ReplyT, T], perform: Callable[[CommandT], ReplyT]) -> T:
    """Perform each command; network errors are thrown into the generator."""
    advance: Callable[[], CommandT] = partial(next, steps)
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
    steps: Generator[CommandT, ReplyT, T], perform: Callable[[CommandT], Awaitable[ReplyT]]
) -> T:
    """Do the same as `drive`, awaiting each command."""
    error: APIError | OSError | None = None
    try:
        command = next(steps)
        while True:
            try:
                reply = await perform(command)
            except (APIError, OSError) as found:
                error = found
            else:
                command = steps.send(reply)
                continue
            command = steps.throw(error)
    except StopIteration as stop:
        result: T = stop.value
        return result
