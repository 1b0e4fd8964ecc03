"""Listening: takes connections, serves them side by side, and ends them all at once.

It accepts by itself: asyncio's server loses a connection that comes while it is being closed.
"""

import asyncio
import os
import socket
from functools import partial
from typing import Final

from poeflow.clock import Clock
from poeflow.errors import UsageError
from poeflow.simulator.connection import Connection, Host

_BACKLOG: Final = 1_024
_BUFFER: Final = 1024 * 1024


class Serving:
    """One listening socket and the connections that came of it."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self, address: str, port: int) -> int:
        """Listen and return the port. Raises `UsageError` where the address cannot be taken."""
        listener = _listening(address, port)
        taken: int = listener.getsockname()[1]
        self._task = asyncio.create_task(self._hold(listener))
        await self._ready.wait()
        return taken

    async def stop(self) -> None:
        """Stop listening and break off what is still open."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _hold(self, listener: socket.socket) -> None:
        """Hold the connections together; end them when it is time."""
        loop = asyncio.get_running_loop()
        with listener:
            async with asyncio.TaskGroup() as group:
                loop.add_reader(listener, self._accept, listener, group)
                self._ready.set()
                try:
                    await self._stopping.wait()
                finally:
                    loop.remove_reader(listener)
                for connection in self._connections:
                    connection.cancel()

    def _accept(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        """Take every connection that waits."""
        for _ in range(_BACKLOG):
            try:
                connected, _address = listener.accept()
            except OSError:  # none waits, or the one that did has left
                return
            connected.setblocking(False)
            task = group.create_task(self._serve(connected))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            # A task that is cancelled before its first step never gets to close anything.
            task.add_done_callback(partial(_close, connected))

    async def _serve(self, connected: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connected, limit=_BUFFER)
        await Connection(reader, writer, self._host, self._clock).serve()


def _close(connected: socket.socket, _task: asyncio.Task[None]) -> None:
    connected.close()


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        message = f"cannot listen on {address} port {port}: {reason.lower()}"
        raise UsageError(message, hint="choose another port, or 0 for a free one") from None
    listener.setblocking(False)
    return listener
