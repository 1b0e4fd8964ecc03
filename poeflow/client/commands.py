"""What the client's logic asks of whoever does the I/O, and how its commands are driven.

This is the only place in which sync and async differ in shape.
"""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias, TypeVar

from poeflow.client.failures import POE, Server
from poeflow.client.http.wire import Head, WireRequest
from poeflow.client.retry import Policy, RateLimiter
from poeflow.clock import Clock
from poeflow.errors import APIError
from poeflow.redact import Scrubber


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer; either may be empty."""

    text: str
    reasoning: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """Attempt number `attempt` failed; the next begins in `wait` seconds. Drop what was shown."""

    error: APIError
    wait: float
    attempt: int


Progress: TypeAlias = Delta | Retrying


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The clocks of one attempt, in seconds.

    `connect` to be connected; `first` from the request being sent to the first event; `progress`
    between events (comments and pings do not count); `total` for the attempt. An answer that is
    not streamed knows only `connect` and `total`. Media bots get `media` as their total.
    """

    connect: float = 10.0
    first: float = 120.0
    progress: float = 120.0
    total: float = 600.0
    media: float = 1200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Connect, send, and give back the `Head` of the response."""

    request: WireRequest
    connect: float
    total: float
    head: float


@dataclass(frozen=True, slots=True)
class Read:
    """Give back the next bytes of the body, b"" at its end."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


Command: TypeAlias = Send | Read | Wait
Reply: TypeAlias = Head | bytes | None
Exchange: TypeAlias = Generator[Command, Reply, T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is asked, and how. `total` replaces the total clock; `on_progress` hears of it all.

    `permit` is called before every send; what it raises ends the call with nothing sent.
    """

    request: WireRequest
    streams: bool = False
    is_media: bool = False
    total: float | None = None
    on_progress: Callable[[Progress], None] | None = None
    permit: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """How a client behaves: shared by all its calls."""

    clock: Clock
    scrubber: Scrubber
    server: Server = POE
    rate_limiter: RateLimiter = field(default_factory=RateLimiter)
    policy: Policy = field(default_factory=Policy)
    timeouts: Timeouts = field(default_factory=Timeouts)


Asked = TypeVar("Asked")
Given = TypeVar("Given")


def drive(steps: Generator[Asked, Given, T], perform: Callable[[Asked], Given]) -> T:
    """Perform each command; what goes wrong on the network is thrown back into the generator."""
    advance: Callable[[], Asked] = partial(next, steps)
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
    steps: Generator[Asked, Given, T], perform: Callable[[Asked], Awaitable[Given]]
) -> T:
    """Do the same, awaiting each command."""
    advance: Callable[[], Asked] = partial(next, steps)
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
