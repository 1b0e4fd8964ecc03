"""The server of the pages: on loopback, at an address nobody can guess, as long as wanted."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from poeflow.errors import UsageError
from poeflow.report.pages.guard import Guard
from poeflow.report.pages.pages import Pages
from poeflow.report.pages.site import Site
from poeflow.report.pages.source import Shown

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Serving:
    """A server at work. `address` is the list of runs; whoever knows it sees everything.

    `opening()` gives an address to start a browser with: it leads to the same page, once.
    """

    origin: str
    root: str
    opening_path: Callable[[], str]

    @property
    def address(self) -> str:
        return f"{self.origin}{self.root}/"

    def opening(self) -> str:
        return f"{self.origin}{self.opening_path()}"


@contextlib.asynccontextmanager
async def serve(
    shown: Shown, *, port: int = 0, clock: Callable[[], float] = monotonic
) -> AsyncIterator[Serving]:
    """Serve the pages from the running loop while the block lasts; `port` 0 takes a free one.

    Signals are left to the caller. Raises `UsageError` where the port cannot be taken.
    """
    closing = asyncio.Event()
    with _listening(port) as listener:
        taken: int = listener.getsockname()[1]
        guard = Guard(port=taken, monotonic=clock)
        site = Site(Pages(shown, guard.root), closing)
        server = _Server(_config(guard.guarding(site.application())))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Serving(f"http://{LOOPBACK}:{taken}", guard.root, guard.opening)
        finally:
            closing.set()
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: Ctrl-C belongs to whoever started us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp) -> uvicorn.Config:
    """Return settings under which nothing is printed, and only plain HTTP is spoken."""
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((LOOPBACK, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        hint = "take another --port, or 0 for a free one"
        raise UsageError(f"port {port} cannot be used: {reason}", hint=hint) from None
    with listener:
        yield listener
