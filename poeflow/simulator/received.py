"""The log of what a simulator was asked: for assertions in users' tests."""

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.redact import MASK
from poeflow.simulator.http_messages import Request

MAX_KEPT: Final = 10_000
MAX_KEPT_BYTES: Final = 256 * 1024 * 1024


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came in; the key in `authorization` is masked.

    `json` is the decoded body, None where there was none or it is not JSON.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    json: Json


class Log:
    """Keeps the newest requests, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Received]] = deque()
        self._bytes = 0

    def add(self, request: Request, json: Json) -> None:
        self._kept.append((len(request.body), _received(request, json)))
        self._bytes += len(request.body)
        while len(self._kept) > MAX_KEPT or (self._bytes > MAX_KEPT_BYTES and len(self._kept) > 1):
            size, _ = self._kept.popleft()
            self._bytes -= size

    def all(self) -> tuple[Received, ...]:
        return tuple(received for _, received in self._kept.copy())


def _received(request: Request, json: Json) -> Received:
    headers = dict(request.headers)
    if "authorization" in headers:
        is_bearer = headers["authorization"].lower().startswith("bearer ")
        headers["authorization"] = f"Bearer {MASK}" if is_bearer else MASK
    return Received(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=headers,
        json=json,
    )
