"""An agent library, pydantic-ai, takes the simulator for the API."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from simulator_desk import Gate

from poeflow.simulator.server import Simulator


class Walk(BaseModel):
    city: str
    degrees: int
    clothes: list[str]


@asynccontextmanager
async def models(sim: Simulator) -> AsyncIterator[Callable[[str], OpenAIChatModel]]:
    """Yield what makes a model of a bot's name."""
    async with openai.AsyncOpenAI(api_key="any-key-at-all", base_url=sim.base_url) as client:
        provider = OpenAIProvider(openai_client=client)
        yield lambda name: OpenAIChatModel(name, provider=provider)


@pytest.fixture
async def there() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def model(there):
    async with models(there) as named:
        yield named


def look(city: str) -> str:
    """Return the weather of a city."""
    return f"rain, that was {bool(city)}"


def named(run) -> list[str]:
    """Return the tools that were called, and those that answered."""
    parts = [part for message in run.all_messages() for part in message.parts]
    return [part.tool_name for part in parts if isinstance(part, ToolCallPart | ToolReturnPart)]


async def test_its_tool_runs_and_the_answer_has_what_it_told(there, model):
    run = await Agent(model("GPT-5.2"), tools=[look]).run("What should I wear?")
    assert named(run) == ["look", "look"]
    assert 'The tools told: "rain, that was True".' in run.output
    assert [request.json["messages"][-1]["role"] for request in there.requests] == ["user", "tool"]


async def test_a_stream_with_a_tool_says_the_same(model):
    agent = Agent(model("GPT-5.2"), tools=[look])
    whole = await agent.run("What should I wear?")
    async with agent.run_stream("What should I wear?") as run:
        texts = [text async for text in run.stream_text(delta=True, debounce_by=None)]
    assert len(texts) > 5
    assert "".join(texts) == whole.output


@pytest.mark.parametrize("output", [ToolOutput, NativeOutput, PromptedOutput])
@pytest.mark.parametrize("tools", [[], [look]], ids=["alone", "with a tool"])
async def test_an_answer_fits_however_it_is_asked_for(model, output, tools):
    run = await Agent(model("GPT-5.2"), tools=tools, output_type=output(Walk)).run("A walk.")
    assert isinstance(run.output, Walk)
    assert run.output.city.startswith("Simulated city")
    assert named(run).count("look") == 2 * len(tools)


async def test_one_of_several_shapes_is_answered(model):
    class Rest(BaseModel):
        minutes: int

    run = await Agent(model("GPT-5.2"), output_type=PromptedOutput([Walk, Rest])).run("Which one?")
    assert isinstance(run.output, Walk | Rest)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [("Nobody", 404, "does not exist"), ("Kimi-K2.5", 400, "does not support tool calling")],
)
async def test_errors_are_raised_with_their_reason(model, name, status, said):
    with pytest.raises(ModelHTTPError) as caught:
        await Agent(model(name), tools=[look]).run("What should I wear?")
    assert caught.value.status_code == status
    assert said in str(caught.value.body)


async def streamed(agent: Agent) -> str:
    async with agent.run_stream("What should I wear?") as run:
        return await run.get_output()


async def test_a_stream_goes_on_after_the_head_of_another():
    clock = Gate()
    async with (
        Simulator(faults="slow=1", clock=clock) as sim,
        models(sim) as model,
        httpx.AsyncClient() as other,
        asyncio.TaskGroup() as group,
    ):
        agent = Agent(model("GPT-5.2"))
        stream = group.create_task(streamed(agent))
        await clock.reached.wait()
        assert (await other.head(f"{sim.base_url}/models")).status_code == 200
        clock.open.set()
        assert await stream == (await agent.run("What should I wear?")).output
