"""A service asked without a socket, and what to read from its replies."""

import asyncio
from typing import Any

import httpx
import msgspec

from poeflow.clock import SystemClock
from poeflow.simulator.bot_list import read_bot_list
from poeflow.simulator.chat import SimulatorSettings
from poeflow.simulator.http_messages import Reply, Request
from poeflow.simulator.script import Script
from poeflow.simulator.script_player import ScriptPlayer
from poeflow.simulator.service import Service


class StoppedClock:
    """Time that passes only when told to; waiting is noted and takes none of it."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return 1_767_225_600.0

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def asleep(self, seconds: float) -> None:
        self.waits.append(seconds)


class Gate(StoppedClock):
    """Every wait lasts until `open` is set; `reached` is set where the first begins."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.reached = asyncio.Event()

    async def asleep(self, seconds: float) -> None:
        self.reached.set()
        await self.open.wait()


class Desk:
    """A service, asked directly."""

    def __init__(self, clock: Any = None, script: Script | None = None, **settings: Any) -> None:
        player, used = ScriptPlayer(script or Script()), clock or SystemClock()
        self.service = Service(SimulatorSettings(**settings), read_bot_list(None), player, used)
        self.service.origin = "http://sim"

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        query = dict(httpx.URL(path).params)
        bare = path.partition("?")[0]
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        request = Request(method=method, path=bare, query=query, headers=names, body=body)
        return self.service.reply_to(request)

    def ask(self, text: str = "Hello there", *, strict: bool = False, **fields: Any) -> Reply:
        body = {"model": "Claude-Sonnet-4.5", "messages": [{"role": "user", "content": text}]}
        feature = {"poe_feature": "chat-completions-strict"} if strict else {}
        data = msgspec.json.encode(body | fields)
        return self.send("POST", "/v1/chat/completions", data, **feature)


def body_of(reply: Reply) -> Any:
    return msgspec.json.decode(b"".join(segment.data for segment in reply.segments))


def text_of(reply: Reply) -> str:
    return body_of(reply)["choices"][0]["message"]["content"]
