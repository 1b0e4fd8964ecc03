"""A server on loopback that answers model by model with the events, or the body, it was given."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec


def said(text: str, finish: object = "stop", **delta: object) -> list[dict]:
    """The chunks of one answer."""
    return [
        {"choices": [{"index": 0, "delta": {"content": text, **delta}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
    ]


def called(name: str, arguments: str, finish: str = "tool_calls", **facts: object) -> list[dict]:
    call = {"index": 0, "function": {"name": name, "arguments": arguments}, **facts}
    return said("", finish, tool_calls=[call])


class WireServer:
    """`answers` are those of each model in turn, the last for ever: chunks, or (status, body)."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.requests: list[dict] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                asked = msgspec.json.decode(self.rfile.read(int(self.headers["content-length"])))
                server.requests.append(asked)
                left = server.answers[asked["model"]]
                answer = left.pop(0) if len(left) > 1 else left[0]
                status, kind, body = server.spelled(answer)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @staticmethod
    def spelled(answer: Any) -> tuple[int, str, bytes]:
        if isinstance(answer, tuple):
            return answer[0], "application/json", msgspec.json.encode(answer[1])
        events = [one if isinstance(one, bytes) else msgspec.json.encode(one) for one in answer]
        body = b"".join(b"data: " + one + b"\n\n" for one in [*events, b"[DONE]"])
        return 200, "text/event-stream", body

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
