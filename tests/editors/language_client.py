"""An editor as language servers see one: JSON-RPC over the pipes of a real process."""

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any, Self

PATIENCE = 60.0


class Editor:
    """A started language server with the files of a folder. Use it as a context manager."""

    def __init__(self, command: list[str], folder: Path, settings: dict[str, Any] | None = None):
        self._folder = folder
        self._settings = settings or {}
        self._rest = b""
        self._number = 0
        self._diagnostics: dict[str, list[dict[str, Any]]] = {}
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        os.set_blocking(self._process.stdout.fileno(), False)
        self.abilities = self.ask(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": folder.as_uri(),
                "workspaceFolders": [{"uri": folder.as_uri(), "name": "project"}],
                "capabilities": {
                    "workspace": {"configuration": True},
                    "textDocument": {
                        "completion": {"completionItem": {"snippetSupport": True}},
                        "hover": {"contentFormat": ["markdown", "plaintext"]},
                        "publishDiagnostics": {},
                    },
                },
            },
        )["capabilities"]
        self.tell("initialized", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.ask("shutdown", None)
        self.tell("exit", None)
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        assert self._process.returncode == 0

    def open(self, path: Path) -> list[dict[str, Any]]:
        """Open a file, and return what is wrong in it."""
        document = {"uri": path.as_uri(), "languageId": "yaml", "version": 1}
        self._diagnostics.pop(path.as_uri(), None)
        self.tell(
            "textDocument/didOpen", {"textDocument": {**document, "text": path.read_text("utf-8")}}
        )
        return self.problems(path)

    def change(self, path: Path, text: str, version: int) -> list[dict[str, Any]]:
        """Change a file that is open, without saving it; return what is wrong in it."""
        self._diagnostics.pop(path.as_uri(), None)
        document = {"uri": path.as_uri(), "version": version}
        changes = {"textDocument": document, "contentChanges": [{"text": text}]}
        self.tell("textDocument/didChange", changes)
        return self.problems(path)

    def problems(self, path: Path) -> list[dict[str, Any]]:
        ends = time.monotonic() + PATIENCE
        while path.as_uri() not in self._diagnostics:
            self._take(self._message(ends))
        return self._diagnostics[path.as_uri()]

    def at(self, method: str, path: Path, line: int, column: int) -> Any:
        """Ask something about a place; lines and columns count from 1."""
        position = {"line": line - 1, "character": column - 1}
        document = {"uri": path.as_uri()}
        return self.ask(f"textDocument/{method}", {"textDocument": document, "position": position})

    def ask(self, method: str, params: Any) -> Any:
        self._number += 1
        number = self._number
        self._send({"id": number, "method": method, "params": params})
        ends = time.monotonic() + PATIENCE
        while True:
            message = self._message(ends)
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message["error"]
                return message.get("result")
            self._take(message)

    def tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _take(self, message: dict[str, Any]) -> None:
        """Answer what the server asks, and remember what it says of files."""
        if message.get("method") == "textDocument/publishDiagnostics":
            found = message["params"]
            self._diagnostics[found["uri"]] = found["diagnostics"]
        elif message.get("method") == "workspace/configuration":
            items = message["params"]["items"]
            result = [self._settings.get(item.get("section", "")) for item in items]
            self._send({"id": message["id"], "result": result})
        elif "id" in message and "method" in message:
            self._send({"id": message["id"], "result": None})

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
        self._process.stdin.flush()

    def _message(self, ends: float) -> dict[str, Any]:
        while True:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length:")[2].split()[0]) if found else 0
            if found and len(rest) >= size:
                self._rest = rest[size:]
                return json.loads(rest[:size])
            waiting = ends - time.monotonic()
            ready = select.select([self._process.stdout], [], [], max(waiting, 0))[0]
            assert ready, "the language server is silent"
            data = self._process.stdout.read(65536)
            assert data, "the language server has ended"
            self._rest += data
