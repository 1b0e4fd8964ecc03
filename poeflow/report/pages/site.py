"""Serves the pages, read-only, on loopback at a secret address."""

import asyncio
import contextlib
import hmac
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poeflow.errors import PoeflowError, UsageError
from poeflow.opener import read_packaged
from poeflow.report.pages.pages import ASSETS, Pages
from poeflow.report.pages.source import PageData

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_OPENING: Final = 60.0
_BYTES: Final = 24
PAUSE: Final = 0.5
_BEAT: Final = 30
"""Polls without changes after which a comment keeps the connection alive."""
_ASSETS: Final = {"style.css": "text/css", "live.js": "text/javascript"}
_MOST_DIGITS: Final = 12
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class PageServer:
    """A running server. `address` is the list of runs; anybody who knows it sees everything.

    `opening()` returns an address to start a browser with, which leads there once.
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
    shown: PageData, *, port: int = 0, clock: Callable[[], float] = monotonic
) -> AsyncIterator[PageServer]:
    """Serve the pages in the running event loop; `port` 0 takes a free one.

    Signals are left to the caller. Raises `UsageError` if the port cannot be used.
    """
    closing = asyncio.Event()
    with _listening(port) as listener:
        taken: int = listener.getsockname()[1]
        guard = AccessGuard(port=taken, monotonic=clock)
        site = PageRoutes(Pages(shown, guard.root), closing)
        server = _Server(_config(guard.guarding(site.application())))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield PageServer(f"http://{LOOPBACK}:{taken}", guard.root, guard.opening)
        finally:
            closing.set()
            server.should_exit = True
            await task


class PageRoutes:
    """The routes of the server, answered by `pages`; `closing` ends the streams of events."""

    def __init__(self, pages: Pages, closing: asyncio.Event) -> None:
        self._pages = pages
        self._closing = closing
        self._assets = {name: read_packaged(ASSETS / name) for name in _ASSETS}

    def application(self) -> Starlette:
        """Return the application. An unknown address or a disk error is answered with a page."""
        return Starlette(
            routes=[
                Route("/", self.runs),
                Route("/runs/{run:int}", self.run),
                Route("/runs/{run:int}/steps/{step:int}", self.step),
                Route("/runs/{run:int}/{number:int}", self.instance),
                Route("/runs/{run:int}/{number:int}/text", self.text),
                Route("/runs/{run:int}/{number:int}/pictures/{digest}", self.picture),
                Route("/compare", self.comparison),
                Route("/events", self.events),
                Route("/assets/{name}", self.asset),
            ],
            exception_handlers={
                HTTPException: self.missing,
                PoeflowError: self.failure,
                500: self.bug,
            },
        )

    def runs(self, request: Request) -> Response:
        return HTMLResponse(self._pages.runs(request.query_params))

    def run(self, request: Request) -> Response:
        return _page(self._pages.run(_number(request, "run")))

    def step(self, request: Request) -> Response:
        run, step = _number(request, "run"), _number(request, "step")
        return _page(self._pages.step(run, step, request.query_params))

    def instance(self, request: Request) -> Response:
        return _page(self._pages.instance(_number(request, "run"), _number(request, "number")))

    def text(self, request: Request) -> Response:
        """Return an answer as plain text, which no browser reads as a page."""
        text = self._pages.text(_number(request, "run"), _number(request, "number"))
        if text is None:
            raise HTTPException(404)
        return PlainTextResponse(text.encode("utf-8", "backslashreplace"))

    def picture(self, request: Request) -> Response:
        run, number = _number(request, "run"), _number(request, "number")
        found = self._pages.picture(run, number, request.path_params["digest"])
        if found is None:
            raise HTTPException(404)
        return Response(found.data, media_type=found.media_type)

    def comparison(self, request: Request) -> Response:
        return _page(self._pages.comparison(request.query_params))

    async def events(self, request: Request) -> Response:
        last = request.headers.get("last-event-id") or request.query_params.get("seen", "")
        seen = int(last) if last.isascii() and last.isdecimal() and len(last) < 18 else -1
        stream: AsyncIterator[str] = news(self._pages.changes, seen, self._closing)
        return StreamingResponse(stream, media_type="text/event-stream")

    def asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            raise HTTPException(404)
        return Response(self._assets[name], media_type=_ASSETS[name])

    async def missing(self, _request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        return await self._message(status, "nothing here", "There is no such run, step or answer.")

    async def failure(self, _request: Request, error: Exception) -> Response:
        return await self._message(500, "this cannot be shown", str(error))

    async def bug(self, _request: Request, error: Exception) -> Response:
        text = f"This is a bug in poeflow ({type(error).__name__}); please report it."
        return await self._message(500, "this cannot be shown", text)

    async def _message(self, status: int, title: str, text: str) -> Response:
        page = await run_in_threadpool(self._pages.message, title, text)
        return HTMLResponse(page, status)


async def news(changes: Callable[[], int], seen: int, closing: asyncio.Event) -> AsyncIterator[str]:
    """Yield an event whenever the number of changes differs from the one `seen` last.

    Ends when `closing` is set, or if the history cannot be read; browsers reconnect by
    themselves.
    """
    yield "retry: 2000\n\n"
    quiet = 0
    while not closing.is_set():
        try:
            now = await asyncio.to_thread(changes)
        except PoeflowError:
            return
        if now != seen:
            seen, quiet = now, 0
            yield f"id: {now}\ndata: {now}\n\n"
        elif (quiet := quiet + 1) % _BEAT == 0:
            yield ": still here\n\n"
        try:
            await asyncio.wait_for(closing.wait(), PAUSE)
        except TimeoutError:
            continue


class AccessGuard:
    """Lets through requests below the secret path that name the server as their host.

    It is a path rather than a cookie, since cookies of 127.0.0.1 are sent to every port. A browser
    is started with an `opening`, an address that works once and for a minute, since every user of
    the machine can read the arguments of a process.
    """

    def __init__(self, *, port: int, monotonic: Callable[[], float]) -> None:
        self.root = f"/{secrets.token_urlsafe(_BYTES)}"
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        self._monotonic = monotonic
        self._once = ""
        self._until = 0.0

    def guarding(self, app: ASGIApp) -> ASGIApp:
        """Return `app` behind the guard. Its pages must link to addresses below `root`."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            answer = self._answer(scope)
            if isinstance(answer, Response):
                await answer(scope, receive, _strictly(send))
            else:
                inner = {**scope, "path": answer, "raw_path": answer.encode("utf-8", "replace")}
                await app(inner, receive, _strictly(send))

        return guarded

    def opening(self) -> str:
        """Return a path that leads to the first page, once and within a minute."""
        self._once = f"/open/{secrets.token_urlsafe(_BYTES)}"
        self._until = self._monotonic() + _OPENING
        return self._once

    def _answer(self, scope: Scope) -> Response | str:
        """Return the path below the secret one, or a response that refuses the request."""
        path = str(scope["path"])
        if Headers(scope=scope).get("host", "") not in self._hosts:
            return _refused(403, "this server is asked by another name than its own")
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("nothing can be changed here\n", 405, {"allow": "GET, HEAD"})
        if path == "/favicon.ico":  # browsers ask for it if a response is not a page
            return Response(status_code=204)
        if self._opens(path, scope["method"]):
            return RedirectResponse(f"{self.root}/", 303)
        first, slash, rest = path[1:].partition("/")
        if not _same(f"/{first}", self.root):
            return _refused(404, "open the whole address that poeflow printed")
        return f"/{rest}" if slash else RedirectResponse(f"{self.root}/", 308)

    def _opens(self, path: str, method: str) -> bool:
        is_open = method == "GET" and _same(path, self._once) and self._monotonic() < self._until
        if is_open:
            self._once = ""
        return is_open


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


def _config(app: ASGIApp) -> uvicorn.Config:
    """Return settings that print nothing and serve plain HTTP only."""
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


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: Ctrl-C is handled by the caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _page(html: str | None) -> Response:
    if html is None:
        raise HTTPException(404)
    return HTMLResponse(html)


def _number(request: Request, name: str) -> int:
    """Return a number in the address; a longer one than any run or instance has is a 404."""
    number: int = request.path_params[name]
    if number >= 10**_MOST_DIGITS:
        raise HTTPException(404)
    return number


def _same(given: str, secret: str) -> bool:
    return bool(secret) and hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _refused(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status)


def _strictly(send: Send) -> Send:
    async def strict(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return strict
