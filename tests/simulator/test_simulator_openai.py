"""The real `openai` package takes the simulator for the API."""

import httpx
import openai
import pytest
from simulator_desk import Gate

from poeflow.simulator.server import Simulator

ASKED = [{"role": "user", "content": "Top 3 things to do in NYC?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo"]}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(sim):
    with openai.OpenAI(api_key="any-key-at-all", base_url=sim.base_url, max_retries=0) as client:
        yield client


@pytest.fixture(params=["legacy", "strict"])
def either(sim, request):
    headers = {"poe-feature": f"chat-completions-{request.param}"}
    with openai.OpenAI(
        api_key="any-key-at-all", base_url=sim.base_url, default_headers=headers, max_retries=0
    ) as client:
        yield client


def test_chat_and_stream_say_the_same(either):
    whole = either.chat.completions.create(model="Claude-Sonnet-4.5", messages=ASKED)
    stream = either.chat.completions.create(
        model="Claude-Sonnet-4.5",
        messages=ASKED,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = whole.choices[0].message.content
    assert '"Top 3 things to do in NYC?"' in text
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert chunks[-1].usage == whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole._request_id.startswith("req-")


def test_custom_parameters_arrive_through_extra_body(either, sim):
    answer = either.chat.completions.create(
        model="Claude-Sonnet-4.5", messages=ASKED, extra_body={"thinking_budget": 1024}
    )
    assert sim.requests[0].json["thinking_budget"] == 1024
    assert answer.choices[0].message.reasoning_content


def test_tools_whole_and_streamed(either):
    asked = {"model": "GPT-5.2", "messages": ASKED, "tools": [TOOL], "tool_choice": "required"}
    whole = either.chat.completions.create(**asked).choices[0]
    assert whole.finish_reason == "tool_calls"
    call = whole.message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"Oslo"}')
    with either.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls[0].function.arguments == '{"city":"Oslo"}'
    assert final.message.tool_calls[0].id == call.id
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    follow = either.chat.completions.create(
        model="GPT-5.2", messages=[*ASKED, whole.message, result], tools=[TOOL]
    )
    assert follow.choices[0].finish_reason == "stop"


def test_structured_output(client):
    from pydantic import BaseModel

    class Release(BaseModel):
        title: str
        bullets: list[str]
        is_major: bool

    answer = client.chat.completions.parse(model="GPT-5.2", messages=ASKED, response_format=Release)
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Release)
    assert parsed.title.startswith("Simulated title")


def test_models_are_listed(client):
    models = list(client.models.list())
    assert len(models) >= 25
    assert {"claude-sonnet-4.5", "gpt-5.2", "imagen-4", "veo-3.1"} <= {m.id for m in models}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"temperature": 1.99, "model": "Nobody"}, openai.NotFoundError),
        ({"n": 3}, openai.BadRequestError),
        ({"messages": [{"role": "developer", "content": "x"}]}, openai.BadRequestError),
    ],
)
def test_errors_are_raised_as_their_class(either, fields, error):
    with pytest.raises(error) as caught:
        either.chat.completions.create(**{"model": "Grok-4", "messages": ASKED, **fields})
    assert caught.value.request_id.startswith("req-")
    assert caught.value.body["message"]


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        ("401", openai.AuthenticationError),
        ("403", openai.PermissionDeniedError),
        ("429", openai.RateLimitError),
        ("529", openai.InternalServerError),
        ("reset", openai.APIConnectionError),
    ],
)
def test_faults_are_raised_as_their_class(recipe, error):
    with Simulator(faults=recipe) as sim:
        client = openai.OpenAI(api_key="some-key", base_url=sim.base_url, max_retries=0)
        with client, pytest.raises(error):
            client.chat.completions.create(model="Grok-4", messages=ASKED)


def test_an_error_in_the_middle_of_a_stream_is_raised():
    with Simulator(faults="error-event") as sim:
        client = openai.OpenAI(api_key="some-key", base_url=sim.base_url, max_retries=0)
        with client, pytest.raises(openai.APIError, match="provider failed"):
            list(client.chat.completions.create(model="Grok-4", messages=ASKED, stream=True))


def test_a_refused_request_is_tried_again():
    with Simulator(faults="429=0x2") as sim:
        client = openai.OpenAI(api_key="some-key", base_url=sim.base_url, max_retries=2)
        with client:
            answer = client.chat.completions.create(model="Grok-4", messages=ASKED)
        assert len(sim.requests) == 3
    assert answer.choices[0].finish_reason == "stop"


async def test_the_async_client_streams_from_the_same_loop():
    async with (
        Simulator() as sim,
        openai.AsyncOpenAI(api_key="some-key", base_url=sim.base_url) as client,
    ):
        stream = await client.chat.completions.create(model="Grok-4", messages=ASKED, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        whole = await client.chat.completions.create(model="Grok-4", messages=ASKED)
    assert whole.choices[0].message.content == text


def test_a_tool_that_is_offered_runs_once(either):
    messages = [*ASKED]
    names = []
    for _ in range(2):
        choice = either.chat.completions.create(
            model="Claude-Sonnet-4.5", messages=messages, tools=[TOOL], tool_choice="auto"
        ).choices[0]
        messages.append(choice.message)
        for call in choice.message.tool_calls or ():
            names.append(call.function.name)
            told = {"role": "tool", "tool_call_id": call.id, "content": "4 degrees"}
            messages.append(told)
    assert (names, choice.finish_reason) == (["get_weather"], "stop")
    assert 'The tools told: "4 degrees".' in choice.message.content


async def test_a_stream_goes_on_after_the_head_of_another():
    clock = Gate()
    async with (
        Simulator(faults="slow=1", clock=clock) as sim,
        openai.AsyncOpenAI(api_key="some-key", base_url=sim.base_url) as client,
        httpx.AsyncClient() as other,
    ):
        stream = await client.chat.completions.create(model="Grok-4", messages=ASKED, stream=True)
        assert (await other.head(f"{sim.base_url}/models")).status_code == 200
        clock.open.set()
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        whole = await client.chat.completions.create(model="Grok-4", messages=ASKED)
    assert whole.choices[0].message.content == text


def test_one_model_is_retrieved(client):
    listed = {model.id: model for model in client.models.list()}
    assert client.models.retrieve("grok-4") == listed["grok-4"]
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


def test_other_apis_are_told_what_is_there(client):
    with pytest.raises(openai.NotFoundError, match="only chat completions here") as caught:
        client.responses.create(model="GPT-5.2", input="hi")
    assert caught.value.code == "unknown_url"
    with pytest.raises(openai.NotFoundError, match="only chat completions here"):
        client.embeddings.create(model="GPT-5.2", input="hi")


def test_what_a_bot_does_not_declare_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="Extra inputs are not permitted") as caught:
        client.chat.completions.create(model="Grok-4", messages=ASKED, seed=7)
    assert caught.value.param == "seed"
