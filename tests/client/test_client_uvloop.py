"""The asynchronous client on uvloop, the event loop of many servers, which lacks some of ours."""

import asyncio
import sys

import pytest
from client_desk import ASKED, KEY, reply, streamed

from poeflow.client.aio import AsyncPoeClient

if sys.platform == "win32":
    pytest.skip("there is no uvloop", allow_module_level=True)

import uvloop


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # the latter as any host beyond loopback
@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_answers_and_streams_come_on_any_loop(server, host, loop):
    server.play(reply(), streamed("a", "b"))

    async def asked() -> tuple[str, str]:
        url = f"http://{host}:{server.port}/v1"
        async with AsyncPoeClient(api_key=KEY, base_url=url, allow_insecure=True) as client:
            answer = await client.chat.completions.create(**ASKED)
            stream = await client.chat.completions.create(**ASKED, stream=True)
            return answer.text, (await stream.final()).text

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(asked()) == ("Hello", "ab")
    assert [request.connection for request in server.requests] == [1, 1]
