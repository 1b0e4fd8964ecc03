"""A call of the client: its request, its options and time limits, and the progress it reports."""

import secrets
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

import msgspec

from poeflow.client.failures import POE, Server
from poeflow.client.http.commands import Command, Reply
from poeflow.client.http.wire import Body, BodySegment, WireRequest
from poeflow.client.messages import ChatRequest, DataUrl
from poeflow.client.retry import RateLimiter, RetryPolicy
from poeflow.clock import Clock
from poeflow.digest import encode_json
from poeflow.errors import APIError
from poeflow.redact import Scrubber

T = TypeVar("T")
Exchange: TypeAlias = Generator[Command, Reply, T]


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer; either may be empty."""

    text: str
    reasoning: str


class Retrying(msgspec.Struct, frozen=True):
    """Attempt number `attempt` failed; the next begins in `wait` seconds. Drop shown pieces."""

    error: APIError
    wait: float
    attempt: int


Progress: TypeAlias = Delta | Retrying


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """The time limits of one attempt, in seconds.

    `connect` for connecting; `first` from the sent request to the first event; `progress` between
    events (comments and pings do not count); `total` for the attempt. What the caller of a stream
    does between two chunks does not count. Answers that are not streamed have only `connect` and
    `total`. For media bots `media` is the total.
    """

    connect: float = 10.0
    first: float = 120.0
    progress: float = 120.0
    total: float = 600.0
    media: float = 1200.0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its options. `total` replaces the total time limit.

    `on_progress` receives all progress, or only `Retrying` if it does not `hears_text`. Before
    every send `pace` is called until it returns 0, else the seconds to wait, and then `permit`; an
    exception from that ends the call without sending.
    """

    request: WireRequest
    streams: bool = False
    is_media: bool = False
    total: float | None = None
    on_progress: Callable[[Progress], None] | None = None
    hears_text: bool = True
    permit: Callable[[], None] | None = None
    pace: Callable[[], float] | None = None


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a client, shared by all its calls."""

    clock: Clock
    scrubber: Scrubber
    server: Server = POE
    rate_limiter: RateLimiter = msgspec.field(default_factory=RateLimiter)
    policy: RetryPolicy = msgspec.field(default_factory=RetryPolicy)
    timeouts: Timeouts = msgspec.field(default_factory=Timeouts)


def chat_body(request: ChatRequest) -> Body:
    """Encode a request, with attachments in separate segments."""
    holes: list[DataUrl] = []
    marks: list[str] = []

    def spell(url: DataUrl) -> str:
        if not marks:
            marks.append(secrets.token_hex(16))  # random, so that no prompt contains it
        holes.append(url)
        return marks[0]

    body = encode_json(request.body(spell))
    if not holes:
        return Body((body,))
    segments: list[bytes | BodySegment] = []
    for piece, hole in zip(body.split(marks[0].encode()), [*holes, None], strict=True):
        segments.append(piece)
        if hole is not None:
            segments.append(hole)
    return Body(tuple(segments))
