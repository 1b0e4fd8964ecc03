"""Servers of scripted bytes on loopback, and a proxy in front of them."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from client_desk import reply

CLOSE, RESET, HOLD = "close", "reset", "hold"
Action = bytes | str | Callable[[], object]


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
                self._accepted.append(opened)  # the plain socket is detached from now on
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


class ConnectProxy:
    """A proxy that takes CONNECT to anywhere and leads to one port of loopback."""

    def __init__(self, port: int, status: str = "200 OK") -> None:
        self.seen = b""
        self.tunnels = 0
        self._port, self._status = port, status
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._port = 0
        socket.create_connection(self._listener.getsockname()).close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    def _spawn(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if not self._port:
                near.close()
                return
            self._spawn(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        with near:
            self.tunnels += 1
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(65536)
            self.seen += head
            near.sendall(f"HTTP/1.1 {self._status}\r\ncontent-length: 0\r\n\r\n".encode())
            if not self._status.startswith("200"):
                return
            with socket.create_connection(("127.0.0.1", self._port)) as far:
                back = threading.Thread(target=self._copy, args=(far, near))
                back.start()
                self._copy(near, far)
                back.join(10)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
