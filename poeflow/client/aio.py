"""The asynchronous client: drives the exchange, awaiting each step."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Self

from poeflow.client.aio_resources import Chat, Models, Usage
from poeflow.client.aio_stream import Lines
from poeflow.client.answers import Completion
from poeflow.client.client_options import Options, Validation
from poeflow.client.commands import Timeouts
from poeflow.client.exchange import completed
from poeflow.client.failures import Server
from poeflow.client.http.transport import AsyncInjected, async_transport_for
from poeflow.client.messages import ChatRequest
from poeflow.client.progress import Progress
from poeflow.client.setup import options_from
from poeflow.clock import Clock, SystemClock
from poeflow.redact import Secret


class AsyncPoeClient:
    """A client of Poe's chat completions API, or of anything that speaks it.

    `api_key` and `base_url` fall back to `POE_API_KEY` and `POE_BASE_URL`. `attempts` counts all
    sends of one request. `timeout` is seconds for each attempt, or `Timeouts`. `concurrency` and
    `requests_per_minute` bound what this client does at once; a 429 pauses all of it.
    `validation` asks the server for `strict` or `legacy` checks (the `poe-feature` header).
    `transport` is one of httpx's or any object with `send` and `aclose`. Plain http beyond
    loopback needs `allow_insecure=True`. One that is `keyless` sends no key: for a server of your
    own that wants none. `server` is whom hints name; the address says so without.

    Close it, or use it in an `async with` statement. Raises `AccountError` without a key
    and `UsageError` where an argument is wrong.
    """

    def __init__(
        self,
        *,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        attempts: int = 4,
        timeout: float | Timeouts | None = None,
        concurrency: int | None = None,
        requests_per_minute: int | None = None,
        validation: Validation | None = None,
        transport: "AsyncInjected | None" = None,
        allow_insecure: bool = False,
        keyless: bool = False,
        clock: Clock | None = None,
        server: Server | None = None,
    ) -> None:
        clock = clock or SystemClock()
        options = options_from(
            api_key=api_key,
            base_url=base_url,
            allow_insecure=allow_insecure,
            clock=clock,
            attempts=attempts,
            timeout=timeout,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            validation=validation,
            keyless=keyless,
            server=server,
        )
        carrier = async_transport_for(transport, proxy=options.proxy, clock=clock)
        slots = asyncio.Semaphore(concurrency) if concurrency else nullcontext()
        self._set_up(options, Lines(carrier, clock, slots))

    def _set_up(self, options: Options, lines: Lines) -> None:
        self._options = options
        self._lines = lines
        self.chat = Chat(options, lines)
        self.models = Models(options, lines)
        self.usage = Usage(options, lines)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._options.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close idle connections; requests under way finish."""
        await self._lines.aclose()

    def with_options(
        self,
        *,
        attempts: int | None = None,
        timeout: float | Timeouts | None = None,
        validation: Validation | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "AsyncPoeClient":
        """Return a client that differs in these and shares connections, pace and slots."""
        changed = self._options.with_(
            attempts=attempts, timeout=timeout, validation=validation, headers=headers
        )
        client = object.__new__(type(self))
        client._set_up(changed, self._lines)
        return client

    async def ask(
        self,
        request: ChatRequest,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        attempts: int | None = None,
        timeout: float | None = None,
        media: bool = False,
        permit: Callable[[], None] | None = None,
    ) -> Completion:
        """Send a whole request and return its whole answer.

        A streamed answer is put together here, and asked for again where the stream breaks:
        `on_progress` hears the pieces, and `Retrying` when those so far no longer count. `permit`
        is called before every send, retries included; what it raises ends the call.
        """
        options = self._options.with_(attempts=attempts, timeout=timeout)
        call = options.call(request, on_progress=on_progress, media=media, permit=permit)
        return await self._lines.perform(completed(call, options.conduct))
