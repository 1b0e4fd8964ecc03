"""Listening: takes connections, serves them side by side, and ends them all at once."""

import asyncio
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
        self._stopping = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self, address: str, port: int) -> int:
        """Listen and return the port. Raises `UsageError` where the address cannot be taken."""
        try:
            server = await asyncio.start_server(
                self._accept, address, port, limit=_BUFFER, backlog=_BACKLOG, start_serving=False
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            message = f"cannot listen on {address} port {port}: {reason}"
            raise UsageError(message, hint="choose another port, or 0 for a free one") from None
        taken: int = server.sockets[0].getsockname()[1]
        self._task = asyncio.create_task(self._serve(server))
        return taken

    async def stop(self) -> None:
        """Stop listening and break off what is still open."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _serve(self, server: asyncio.Server) -> None:
        try:
            async with asyncio.TaskGroup() as self._group:
                await server.start_serving()
                await self._stopping.wait()
                server.close()
                for connection in self._connections:
                    connection.cancel()
        finally:
            server.close()
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopping.is_set():
            writer.transport.abort()
            return
        connection = Connection(reader, writer, self._host, self._clock)
        task = self._group.create_task(connection.serve())
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
