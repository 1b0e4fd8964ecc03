"""What goes over the wire in client tests, a clock, and one way to drive both clients."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import uvloop

from poeflow.client.aio import AsyncPoeClient
from poeflow.client.messages import ChatRequest, DataUrl, FileData, FilePart, Message
from poeflow.client.sync import PoeClient

KEY = "canary-key-0123456789"
ASKED = {"model": "Grok-4", "messages": [{"role": "user", "content": "Hi"}]}
DONE = b"data: [DONE]\n\n"


def piece(content=None, finish=None, **delta) -> dict:
    """One chunk of a stream."""
    if content is not None:
        delta["content"] = content
    return {"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def event(document: object) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def whole(text: str = "Hello") -> dict:
    """An unstreamed answer."""
    message = {"role": "assistant", "content": text}
    return {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def reply(status: int = 200, body: object = None, **headers: str) -> bytes:
    """A whole response; without a body it is a short answer, or an error."""
    if body is None:
        body = whole() if status == 200 else {"error": {"message": "no", "type": "t"}}
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def streamed(*texts: str) -> bytes:
    """A whole stream, in chunked framing."""
    events = [event(piece(text)) for text in texts] + [event(piece(finish="stop")), DONE]
    return STREAM + b"".join(map(chunk, events)) + END


def large(size: int) -> ChatRequest:
    """A request with an attachment of so many bytes."""
    url = DataUrl(media_type="application/pdf", data=bytes(size))
    part = FilePart(file=FileData(filename="a.pdf", file_data=url))
    return ChatRequest(model="Grok-4", messages=(Message(role="user", content=(part,)),))


class FakeClock:
    """Time that passes only in sleeps, which are noted."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class Driver:
    """A client of either kind, driven with plain calls."""

    def __init__(self, kind: str, settings: dict[str, Any]) -> None:
        self.is_async = kind != "sync"
        self.client: Any = (AsyncPoeClient if self.is_async else PoeClient)(**settings)
        loop = uvloop.new_event_loop if kind == "uvloop" else asyncio.new_event_loop
        self._runner = asyncio.Runner(loop_factory=loop)

    def create(self, **params: Any) -> Any:
        return self.do(lambda client: client.chat.completions.create(**{**ASKED, **params}))

    def do(self, call: Callable[[Any], Any]) -> Any:
        """Call, and await what comes back where it must be."""
        if not self.is_async:
            return call(self.client)
        return self._runner.run(_awaited(call, self.client))

    def together(self, count: int, *, read: bool = False, **params: Any) -> list[Any]:
        """Ask `count` times at once, with `read` to the end of each stream."""
        asked = {**ASKED, **params}
        if self.is_async:
            return self._runner.run(_gathered(self.client, count, asked, read=read))

        def ask() -> Any:
            found = self.client.chat.completions.create(**asked)
            return found.final() if read else found

        with ThreadPoolExecutor(count) as pool:
            jobs = [pool.submit(ask) for _ in range(count)]
        return [job.result() for job in jobs]

    def chunks(self, stream: Any) -> Iterator[Any]:
        """Iterate over a stream of either kind."""
        if not self.is_async:
            yield from stream
            return
        while (found := self._runner.run(_next(stream))) is not None:
            yield found

    def close_stream(self, stream: Any) -> None:
        self.do(lambda _: stream.aclose() if self.is_async else stream.close())

    def close(self) -> None:
        self.do(lambda client: client.aclose() if self.is_async else client.close())
        self._runner.close()


async def _awaited(call: Callable[[Any], Any], client: Any) -> Any:
    found = call(client)
    return await found if asyncio.iscoroutine(found) else found


async def _gathered(client: Any, count: int, asked: dict[str, Any], *, read: bool) -> list[Any]:
    async def ask() -> Any:
        found = await client.chat.completions.create(**asked)
        return await found.final() if read else found

    return await asyncio.gather(*(ask() for _ in range(count)))


async def _next(stream: Any) -> Any:
    return await anext(stream, None)
