"""A server of scripted bytes, a clock, and one way to drive both clients."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from poeflow.client.aio import AsyncPoeClient
from poeflow.client.messages import ChatRequest, DataUrl, FileData, FilePart, Message
from poeflow.client.sync import PoeClient

KEY = "canary-key-0123456789"
ASKED = {"model": "Grok-4", "messages": [{"role": "user", "content": "Hi"}]}
DONE = b"data: [DONE]\n\n"
CLOSE, RESET, HOLD = "close", "reset", "hold"
Action = bytes | str | Callable[[], object]


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


@dataclass(frozen=True)
class Received:
    """A request as it came over a numbered connection."""

    connection: int
    head: str
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class ScriptedServer:
    """Answers each request with the next script: bytes to send, what to do, or whom to call.

    After the last one every request gets `reply()`. An `early` server answers before it has read
    the body.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open_connections = 0
        self.early = False
        self.answered = 0
        self.peak = 0
        self._busy = 0
        self._released = threading.Event()
        self._scripts: list[tuple[Action, ...]] = []
        self._changed = threading.Condition()
        self._tls = tls
        self._stopped = threading.Event()
        self._accepted: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def play(self, *scripts: bytes | tuple[Action, ...]) -> None:
        self._scripts += [s if isinstance(s, tuple) else (s,) for s in scripts]

    def forget(self) -> None:
        """Drop what was not played."""
        with self._changed:
            self._scripts.clear()

    def hold(self) -> None:
        """Read and send nothing until `release()`."""
        self._released.wait(30)

    def release(self) -> None:
        self._released.set()

    def meet(self, count: int) -> Callable[[], object]:
        """Return what waits until `count` requests are here at the same time."""
        barrier = threading.Barrier(count, timeout=30)
        return barrier.wait

    def wait_for(self, is_so: Callable[[], bool]) -> bool:
        """Wait for what the server's threads bring about. Raises `TimeoutError` after 20 s."""
        with self._changed:
            if not self._changed.wait_for(is_so, 20):
                raise TimeoutError
        return True

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.release()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the accepting thread
        self._threads[0].join(10)
        self._listener.close()
        for opened in self._accepted:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            opened, _ = self._listener.accept()
            if self._stopped.is_set():
                opened.close()
                return
            self._accepted.append(opened)
            self.connections += 1
            self._spawn(self._serve, opened, self.connections)

    def _serve(self, opened: socket.socket, number: int) -> None:
        self._count(open_connections=1)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(opened.close)
            if self._tls is not None:
                opened = stack.enter_context(self._tls.wrap_socket(opened, server_side=True))
            file = stack.enter_context(opened.makefile("rb"))
            while self._answer(opened, file, number):
                pass
        self._count(open_connections=-1)

    def _answer(self, opened: socket.socket, file: Any, number: int) -> bool:
        lines = []
        while (line := file.readline()) != b"\r\n":
            if not line:
                return False
            lines.append(line)
        head = b"".join(lines).decode()
        sizes = [line for line in lines if line.lower().startswith(b"content-length:")]
        size = int(sizes[0].partition(b":")[2]) if sizes else 0
        body = b"" if self.early else file.read(size)
        with self._changed:
            self.requests.append(Received(number, head, body))
            script = self._scripts.pop(0) if self._scripts else (reply(),)
            self._busy += 1
            self.peak = max(self.peak, self._busy)
            self._changed.notify_all()
        *actions, last = script
        goes_on = all(self._act(opened, file, action) for action in actions)
        self._count(_busy=-1)
        goes_on = goes_on and self._act(opened, file, last)
        self._count(answered=1)
        return goes_on

    def _count(self, **steps: int) -> None:
        with self._changed:
            for name, step in steps.items():
                setattr(self, name, getattr(self, name) + step)
            self._changed.notify_all()

    def _act(self, opened: socket.socket, file: Any, action: Action) -> bool:
        match action:
            case bytes():
                opened.sendall(action)
            case "hold":
                file.read()
                return False
            case "close":
                opened.shutdown(socket.SHUT_RDWR)
                return False
            case "reset":
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case _:
                action()
        return True


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
        self.is_async = kind == "async"
        self.client: Any = (AsyncPoeClient if self.is_async else PoeClient)(**settings)
        self._runner = asyncio.Runner()

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
