"""A simulator of Poe's API on a loopback socket: for tests, and for working offline.

It accepts connections itself: asyncio's server loses one that arrives while it is being closed.
"""

import asyncio
import contextlib
import errno
import os
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from poeflow.clock import Clock, SystemClock
from poeflow.errors import UsageError
from poeflow.settings import LOOPBACK
from poeflow.simulator.bot_list import read_bot_list
from poeflow.simulator.chat import SimulatorSettings
from poeflow.simulator.connection import Host, ServerConnection
from poeflow.simulator.faults import Profile, read_recipes
from poeflow.simulator.script import Script, read_script
from poeflow.simulator.script_player import ScriptPlayer
from poeflow.simulator.service import Received, Service

_BACKLOG: Final = 1_024
_BUFFER: Final = 1024 * 1024
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BREATHER_SECONDS: Final = 1.0
"""How long to stop accepting if the system has no descriptors left, as in asyncio's server."""


class RunningServer:
    """One listening socket and its connections.

    The connections are not in a task group, where one that fails would end all others.
    """

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._bug: BaseException | None = None

    async def start(self, address: str, port: int) -> int:
        """Listen and return the port. Raises `UsageError` if the address cannot be used."""
        listener = _listening(address, port)
        taken: int = listener.getsockname()[1]
        self._task = asyncio.create_task(self._hold(listener))
        await self._ready.wait()
        return taken

    async def stop(self) -> None:
        """Stop listening and close open connections.

        Raises the first unexpected error of a connection, which is a bug.
        """
        self._stopping.set()
        if self._task is not None:
            await self._task
        if self._bug is not None:
            raise self._bug

    async def _hold(self, listener: socket.socket) -> None:
        """Keep the connections until the server stops, then end them."""
        loop = asyncio.get_running_loop()
        with listener:
            self._listen(loop, listener)
            self._ready.set()
            try:
                await self._stopping.wait()
            finally:
                loop.remove_reader(listener)
                open_still = tuple(self._connections)
                for connection in open_still:
                    connection.cancel()
            if open_still:
                await asyncio.wait(open_still)

    def _listen(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            loop.add_reader(listener, self._accept, loop, listener)

    def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        """Accept every waiting connection."""
        for _ in range(_BACKLOG):
            try:
                connected, _address = listener.accept()
            except OSError as error:  # none waits, it has closed, or no descriptor is left
                if error.errno in _EXHAUSTED:
                    loop.remove_reader(listener)
                    loop.call_later(_BREATHER_SECONDS, self._listen, loop, listener)
                return
            connected.setblocking(False)
            task = loop.create_task(self._serve(connected))
            self._connections.add(task)
            # A task that is cancelled before its first step cannot close anything.
            task.add_done_callback(partial(self._ended, connected))

    async def _serve(self, connected: socket.socket) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(sock=connected, limit=_BUFFER)
            await ServerConnection(reader, writer, self._host, self._clock).serve()

    def _ended(self, connected: socket.socket, task: asyncio.Task[None]) -> None:
        """Remove a connection, and store its error."""
        connected.close()
        self._connections.discard(task)
        if not task.cancelled():
            self._bug = self._bug or task.exception()


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    hint = "choose another port, or 0 for a free one"
    try:
        # create_server does not close its socket if the host or port is invalid.
        host = socket.getaddrinfo(address, None, family, socket.SOCK_STREAM)[0][4][0]
        listener = socket.create_server((host, _port(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    except (ValueError, OverflowError):
        reason, hint = "that is not an address", "give an IP address, and a port from 0 to 65535"
    else:
        listener.setblocking(False)
        return listener
    message = f"cannot listen on {address[:100]} port {port}: {reason.lower()}"
    raise UsageError(message, hint=hint)


def _port(number: int) -> int:
    if number not in range(65_536):
        raise OverflowError
    return number


def base_url_at(address: str, port: int) -> str:
    """Return the base URL of a server on this address."""
    return f"{_origin_at(address, port)}/v1"


def _origin_at(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


class Simulator:
    """A Poe-compatible server; it sends nothing to other machines.

    `with` serves from a new thread, `async with` from the running loop:

        with Simulator(rpm=60) as sim:
            client = PoeClient(api_key="any-key-at-all", base_url=sim.base_url)

    The same request always gets the same answer, streamed or not.

    `profile` is how requests are read without a `poe-feature` header: "strict", as the API does
    since spring 2026, or "legacy", which ignores fields that no bot declares.
    `key` is the only key accepted, `key_required` needs any key. `latency` is in seconds before
    each answer, `rpm` limits requests per minute. `catalogue` is a saved response of
    `GET /v1/models`, by default the bundled one; with `answers_unknown` bots that are not in it
    answer as text bots instead of 404. `port` 0 takes a free one.

    `script` is a file of rules for answers, `faults` are faults without a script, such as "429x2"
    (see `poeflow.simulator.faults`).

    Raises `UsageError` for a catalogue, script or recipe that cannot be read, `InvalidFlowError`
    with every problem in a script; on entering, `UsageError` for an address that cannot be used;
    on leaving, the unexpected error of a connection, which is a bug and ended only that one.
    """

    def __init__(
        self,
        *,
        profile: Profile = "strict",
        key: str | None = None,
        key_required: bool = False,
        latency: float = 0.0,
        rpm: int | None = None,
        answers_unknown: bool = False,
        faults: str = "",
        script: Path | None = None,
        catalogue: Path | None = None,
        host: str = LOOPBACK,
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        settings = SimulatorSettings(
            profile=profile,
            key=key,
            key_required=key_required,
            latency=latency,
            rpm=rpm,
            answers_unknown=answers_unknown,
            recipes=read_recipes(faults),
        )
        self._clock = clock or SystemClock()
        played = read_script(script) if script is not None else Script()
        self._service = Service(
            settings, read_bot_list(catalogue), ScriptPlayer(played), self._clock
        )
        self._address = (host, port)
        self._port = port
        self._serving: RunningServer | None = None
        self._thread: threading.Thread | None = None
        self._exit: _Exit | None = None

    @property
    def base_url(self) -> str:
        """The API's address, as for `POE_BASE_URL`."""
        return f"{self.origin}/v1"

    @property
    def origin(self) -> str:
        return _origin_at(self._address[0], self._port)

    @property
    def requests(self) -> tuple[Received, ...]:
        """The requests received so far, oldest first; keys are masked."""
        return self._service.log.all()

    @property
    def peak_concurrency(self) -> int:
        """The highest number of chat requests in flight at once."""
        return self._service.peak_concurrency

    async def __aenter__(self) -> Self:
        self._serving = RunningServer(self._service, self._clock)
        self._port = await self._serving.start(*self._address)
        self._service.origin = self.origin
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            await serving.stop()

    def __enter__(self) -> Self:
        started: Future[_Exit] = Future()
        thread = threading.Thread(target=self._serve_apart, args=(started,), daemon=True)
        thread.start()
        self._exit = started.result()
        self._thread = thread
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._exit is None or self._thread is None:
            return
        way_out = self._exit
        way_out.loop.call_soon_threadsafe(way_out.request.set)
        self._thread.join()
        self._exit = self._thread = None
        way_out.ended.result()

    def _serve_apart(self, started: "Future[_Exit]") -> None:
        """Serve in an event loop of this thread until asked to stop."""
        asyncio.run(self._watched(started))

    async def _watched(self, started: "Future[_Exit]") -> None:
        """Pass an error of the server to the waiting thread; nothing reads it in this one."""
        serving = asyncio.create_task(self._serve_until_exit(started))
        await asyncio.wait((serving,))
        failure = serving.exception()
        if not started.done():
            started.set_exception(failure)
        elif failure is not None:
            started.result().ended.set_exception(failure)
        else:
            started.result().ended.set_result(None)

    async def _serve_until_exit(self, started: "Future[_Exit]") -> None:
        async with self:
            way_out = _Exit(asyncio.get_running_loop(), asyncio.Event(), Future())
            started.set_result(way_out)
            await way_out.request.wait()


@dataclass(frozen=True, slots=True)
class _Exit:
    """Lets another thread stop the server, and has the result."""

    loop: asyncio.AbstractEventLoop
    request: asyncio.Event
    ended: "Future[None]"
