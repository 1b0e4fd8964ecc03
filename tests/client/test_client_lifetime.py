"""What becomes of connections and slots that nobody gives back, in other loops and processes."""

import asyncio
import gc
import os
import subprocess
import sys
import threading

import pytest
from client_desk import ASKED, KEY, STREAM, chunk, event, piece
from client_server import HOLD

from poeflow.client.aio import AsyncPoeClient
from poeflow.errors import TruncatedStreamError, UsageError

OPEN = (STREAM + chunk(event(piece("a"))), HOLD)


async def _passed() -> None:
    """Let the loop do what others left it to do."""
    await asyncio.sleep(0)


def _first_text(driver):
    stream = driver.create(stream=True)
    if not driver.is_async:
        return next(stream.text())

    async def first():
        return await anext(stream.text())

    return driver.do(lambda _: first())


@pytest.mark.parametrize("read", ["nothing", "chunk", "text"])
def test_a_stream_that_nobody_holds_frees_its_slot_and_connection(connect, server, read):
    server.play(OPEN)
    driver = connect(server, concurrency=1)
    if read == "text":
        assert _first_text(driver) == "a"
    else:
        stream = driver.create(stream=True)
        if read == "chunk":
            next(driver.chunks(stream))
        del stream
    gc.collect()
    assert driver.create().text == "Hello"
    assert server.wait_for(lambda: server.open_connections == 1)


def test_a_closed_stream_gives_its_slot_back_once(connect, server):
    server.play(OPEN, OPEN, OPEN)
    driver = connect(server, concurrency=1)
    for _ in range(2):
        stream = driver.create(stream=True)
        driver.close_stream(stream)
        driver.close_stream(stream)
        del stream
        gc.collect()
    held = driver.create(stream=True)
    seen = len(server.requests)
    if driver.is_async:
        with pytest.raises(TimeoutError):
            driver.do(lambda client: asyncio.wait_for(client.chat.completions.create(**ASKED), 0.1))
    assert len(server.requests) == seen
    driver.close_stream(held)


def test_a_stream_closed_early_is_no_whole_answer(connect, server):
    server.play(
        OPEN, (STREAM + chunk(event(piece("a"))) + chunk(event(piece(finish="stop"))), HOLD)
    )
    driver = connect(server)
    left = driver.create(stream=True)
    driver.close_stream(left)
    for _ in range(2):
        with pytest.raises(TruncatedStreamError) as caught:
            driver.do(lambda _: left.final())
        assert caught.value.completion.text == "a"
    complete = driver.create(stream=True)
    chunks = driver.chunks(complete)
    assert [next(chunks).choices[0].finish_reason for _ in range(2)] == [None, "stop"]
    driver.close_stream(complete)
    assert driver.do(lambda _: complete.final()).text == "a"


def test_a_client_that_nobody_holds_closes_its_connections(connect, server):
    driver = connect(server)
    driver.together(3)
    left, driver.client = driver.client, None
    del left
    gc.collect()
    driver.do(lambda _: _passed() if driver.is_async else None)
    assert server.wait_for(lambda: server.open_connections == 0)
    driver.close = driver._runner.close


def test_slots_are_those_of_the_running_loop(server):
    client = AsyncPoeClient(api_key=KEY, base_url=server.base_url, concurrency=1)

    async def three() -> list[str]:
        async with client:
            asked = [client.chat.completions.create(**ASKED) for _ in range(3)]
            return [answer.text for answer in await asyncio.gather(*asked)]

    for _ in range(3):
        assert asyncio.run(three()) == ["Hello"] * 3
    assert server.peak == 1


def test_loops_that_begin_at_once_keep_their_connections(server):
    both = threading.Barrier(2, timeout=20)
    client = AsyncPoeClient(api_key=KEY, base_url=server.base_url)

    async def twice(*, is_last: bool) -> None:
        for _ in range(2):
            await client.chat.completions.create(**ASKED)
            both.wait()
        if not is_last:
            await client.aclose()
        both.wait()
        await asyncio.sleep(0.05)

    before = asyncio.new_event_loop()
    before.run_until_complete(client.chat.completions.create(**ASKED))
    before.run_until_complete(client.aclose())
    before.close()
    before.is_closed = lambda: both.wait() is not None  # both loops look at what there is
    threads = [
        threading.Thread(target=asyncio.run, args=(twice(is_last=is_last),))
        for is_last in (False, True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del before.is_closed
    assert sorted(request.connection for request in server.requests) == [1, 2, 2, 3, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_closing_leaves_no_task_in_another_loop_that_ends(server, caplog):
    client = AsyncPoeClient(api_key=KEY, base_url=server.base_url)
    ends, closed = threading.Event(), threading.Event()

    async def last() -> None:
        ends.set()
        closed.wait(20)

    def other() -> None:
        with asyncio.Runner() as runner:
            runner.run(client.chat.completions.create(**ASKED))
            runner.get_loop().shutdown_default_executor = last

    thread = threading.Thread(target=other)
    thread.start()
    assert ends.wait(20)
    asyncio.run(client.aclose())
    closed.set()
    thread.join()
    gc.collect()
    assert "destroyed" not in caplog.text


def test_without_a_loop_of_asyncio_it_says_so():
    client = AsyncPoeClient(api_key=KEY, base_url="http://127.0.0.1:9/v1")
    for asked in (client.chat.completions.create(**ASKED), client.models.list(), client.aclose()):
        with pytest.raises(UsageError, match="needs a running event loop of asyncio; use asyncio"):
            asked.send(None)


FORKED = """
import asyncio, os, sys
from poeflow import AsyncPoeClient, PoeClient

def ask():
    found = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    return loop.run_until_complete(found) if loop else found

loop = asyncio.new_event_loop() if sys.argv[1] == "async" else None
client = (AsyncPoeClient if loop else PoeClient)(concurrency=1)
ask()
child = os.fork()
if not child:
    loop = asyncio.new_event_loop() if loop else None
    ask()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
ask()
if loop:
    loop.run_until_complete(client.aclose())
    loop.close()
else:
    client.close()
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_forked_process_has_connections_of_its_own(server, kind):
    environ = os.environ | {"POE_BASE_URL": server.base_url, "POE_API_KEY": KEY}
    command = [sys.executable, "-W", "error", "-c", FORKED, kind]
    subprocess.run(command, check=True, env=environ, timeout=50)
    assert [request.connection for request in server.requests] == [1, 2, 1]
