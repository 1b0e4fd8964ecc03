"""Cancelling does not wear a client out."""

import asyncio

import pytest
from client_desk import ASKED, KEY, STREAM, chunk, event, piece, reply, streamed
from client_server import HOLD

from poeflow.client.aio import AsyncPoeClient


@pytest.fixture
async def complaints():
    """What the event loop had to complain about: tasks and futures nobody looked at."""
    heard: list = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    return heard


def client_of(server, **settings) -> AsyncPoeClient:
    return AsyncPoeClient(api_key=KEY, base_url=server.base_url, **settings)


async def until(server, is_so) -> None:
    await asyncio.to_thread(server.wait_for, is_so)


@pytest.mark.parametrize("stream", [False, True])
async def test_500_cancelled_requests_leave_a_healthy_client(server, complaints, stream):
    held = (STREAM + chunk(event(piece("a"))), HOLD) if stream else (HOLD,)
    server.play(*[held] * 500)
    async with client_of(server, concurrency=20, attempts=1) as client:

        async def ask() -> None:
            found = await client.chat.completions.create(**ASKED, stream=stream)
            if stream:
                await found.final()

        for batch in range(25):
            seen = len(server.requests)
            tasks = [asyncio.create_task(ask()) for _ in range(20)]
            for _ in range(batch % 9):
                await asyncio.sleep(0)  # so many steps into connecting, sending, reading
            if batch % 5 == 4:
                await until(server, lambda seen=seen: len(server.requests) > seen)
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in done} == {asyncio.CancelledError}
        server.forget()
        answers = [(await client.chat.completions.create(**ASKED)).text for _ in range(3)]
        assert answers == ["Hello"] * 3
        await until(server, lambda: server.open_connections == 1)
    await until(server, lambda: server.open_connections == 0)
    assert complaints == []


async def test_a_cancelled_request_frees_its_slot(server, complaints):
    server.play((HOLD,))
    async with client_of(server, concurrency=1) as client:
        first = asyncio.create_task(client.chat.completions.create(**ASKED))
        await until(server, lambda: len(server.requests) == 1)
        first.cancel()
        assert (await client.chat.completions.create(**ASKED)).text == "Hello"
        with pytest.raises(asyncio.CancelledError):
            await first
    assert complaints == []


async def test_a_request_cancelled_while_it_waits_for_a_slot_takes_none(server):
    server.play((server.hold, reply()))
    async with client_of(server, concurrency=1) as client:
        first = asyncio.create_task(client.chat.completions.create(**ASKED))
        await until(server, lambda: len(server.requests) == 1)
        second = asyncio.create_task(client.chat.completions.create(**ASKED))
        await asyncio.sleep(0)
        second.cancel()
        server.release()
        assert (await first).text == "Hello"
        assert (await client.chat.completions.create(**ASKED)).text == "Hello"
    assert len(server.requests) == 2


async def test_a_stream_cancelled_between_chunks_closes_its_connection(server, complaints):
    server.play((STREAM + chunk(event(piece("a"))), HOLD))
    async with client_of(server, concurrency=1) as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)
        assert (await anext(stream)).choices[0].delta.content == "a"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(stream)
        await until(server, lambda: server.open_connections == 0)
        assert (await client.chat.completions.create(**ASKED)).text == "Hello"
    assert complaints == []


async def test_a_stream_left_in_a_with_statement_is_closed(server):
    server.play((STREAM + chunk(event(piece("a"))), HOLD), streamed("b"))
    async with client_of(server, concurrency=1) as client:
        async with await client.chat.completions.create(**ASKED, stream=True) as stream:
            await anext(stream)
        async with await client.chat.completions.create(**ASKED, stream=True) as stream:
            assert (await stream.final()).text == "b"
