"""A server of pages in a thread, and a browser without a face to ask it."""

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from poeflow.report.pages.site import PageServer, serve
from poeflow.report.pages.source import PageData


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@contextlib.contextmanager
def served(shown: PageData, **options) -> Iterator[PageServer]:
    """Serve `shown` while the block lasts."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    found: list[PageServer] = []
    done = asyncio.Event()

    async def main() -> None:
        async with serve(shown, **options) as serving:
            found.append(serving)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(10)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def ask(address: str, *, method: str = "GET", **headers: str) -> Answer:
    """Send one request to a whole address."""
    parts = urlsplit(address)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    with contextlib.closing(connection):
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return Answer(
            answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        )
