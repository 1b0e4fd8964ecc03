"""From saving a file to the request that follows, in a session of `poeflow watch`."""

import time
from collections.abc import Sequence
from pathlib import Path

from projects import Project
from servers import Server

QUIET_SECONDS = 1.0
PAUSE_SECONDS = 0.2
PATIENCE_SECONDS = 60.0


def latencies(project: Project, server: Server, files: Sequence[Path], saves: int) -> list[float]:
    """Return the seconds from each of so many saves to the request that came of it."""
    process = project.start("watch", "a.yaml", "--max-requests", "100000")
    try:
        await_quiet(server)
        return [latency(server, files[number % len(files)], number) for number in range(saves)]
    finally:
        process.terminate()
        process.wait()


def await_quiet(server: Server) -> None:
    """Wait until requests have come, and no more come for a while."""
    count, since = 0, time.monotonic()
    while not count or time.monotonic() - since < QUIET_SECONDS:
        if server.stats()["chat"] != count:
            count, since = server.stats()["chat"], time.monotonic()
        time.sleep(0.05)


def latency(server: Server, file: Path, number: int) -> float:
    time.sleep(PAUSE_SECONDS)
    server.get("/reset")
    began = time.monotonic_ns()
    file.write_text(f"other text, {number}", encoding="utf-8")
    while not (stats := server.stats())["chat"]:
        if time.monotonic_ns() - began > PATIENCE_SECONDS * 1e9:
            raise SystemExit(f"a save of {file.name} led to no request")
        time.sleep(0.02)
    return (stats["first_req_ns"] - began) / 1e9
