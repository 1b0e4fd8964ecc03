"""The addresses of the server: which page, picture or stream is where."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from poeflow.errors import PoeflowError
from poeflow.opener import read_packaged
from poeflow.report.pages.environment import ASSETS
from poeflow.report.pages.live import news
from poeflow.report.pages.pages import Pages

_ASSETS: Final = {"style.css": "text/css", "live.js": "text/javascript"}
_MOST_DIGITS: Final = 12


class Site:
    """Answers for `pages`; `closing` ends the streams of news."""

    def __init__(self, pages: Pages, closing: asyncio.Event) -> None:
        self._pages = pages
        self._closing = closing
        self._assets = {name: read_packaged(ASSETS / name) for name in _ASSETS}

    def application(self) -> Starlette:
        """Return the application. Where there is nothing, or the disk fails, a page says so."""
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
        """Give an answer as plain text, which no browser takes for a page."""
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
        return await self._told(status, "nothing here", "There is no such run, step or answer.")

    async def failure(self, _request: Request, error: Exception) -> Response:
        return await self._told(500, "this cannot be shown", str(error))

    async def bug(self, _request: Request, error: Exception) -> Response:
        text = f"This is a bug in poeflow ({type(error).__name__}); please report it."
        return await self._told(500, "this cannot be shown", text)

    async def _told(self, status: int, title: str, text: str) -> Response:
        page = await run_in_threadpool(self._pages.message, title, text)
        return HTMLResponse(page, status)


def _page(html: str | None) -> Response:
    if html is None:
        raise HTTPException(404)
    return HTMLResponse(html)


def _number(request: Request, name: str) -> int:
    """Return a number of the address; no run or instance has one this long."""
    number: int = request.path_params[name]
    if number >= 10**_MOST_DIGITS:
        raise HTTPException(404)
    return number
