"""What a type checker must know of the public client; mypy reads this, nothing runs it."""

from typing import assert_type

from poeflow import AsyncPoeClient, Completion, CompletionChunk, PoeClient
from poeflow.client.aio import AsyncStream
from poeflow.client.sync import Stream


def sync(client: PoeClient, flag: bool) -> None:
    create = client.chat.completions.create
    assert_type(create(model="a", messages=[]), Completion)
    assert_type(create(model="a", messages=[], stream=False), Completion)
    assert_type(create(model="a", messages=[], stream=True), Stream)
    assert_type(create(model="a", messages=[], stream=flag), Completion | Stream)
    for chunk in create(model="a", messages=[], stream=True):
        assert_type(chunk, CompletionChunk)
        assert_type(chunk.choices[0].delta.content, str | None)


async def asynchronous(client: AsyncPoeClient, flag: bool) -> None:
    create = client.chat.completions.create
    assert_type(await create(model="a", messages=[]), Completion)
    assert_type(await create(model="a", messages=[], stream=False), Completion)
    assert_type(await create(model="a", messages=[], stream=True), AsyncStream)
    assert_type(await create(model="a", messages=[], stream=flag), Completion | AsyncStream)
    async for chunk in await create(model="a", messages=[], stream=True):
        assert_type(chunk, CompletionChunk)
