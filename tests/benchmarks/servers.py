"""The server of a benchmark in a process of its own, and how it is told what to do."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Server:
    """A server that takes `/control`, `/reset` and `/stats`: ours, or one given by its address."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def control(self, **knobs: float) -> None:
        """Forget what was asked, and answer as the knobs say."""
        self.get("/reset")
        self.get("/control?" + "&".join(f"{name}={value}" for name, value in knobs.items()))

    def stats(self) -> dict[str, int]:
        return self.get("/stats")

    def get(self, target: str) -> Any:
        with self._opener.open(self.address + target, timeout=60) as response:
            text = response.read()
        with contextlib.suppress(ValueError):
            return json.loads(text)


@contextlib.contextmanager
def served(address: str | None = None) -> Iterator[Server]:
    """Start a server, unless there is one at an address given."""
    if address is not None:
        yield Server(address)
        return
    command = [sys.executable, str(Path(__file__).with_name("bench_server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process.stdout.readline().strip())
        finally:
            process.terminate()
