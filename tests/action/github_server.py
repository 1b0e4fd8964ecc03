"""GitHub's REST API, as far as the action uses it, on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "token-canary-0123456789"
REPOSITORY = "someone/prompts"


class GitHub:
    """Comments and pull requests, and who may write them."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.pulls: list[dict[str, Any]] = []
        self.may_write = True
        self.address = ""

    def answer(self, method: str, path: str, given: Any) -> tuple[int, Any]:
        place, _, query = path.partition("?")
        _, _, _, _, *rest = place.split("/")
        match method, rest:
            case "GET", ["issues", _, "comments"]:
                page = int(query.rpartition("page=")[2])
                return 200, self.comments[(page - 1) * 100 : page * 100]
            case "GET", ["pulls"]:
                return 200, [one for one in self.pulls if f"head={one['from']}&" in query]
            case _ if not self.may_write:
                return 403, {"message": "Resource not accessible by integration"}
            case "POST", ["issues", _, "comments"]:
                return 201, self.add_comment(given["body"], "Bot")
            case "PATCH", ["issues", "comments", number]:
                self.comments[int(number)] |= given
                return 200, self.comments[int(number)]
            case "POST", ["pulls"]:
                owner = REPOSITORY.partition("/")[0]
                at = f"{self.address}/pull/{len(self.pulls)}"
                self.pulls.append(given | {"from": f"{owner}:{given['head']}", "html_url": at})
                return 201, self.pulls[-1]
        return 404, {"message": "Not Found"}

    def add_comment(self, body: str, kind: str) -> dict[str, Any]:
        number = len(self.comments)
        address = f"{self.address}/comment/{number}"
        self.comments.append(
            {"id": number, "body": body, "user": {"type": kind}, "html_url": address}
        )
        return self.comments[-1]


@contextmanager
def serving() -> Iterator[GitHub]:
    github = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = 401, {"message": "Bad credentials"}
            if self.headers["Authorization"] == f"Bearer {TOKEN}":
                given = json.loads(data) if data else None
                status, body = github.answer(self.command, self.path, given)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = handle_any  # noqa: N815 - the names of http.server

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        github.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield github
        finally:
            server.shutdown()
            thread.join()
