"""What the client's logic asks of whoever does the I/O, and what it is given to work with."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from poeflow.client.failures import POE, Server
from poeflow.client.http.heads import Head
from poeflow.client.http.wire import WireRequest
from poeflow.client.limits import Pace
from poeflow.client.progress import Progress
from poeflow.client.retry import Policy
from poeflow.clock import Clock
from poeflow.redact import Scrubber

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
class Conduct:
    """How a client behaves: shared by all its calls."""

    clock: Clock
    scrubber: Scrubber
    server: Server = POE
    pace: Pace = field(default_factory=Pace)
    policy: Policy = field(default_factory=Policy)
    timeouts: Timeouts = field(default_factory=Timeouts)
