"""One piece of work by one client in a process of its own: `bench_client.py ROW PEER URL`.

`count=50 width=5 fake=latency_ms=1` after it make it another. Prints the seconds it took without
imports, those of them the processor worked for it, and the peak of memory above that before it,
in MB.
"""

import asyncio
import base64
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

KEY = "benchmark-key"
MESSAGES = [{"role": "user", "content": "Top 3 things to do in NYC?"}]
HEADERS = {"authorization": f"Bearer {KEY}"}
ROWS = {
    "burst": {"count": 500, "width": 50, "fake": "latency_ms=50"},
    "flood": {"count": 5_000, "width": 200, "fake": "latency_ms=20"},
    "stream": {"count": 20_000, "width": 1, "fake": "chunks=20000"},
    "attach": {"count": 1, "width": 1, "fake": "latency_ms=0"},
}


async def in_parallel(ask: Callable[[], Awaitable[Any]], count: int, width: int) -> None:
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await ask()

    await asyncio.gather(*(work() for _ in range(width)))


async def with_poeflow(row: str, url: str, fake: str, run: Callable[..., Awaitable[None]]) -> None:
    from poeflow.client.aio import AsyncPoeClient
    from poeflow.client.messages import ChatRequest, DataUrl, FileData, FilePart, Message, TextPart

    async with AsyncPoeClient(api_key=KEY, base_url=f"{url}/v1") as bare:
        client = bare.with_options(headers={"x-fake": fake})

        async def whole() -> None:
            answer = await client.chat.completions.create(model="m", messages=MESSAGES)
            assert answer.choices[0].message.content

        async def stream() -> None:
            chunks = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            size = 0
            async for chunk in chunks:
                size += len(chunk.choices[0].delta.content or "")
            assert size == 100_000, size

        async def attach() -> None:
            url = DataUrl(media_type="application/pdf", data=attachment())
            parts = (TextPart(text="Sum up."), FilePart(file=FileData(filename="a", file_data=url)))
            request = ChatRequest(model="m", messages=(Message(role="user", content=parts),))
            assert (await client.ask(request)).text

        await run({"stream": stream, "attach": attach}.get(row, whole))


async def with_openai(row: str, url: str, fake: str, run: Callable[..., Awaitable[None]]) -> None:
    import openai

    headers = {"x-fake": fake}
    client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", default_headers=headers)

    async def whole(messages: Any = MESSAGES) -> None:
        answer = await client.chat.completions.create(model="m", messages=messages)
        assert answer.choices[0].message.content

    async def stream() -> None:
        chunks = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        size = 0
        async for chunk in chunks:
            size += len(chunk.choices[0].delta.content or "")
        assert size == 100_000, size

    async def attach() -> None:
        await whole(with_attachment())

    async with client:
        await run({"stream": stream, "attach": attach}.get(row, whole))


async def with_httpx(row: str, url: str, fake: str, run: Callable[..., Awaitable[None]]) -> None:
    import json

    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    url = f"{url}/v1/chat/completions"

    async with httpx.AsyncClient(limits=limits, headers=HEADERS | {"x-fake": fake}) as client:

        async def whole(messages: Any = MESSAGES) -> None:
            answer = await client.post(url, json={"model": "m", "messages": messages}, timeout=60)
            assert answer.json()["choices"][0]["message"]["content"]

        async def stream() -> None:
            size = 0
            body = {"model": "m", "messages": MESSAGES, "stream": True}
            async with client.stream("POST", url, json=body, timeout=60) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        delta = json.loads(line[6:])["choices"][0]["delta"]
                        size += len(delta.get("content") or "")
            assert size == 100_000, size

        async def attach() -> None:
            await whole(with_attachment())

        await run({"stream": stream, "attach": attach}.get(row, whole))


async def with_aiohttp(row: str, url: str, fake: str, run: Callable[..., Awaitable[None]]) -> None:
    import json

    import aiohttp

    url = f"{url}/v1/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    headers = HEADERS | {"x-fake": fake}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as client:

        async def whole(messages: Any = MESSAGES) -> None:
            async with client.post(url, json={"model": "m", "messages": messages}) as answer:
                assert (await answer.json())["choices"][0]["message"]["content"]

        async def stream() -> None:
            size = 0
            body = {"model": "m", "messages": MESSAGES, "stream": True}
            headers = {"content-type": "application/json"}
            data = json.dumps(body, separators=(",", ":"))
            async with client.post(url, data=data, headers=headers) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        delta = json.loads(line[6:])["choices"][0]["delta"]
                        size += len(delta.get("content") or "")
            assert size == 100_000, size

        async def attach() -> None:
            await whole(with_attachment())

        await run({"stream": stream, "attach": attach}.get(row, whole))


def attachment() -> bytes:
    return os.urandom(1 << 20) * 20


def with_attachment() -> list[dict]:
    url = f"data:application/pdf;base64,{base64.b64encode(attachment()).decode()}"
    file = {"type": "file", "file": {"filename": "a", "file_data": url}}
    return [{"role": "user", "content": [{"type": "text", "text": "Sum up."}, file]}]


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measured(row: str, peer: str, url: str, *changes: str) -> None:
    work = ROWS[row] | dict(change.split("=", 1) for change in changes)

    async def run(ask: Callable[[], Awaitable[None]]) -> None:
        before, began, worked = peak(), time.perf_counter(), time.process_time()
        count = 1 if row == "stream" else int(work["count"])
        await in_parallel(ask, count, int(work["width"]))
        elapsed, busy = time.perf_counter() - began, time.process_time() - worked
        sys.stdout.write(f"{elapsed} {busy} {peak() - before}\n")

    await globals()[f"with_{peer}"](row, url, work["fake"], run)


if __name__ == "__main__":
    asyncio.run(measured(*sys.argv[1:]))
