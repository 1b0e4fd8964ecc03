"""A small chat-completions server to measure against: `python bench_server.py` prints its address.

The header `x-fake: latency_ms=20&chunks=10` sets how long an answer takes to begin and how many
chunks a stream has.
"""

import asyncio
import sys
from typing import Final
from urllib.parse import parse_qsl

HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"
ANSWER: Final = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello there, this is an answer."},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":7,"total_tokens":14}}'
)
WHOLE: Final = HEAD % (b"application/json", b"content-length: %d" % len(ANSWER)) + ANSWER
STREAM: Final = HEAD % (b"text/event-stream", b"transfer-encoding: chunked")


def _chunk(delta: bytes, finish: bytes) -> bytes:
    data = (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
        b'"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}\n\n' % (delta, finish)
    )
    return b"%x\r\n%s\r\n" % (len(data), data)


PIECE: Final = _chunk(b'{"content":"Hello"}', b"null")
END: Final = _chunk(b"{}", b'"stop"') + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Server(asyncio.Protocol):
    """One connection; requests are answered one after the other."""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.head, self.left, self.tail = b"", 0, b""

    def data_received(self, data: bytes) -> None:
        if not self.left:
            self.head += data
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            self.begin(head)
            data = body
        self.tail = (self.tail + data)[-64:]
        self.left -= len(data)
        if not self.left:
            self.loop.call_later(self.latency, self.answer, b'"stream":true' in self.tail)
            self.head = self.tail = b""

    def begin(self, head: bytes) -> None:
        lines = (line.partition(b":") for line in head.split(b"\r\n"))
        headers = {name.lower(): value.strip() for name, _, value in lines}
        knobs = dict(parse_qsl(headers.get(b"x-fake", b"").decode()))
        self.left = int(headers[b"content-length"])
        self.latency = float(knobs.get("latency_ms", 0)) / 1000
        self.chunks = int(knobs.get("chunks", 10))

    def answer(self, streams: bool) -> None:
        body = STREAM + PIECE * self.chunks + END if streams else WHOLE
        self.transport.write(body)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
