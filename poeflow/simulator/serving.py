"""Listening: takes connections, serves them side by side, and ends them all at once.

It accepts by itself: asyncio's server loses a connection that comes while it is being closed.
"""

import asyncio
import contextlib
import errno
import os
import socket
from functools import partial
from typing import Final

from poeflow.clock import Clock
from poeflow.errors import UsageError
from poeflow.simulator.connection import Connection, Host

_BACKLOG: Final = 1_024
_BUFFER: Final = 1024 * 1024
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BREATHER_SECONDS: Final = 1.0
"""How long to take no connection where the system can give none, as asyncio's own server does."""


class Serving:
    """One listening socket and the connections that came of it.

    It is no task group that holds the connections: there, one that fails ends all others.
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
        """Listen and return the port. Raises `UsageError` where the address cannot be taken."""
        listener = _listening(address, port)
        taken: int = listener.getsockname()[1]
        self._task = asyncio.create_task(self._hold(listener))
        await self._ready.wait()
        return taken

    async def stop(self) -> None:
        """Stop listening and break off what is still open.

        Raises what the first connection failed with that should not have: a bug, told late rather
        than never.
        """
        self._stopping.set()
        if self._task is not None:
            await self._task
        if self._bug is not None:
            raise self._bug

    async def _hold(self, listener: socket.socket) -> None:
        """Hold the connections together; end them when it is time."""
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
        """Take every connection that waits."""
        for _ in range(_BACKLOG):
            try:
                connected, _address = listener.accept()
            except OSError as error:  # none waits, the one that did has left, or there is no room
                if error.errno in _EXHAUSTED:
                    loop.remove_reader(listener)
                    loop.call_later(_BREATHER_SECONDS, self._listen, loop, listener)
                return
            connected.setblocking(False)
            task = loop.create_task(self._serve(connected))
            self._connections.add(task)
            # A task that is cancelled before its first step never gets to close anything.
            task.add_done_callback(partial(self._ended, connected))

    async def _serve(self, connected: socket.socket) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(sock=connected, limit=_BUFFER)
            await Connection(reader, writer, self._host, self._clock).serve()

    def _ended(self, connected: socket.socket, task: asyncio.Task[None]) -> None:
        """Let go of a connection, and keep what it failed with."""
        connected.close()
        self._connections.discard(task)
        if not task.cancelled():
            self._bug = self._bug or task.exception()


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    hint = "choose another port, or 0 for a free one"
    try:
        # create_server forgets to close its socket where the host or the port cannot be.
        host = socket.getaddrinfo(address, None, family, socket.SOCK_STREAM)[0][4][0]
        listener = socket.create_server((host, _port(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    except (ValueError, OverflowError):
        reason, hint = "that is no address", "give an IP address, and a port from 0 to 65535"
    else:
        listener.setblocking(False)
        return listener
    message = f"cannot listen on {address[:100]} port {port}: {reason.lower()}"
    raise UsageError(message, hint=hint)


def _port(number: int) -> int:
    if number not in range(65_536):
        raise OverflowError
    return number
