"""Recorders and replays as processes, and a server that answers what the simulator does not."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from poeflow.cassettes.recordings import RecordedExchange, parse_cassette

COMMAND = [sys.executable, "-W", "error", "-m", "poeflow.cli.start"]


@dataclass
class Serving:
    """A running `poeflow simulate`; `code` and `err` are known when it has ended."""

    url: str
    process: subprocess.Popen[str] = field(repr=False)
    code: int | None = None
    err: str = ""

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        return httpx.post(f"{self.url}{path}", json=body, headers=names, timeout=20)


@contextmanager
def serving(*options: str | Path, prefix: tuple[str, ...] = ()) -> Iterator[Serving]:
    """Run `poeflow simulate` until the block ends, and end it with Ctrl-C if it runs still."""
    pipe = subprocess.PIPE
    command = [*prefix, *COMMAND, "simulate", *map(str, options)]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("listening "), process.communicate(timeout=20)
            one = Serving(line.removeprefix("listening ").strip(), process)
            yield one
            process.send_signal(signal.SIGINT)
            one.err = process.communicate(timeout=20)[1]
            one.code = process.returncode
        finally:
            process.kill()


def recorder(url: str, cassette: Path, *options: str, **rest: tuple[str, ...]):
    return serving("--record", url, "--cassette", cassette, *options, **rest)


def replay(cassette: Path):
    return serving("--replay", cassette)


def recordings(cassette: Path) -> list[RecordedExchange]:
    text = parse_cassette(cassette.read_bytes(), str(cassette))
    assert (text.problems, text.is_torn) == ((), False)
    return [read.recording for read in text.recordings]


def ran(*arguments: str | Path) -> tuple[int, str, str]:
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


@dataclass
class Asked:
    """A request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)


Answer = Callable[[BaseHTTPRequestHandler, Asked], None]


@dataclass
class Server:
    """A server of the test: `url` is its base URL, `asked` what it got."""

    url: str
    asked: list[Asked]


@contextmanager
def server(answer: Answer) -> Iterator[Server]:
    """Serve on loopback; `answer` writes each answer."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            size = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            one = Asked(self.command, self.path, headers, self.rfile.read(size))
            asked.append(one)
            answer(self, one)

        do_GET = do_DELETE = do_POST  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{running.server_port}/v1", asked)
        finally:
            running.shutdown()
            thread.join()


def send(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    kind: str = "application/json",
    **headers: str,
) -> None:
    """Write an answer of known length."""
    handler.send_response(200)
    handler.send_header("content-type", kind)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def begin_stream(handler: BaseHTTPRequestHandler) -> Callable[[bytes], None]:
    """Begin a stream, and return what writes its next bytes; b"" ends it."""
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()

    def write(data: bytes) -> None:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.flush()

    return write


def event(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
