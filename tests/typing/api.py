"""What a type checker must know of the public client; mypy reads this, nothing runs it."""

from typing import Unpack, assert_type

import httpx

from poeflow import (
    AsyncPoeClient,
    Completion,
    CompletionChunk,
    CreateParams,
    MessageParam,
    PoeClient,
    ToolCall,
    TruncatedStreamError,
    Usage,
)
from poeflow.client.aio import AsyncStream
from poeflow.client.messages import ChatRequest
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


def conversation(client: PoeClient, **params: Unpack[CreateParams]) -> str:
    messages: list[MessageParam] = [{"role": "user", "content": "Hi"}]
    try:
        answer = client.chat.completions.create(model="a", messages=messages)
    except TruncatedStreamError as error:
        return error.completion.text
    message = answer.choices[0].message
    messages += [message, message.to_param(), {"role": "user", "content": "and then?"}]
    assert_type(answer.usage, Usage | None)
    assert_type(message.reasoning_content, str | None)
    for call in message.tool_calls or []:
        assert_type(call, ToolCall)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "42"})
    return client.chat.completions.create(**params).text


async def asynchronous(client: AsyncPoeClient, flag: bool) -> None:
    create = client.chat.completions.create
    assert_type(await create(model="a", messages=[]), Completion)
    assert_type(await create(model="a", messages=[], stream=False), Completion)
    assert_type(await create(model="a", messages=[], stream=True), AsyncStream)
    assert_type(await create(model="a", messages=[], stream=flag), Completion | AsyncStream)
    async for chunk in await create(model="a", messages=[], stream=True):
        assert_type(chunk, CompletionChunk)


def of_client(request: ChatRequest) -> None:
    client = PoeClient(api_key="k", attempts=2, transport=httpx.HTTPTransport())
    assert_type(client.with_options(attempts=3), PoeClient)
    assert_type(client.ask(request, timeout=9, media=True), Completion)
    PoeClient(nonsense=1)  # type: ignore[call-arg]  # no argument of that name
    PoeClient(attempts="2")  # type: ignore[arg-type]  # it is a number
    PoeClient(transport=httpx.AsyncHTTPTransport())  # type: ignore[arg-type]  # it cannot block
    client.ask(request, nonsense=1)  # type: ignore[call-arg]  # no option of that name
    client.ask(request, timeout="9")  # type: ignore[arg-type]  # it is a number
    create = client.chat.completions.create
    create(model="a", messages=[], nonsense=1)  # type: ignore[call-overload]  # no such parameter
    create(model="a", messages=[], seed="1")  # type: ignore[call-overload]  # it is a number
    create(messages=[])  # type: ignore[call-overload]  # it needs a model


async def of_asynchronous_client(request: ChatRequest) -> None:
    client = AsyncPoeClient(api_key="k", attempts=2, transport=httpx.AsyncHTTPTransport())
    assert_type(client.with_options(attempts=3), AsyncPoeClient)
    assert_type(await client.ask(request, timeout=9, media=True), Completion)
    AsyncPoeClient(nonsense=1)  # type: ignore[call-arg]  # no argument of that name
    AsyncPoeClient(transport=httpx.HTTPTransport())  # type: ignore[arg-type]  # it blocks
    await client.ask(request, nonsense=1)  # type: ignore[call-arg]  # no option of that name
    create = client.chat.completions.create
    await create(model="a", messages=[], n=2)  # type: ignore[call-overload]  # it is 1
