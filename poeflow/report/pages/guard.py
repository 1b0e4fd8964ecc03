"""Who may see the pages: those who know the address, on this machine, and only to look."""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class Guard:
    """Lets through what asks for something below the secret path, by the server's own name.

    A path rather than a cookie: cookies of 127.0.0.1 go to every port, so to every server on it.
    A browser is started with an `opening`, an address that serves once and only for a minute, as
    what a process was started with can be read by everybody on the machine.
    """

    def __init__(self, *, port: int, monotonic: Callable[[], float]) -> None:
        self.root = f"/{secrets.token_urlsafe(_BYTES)}"
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        self._monotonic = monotonic
        self._once = ""
        self._until = 0.0

    def guarding(self, app: ASGIApp) -> ASGIApp:
        """Return `app` for those who may see it. Its pages link to places below `root`."""

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
        """Return a path that leads to the first page once, within a minute."""
        self._once = f"/open/{secrets.token_urlsafe(_BYTES)}"
        self._until = self._monotonic() + _OPENING
        return self._once

    def _answer(self, scope: Scope) -> Response | str:
        """Return the path below the secret one, or the answer to who may not see it."""
        path = str(scope["path"])
        if Headers(scope=scope).get("host", "") not in self._hosts:
            return _refused(403, "this server is asked by another name than its own")
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("nothing can be changed here\n", 405, {"allow": "GET, HEAD"})
        if path == "/favicon.ico":  # browsers ask for it where an answer is no page
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
