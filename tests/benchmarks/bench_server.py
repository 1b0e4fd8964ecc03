"""A small chat-completions server to measure against: `python bench_server.py` prints its address.

Its knobs are set by `GET /control?latency_ms=20&chunks=10`, or for one request by the header
`x-fake: latency_ms=20&chunks=10`: how long an answer takes to begin (with `spread=1` half of that
more or less), how many chunks a stream has, and `chunk_bytes`, the characters in each. With
`echo=2000` requests are remembered for `GET /asked`, and an answer is the last message, repeated
up to that length.
"""

import asyncio
import base64
import json
import random
import sys
import time
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self
from urllib.parse import parse_qsl

HEAD: Final = "HTTP/1.1 200 OK\r\ncontent-type: {}\r\n{}\r\n\r\n"
LOOK_BACK: Final = 128
"""Bytes at the end of a request that say whether it wants a stream, and the usage in it."""


class Knobs(NamedTuple):
    latency_ms: float = 0
    spread: float = 0
    chunks: int = 10
    chunk_bytes: int = 5
    echo: int = 0

    def turned(self, query: str) -> Self:
        given = dict(parse_qsl(query))
        kinds = self._field_defaults
        return self._replace(**{name: type(kinds[name])(text) for name, text in given.items()})


class State:
    """What the server was asked so far, and how it answers."""

    def __init__(self) -> None:
        self.knobs = Knobs()
        self.reset()

    def reset(self) -> None:
        self.chat = self.inflight = self.peak_inflight = 0
        self.first_req_ns = self.last_req_ns = 0
        self.asked: list[str] = []

    def begin(self) -> None:
        self.last_req_ns = time.monotonic_ns()
        self.first_req_ns = self.first_req_ns or self.last_req_ns
        self.chat += 1
        self.inflight += 1
        self.peak_inflight = max(self.peak_inflight, self.inflight)

    def get(self, target: str) -> Any:
        """Return what is asked for beside answers."""
        path, _, query = target.partition("?")
        match path:
            case "/control":
                self.knobs = Knobs().turned(query)
            case "/reset":
                self.reset()
            case "/asked":
                return self.asked
        names = ("chat", "inflight", "peak_inflight", "first_req_ns", "last_req_ns")
        return {name: getattr(self, name) for name in names}


@lru_cache(maxsize=8)
def text_of(size: int) -> str:
    """Return a text that hardly gets smaller when it is compressed."""
    return base64.b64encode(random.Random(1).randbytes(size)).decode()[:size]


@lru_cache(maxsize=8)
def made_up(knobs: Knobs, streams: bool, usage: bool) -> bytes:
    return response(text_of(knobs.chunks * knobs.chunk_bytes), knobs, streams, usage)


def response(text: str, knobs: Knobs, streams: bool, usage: bool) -> bytes:
    return streamed(text, knobs, usage) if streams else whole(text)


USAGE: Final = {"prompt_tokens": 7, "completion_tokens": 7, "total_tokens": 14}


def whole(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    return plain(answer | {"choices": [choice], "usage": USAGE})


def plain(value: Any) -> bytes:
    body = json.dumps(value, separators=(",", ":"))
    return (HEAD.format("application/json", f"content-length: {len(body)}") + body).encode()


def streamed(text: str, knobs: Knobs, usage: bool) -> bytes:
    size = -(-len(text) // knobs.chunks)
    pieces = (text[at : at + size] for at in range(0, len(text), size))
    chunks = [event([choice({"content": piece})]) for piece in pieces]
    chunks.append(event([choice({}, "stop")]))
    if usage:
        chunks.append(event([], USAGE))
    head = HEAD.format("text/event-stream", "transfer-encoding: chunked")
    return (head + "".join(chunks) + "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").encode()


def choice(delta: dict, finish: str | None = None) -> dict:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def event(choices: list[dict], usage: dict | None = None) -> str:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunk |= {"choices": choices} | ({"usage": usage} if usage else {})
    data = f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"
    return f"{len(data):x}\r\n{data}\r\n"


class Connection(asyncio.Protocol):
    """One connection; requests are answered one after the other."""

    def __init__(self, state: State) -> None:
        self.state = state

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.head, self.left, self.tail, self.body = b"", 0, b"", []

    def data_received(self, data: bytes) -> None:
        if not self.left:
            self.head += data
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            if head.startswith(b"GET "):
                self.head = b""
                self.transport.write(plain(self.state.get(head.split(b" ", 2)[1].decode())))
                return
            self.begin(head)
            data = body
        if self.knobs.echo:
            self.body.append(data)
        self.tail = (self.tail + data)[-LOOK_BACK:]
        self.left -= len(data)
        if not self.left:
            self.end()

    def begin(self, head: bytes) -> None:
        lines = (line.partition(b":") for line in head.split(b"\r\n"))
        headers = {name.lower(): value.strip() for name, _, value in lines}
        self.knobs = self.state.knobs.turned(headers.get(b"x-fake", b"").decode())
        self.left = int(headers[b"content-length"])

    def end(self) -> None:
        self.state.begin()
        streams, usage = b'"stream":true' in self.tail, b'"include_usage":true' in self.tail
        if self.knobs.echo:
            prompt = json.loads(b"".join(self.body))["messages"][-1]["content"]
            self.state.asked.append(prompt)
            data = response(repeated(prompt, self.knobs.echo), self.knobs, streams, usage)
        else:
            data = made_up(self.knobs, streams, usage)
        self.head, self.tail, self.body = b"", b"", []
        around = self.knobs.spread * random.uniform(-0.5, 0.5)
        seconds = self.knobs.latency_ms / 1000 * (1 + around)
        self.loop.call_later(seconds, self.answer, data)

    def answer(self, data: bytes) -> None:
        self.state.inflight -= 1
        if not self.transport.is_closing():
            self.transport.write(data)


def repeated(prompt: str, size: int) -> str:
    """Return what a prompt is answered with when requests are remembered."""
    return (f"{prompt}. " * (size // len(prompt) + 1))[:size] + "."


async def main() -> None:
    loop, state = asyncio.get_running_loop(), State()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
