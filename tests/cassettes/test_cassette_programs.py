"""Programs with real client libraries are recorded, and answered from the cassette alone."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cassette_desk import (
    COMMAND,
    begin_stream,
    event,
    ran,
    recorder,
    recordings,
    replay,
    send,
    server,
)

from poeflow.simulator.server import Simulator

KEY = "sk-canary-0123456789abcdef"
ASKED = [{"role": "user", "content": "Top 3 things to do in NYC?"}]
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}


def conversation(url: str) -> list[Any]:
    """Ask for what programs ask for, and return what came."""
    with openai.OpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        chat = client.chat.completions
        asked = {"model": "GPT-5.2", "messages": ASKED}
        whole = chat.create(**asked)
        chunks = list(chat.create(**asked, stream=True, stream_options={"include_usage": True}))
        called = chat.create(**asked, tools=[TOOL], tool_choice="required").choices[0].message
        result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}
        told = chat.create(**(asked | {"messages": [*ASKED, called, result]}), tools=[TOOL])
        with chat.stream(**asked, tools=[TOOL], tool_choice="required") as stream:
            streamed = stream.get_final_completion()
        form = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
        structured = chat.create(**asked, response_format=form)
        errors = []
        for wrong in ({"model": "Nobody"}, {"seed": 7}):
            with pytest.raises(openai.APIStatusError) as caught:
                chat.create(**(asked | wrong))
            errors.append((type(caught.value), caught.value.status_code, caught.value.body))
        models = [one.id for one in client.models.list()]
        answers = [whole, *chunks, called, told, streamed, structured]
        return [*(one.model_dump() for one in answers), whole._request_id, errors, models]


def test_the_python_library_gets_the_same_answers_from_a_replay(tmp_path):
    tape = tmp_path / "tape.yaml"
    with Simulator() as sim:
        with recorder(sim.base_url, tape) as recording:
            came = conversation(recording.url)
        asked = len(sim.requests)
        with replay(tape) as replaying:
            assert conversation(replaying.url) == came
        assert len(sim.requests) == asked == len(recordings(tape)) == 9
    assert (recording.code, replaying.code) == (130, 130)
    assert replaying.err == "\ninterrupted\n"
    assert KEY not in tape.read_text()
    assert "recorded 9: GET /v1/models: 200" in recording.err


@pytest.mark.parametrize(
    ("faults", "scenarios", "requests"),
    [("", ("stream", "tools", "structured", "errors", "models"), 11), ("429=0x2", ("again",), 3)],
)
def test_the_npm_package_gets_the_same_answers_from_a_replay(
    tmp_path, node_client, faults, scenarios, requests
):
    tape = tmp_path / "tape.yaml"

    def told(url: str) -> list[str]:
        command = ["node", str(node_client), url]
        return [
            subprocess.run([*command, one], capture_output=True, text=True, check=True).stdout
            for one in scenarios
        ]

    with Simulator(faults=faults) as sim:
        with recorder(sim.base_url, tape) as recording:
            came = told(recording.url)
        assert len(sim.requests) == requests
        with replay(tape) as replaying:
            assert told(replaying.url) == came
        assert len(sim.requests) == len(recordings(tape)) == requests
    assert "not recorded" not in replaying.err


def test_retries_are_answered_in_their_order_then_by_the_last_again(tmp_path):
    tape = tmp_path / "tape.yaml"

    def text(url: str) -> str:
        with openai.OpenAI(api_key=KEY, base_url=url, max_retries=2) as client:
            answer = client.chat.completions.create(model="GPT-5.2", messages=ASKED)
        return answer.choices[0].message.content

    def statuses(url: str, count: int) -> list[int]:
        body = {"model": "GPT-5.2", "messages": ASKED}
        sent = (httpx.post(f"{url}/chat/completions", json=body) for _ in range(count))
        return [one.status_code for one in sent]

    with Simulator(faults="429=0x2") as sim:
        with recorder(sim.base_url, tape) as recording:
            came = text(recording.url)
        assert [one.response.status for one in recordings(tape)] == [429, 429, 200]
        with replay(tape) as replaying:
            assert text(replaying.url) == came
        with replay(tape) as replaying:
            assert statuses(replaying.url, 5) == [429, 429, 200, 200, 200]
        assert len(sim.requests) == 3


def test_what_is_in_the_cassette_is_not_asked_again(tmp_path):
    tape = tmp_path / "tape.yaml"
    with Simulator() as sim:
        with recorder(sim.base_url, tape) as recording:
            came = conversation(recording.url)
        before, asked = tape.read_bytes(), len(sim.requests)
        with recorder(sim.base_url, tape) as recording:
            assert conversation(recording.url) == came
            assert len(sim.requests) == asked
            again = {"model": "GPT-5.2", "messages": ASKED}
            recording.post("/chat/completions", again)
            recording.post("/chat/completions", again | {"messages": [*ASKED, *ASKED]})
        assert len(sim.requests) == asked + 2
    assert tape.read_bytes().startswith(before)
    assert len(recordings(tape)) == asked + 2
    assert f"{tape} has 9 recordings: they answer first, what they lack is asked" in recording.err


def test_responses_and_embeddings_are_passed_on_and_replayed(tmp_path):
    tape = tmp_path / "tape.yaml"
    events = [
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hel"},
        {"type": "response.output_text.delta", "sequence_number": 2, "delta": "lo ☀"},
    ]

    def answer(handler, asked):
        if asked.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, -1e-05]}]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            listed = {"object": "list", "data": data, "model": "e", "usage": usage}
            send(handler, httpx.Response(200, json=listed).content)
            return
        write = begin_stream(handler)
        for one in events:
            write(f"event: {one['type']}\n".encode() + event(one))
        write(b"")

    def asked(url: str) -> list[Any]:
        with openai.OpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
            given = client.embeddings.create(model="e", input="x", encoding_format="float")
            stream = client.responses.create(model="m", input="Hi", stream=True)
            return [given.data[0].embedding, [one.model_dump(exclude_none=True) for one in stream]]

    with server(answer) as upstream, recorder(upstream.url, tape) as recording:
        came = asked(recording.url)
        assert [one.path for one in upstream.asked] == ["/v1/embeddings", "/v1/responses"]
        assert upstream.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert came[0] == [0.5, -1e-05]
    assert [one["delta"] for one in came[1]] == ["Hel", "lo ☀"]
    with replay(tape) as replaying:
        assert asked(replaying.url) == came


def test_media_are_recorded_as_base64_and_come_back_the_same(tmp_path):
    tape = tmp_path / "tape.yaml"
    sound = bytes(range(256)) * 8

    def asked(url: str) -> tuple[bytes, str]:
        with openai.OpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
            spoken = client.audio.speech.create(model="tts", voice="alloy", input="Hi").content
            file = ("a.wav", sound)
            heard = client.audio.transcriptions.create(model="stt", file=file).text
        return spoken, heard

    def answer(handler, asked):
        if asked.path == "/v1/audio/speech":
            send(handler, sound, "audio/wav")
        else:
            send(handler, b'{"text": "otters"}')

    with server(answer) as upstream, recorder(upstream.url, tape) as recording:
        assert asked(recording.url) == (sound, "otters")
        assert sound in upstream.asked[1].body
    with replay(tape) as replaying:
        assert asked(replaying.url) == (sound, "otters")
    assert len(recordings(tape)) == 2


FLOW = """\
poeflow: 1
inputs:
  topic: {type: string, default: otters}
steps:
  facts:
    model: GPT-5.2
    prompt: "Three facts about {{ inputs.topic }}"
  title:
    model: Claude-Sonnet-4.5
    prompt: "A title for {{ steps.facts.text }}"
    output: {save: title.md}
"""


def flow_run(folder: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith("POE")}
    environ = {**keep, "HOME": str(folder), "POE_API_KEY": KEY, "POE_BASE_URL": url}
    return subprocess.run(
        [sys.executable, "-m", "poeflow.cli.start", "run", "flow.yaml", *options],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_of_poeflow_is_recorded_and_replayed_strictly(tmp_path):
    tape = tmp_path / "tape.yaml"
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        (folder / "poeflow.toml").touch()
        (folder / "flow.yaml").write_text(FLOW)
    with Simulator() as sim, recorder(sim.base_url, tape) as recording:
        done = flow_run(folders[0], recording.url)
        assert done.returncode == 0, done.stderr
    assert KEY not in tape.read_text()
    with replay(tape) as replaying:
        done = flow_run(folders[1], replaying.url)
        assert done.returncode == 0, done.stderr
        missed = flow_run(folders[1], replaying.url, "--input", "topic=bears")
    titles = [(folder / "title.md").read_text() for folder in folders]
    assert titles[0] == titles[1]
    assert missed.returncode == 1
    assert '+ "Three facts about bears"' in missed.stderr
    assert replaying.err.count("not recorded in") == 1


def test_a_request_that_was_not_recorded_fails_with_the_nearest_and_what_differs(tmp_path):
    tape = tmp_path / "tape.yaml"
    with Simulator() as sim, recorder(sim.base_url, tape) as recording:
        for text in ("Name ten cities", "Name three rivers"):
            body = {"model": "GPT-5.2", "messages": [{"role": "user", "content": text}]}
            recording.post("/chat/completions", body)
    line = tape.read_text().split("\n").index("---", 2) + 2
    changed = [{"role": "user", "content": "Name four rivers"}]
    with replay(tape) as replaying:
        with (
            openai.OpenAI(api_key=KEY, base_url=replaying.url, max_retries=3) as client,
            pytest.raises(openai.BadRequestError) as caught,
        ):
            client.chat.completions.create(model="GPT-5.2", messages=changed, temperature=0.5)
        nothing = replaying.post("/embeddings", {"input": "x"})
    message = f"""\
not recorded in {tape}: POST /v1/chat/completions
the nearest is recording 2 ({tape}:{line}); - is recorded, + is asked:
  messages[0].content
    - "Name three rivers"
    + "Name four rivers"
  temperature
    + 0.5"""
    assert caught.value.body == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": "not_recorded",
    }
    assert nothing.json()["error"]["message"].split("\n") == [
        f"not recorded in {tape}: POST /v1/embeddings",
        "recorded are: POST /v1/chat/completions",
    ]
    assert replaying.err.count(message) == 1, "it is shown, and not retried"


def test_a_cassette_is_explained(tmp_path):
    tape, body = tmp_path / "tape.yaml", tmp_path / "body.json"
    asked = {"model": "GPT-5.2", "messages": [{"role": "user", "content": "Name three rivers"}]}
    with Simulator(faults="429=0x1") as sim, recorder(sim.base_url, tape) as recording:
        for _ in range(2):
            recording.post("/chat/completions", asked)
        recording.post("/chat/completions", asked | {"model": "Grok-4", "stream": True})
    lines = [n + 2 for n, line in enumerate(tape.read_text().split("\n")) if line == "---"]
    code, out, err = ran("cassette", "explain", tape)
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        f'1  {tape}:{lines[0]}  POST /v1/chat/completions (1 of 2)  GPT-5.2 "Name three rivers"',
        "   429, JSON",
        f'2  {tape}:{lines[1]}  POST /v1/chat/completions (2 of 2)  GPT-5.2 "Name three rivers"',
    ]
    assert "then by the last again" in out
    body.write_bytes(httpx.Response(200, json=dict(reversed(asked.items()))).content)
    code, out, err = ran("cassette", "explain", tape, body)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"recording 1 ({tape}:{lines[0]}) answers it: 429, JSON",
        f"asked again: recording 2 ({tape}:{lines[1]}): 200, JSON",
        "after that: the last one each time",
    ]
    code, out, _ = ran("cassette", "explain", tape, body, "--path", "/v1/responses")
    assert (code, out.splitlines()[1]) == (1, "recorded are: POST /v1/chat/completions")
    body.write_text('{"method": "GET", "path": "/v1/models"}')
    assert ran("cassette", "explain", tape, body)[0] == 1
    body.write_text("no")
    assert ran("cassette", "explain", tape, body) == (
        2,
        "",
        f"error: {body} is not JSON\n  write the body of a request\n",
    )


ASK = """
import os, sys, urllib.request
body = b'{"model": "GPT-5.2", "messages": [{"role": "user", "content": "%s"}]}'
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
key = "Bearer " + os.environ["POE_API_KEY"]
headers = {"authorization": key, "content-type": "application/json"}
asked = urllib.request.Request(url, body % sys.argv[1].encode(), headers)
try:
    print(len(urllib.request.urlopen(asked).read()), key)
except urllib.error.HTTPError as error:
    print(error.code)
sys.exit(int(sys.argv[2]))
"""


def test_a_program_is_served_and_its_end_is_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("POE_API_KEY", KEY)
    tape = tmp_path / "tape.yaml"
    python = [sys.executable, "-c", ASK]
    with Simulator() as sim:
        tapes = ("--record", sim.base_url, "--cassette", tape)
        code, first, err = ran("simulate", *tapes, "--", *python, "a river", "3")
    assert (code, err) == (3, "recorded 1: POST /v1/chat/completions: 200\n")
    assert first.endswith(f" Bearer {KEY}\n"), "a real server is asked with the real key"
    code, out, err = ran("simulate", "--replay", tape, "--", *python, "a river", "0")
    assert (code, err) == (0, "")
    assert out == first.replace(KEY, "any-key-at-all")
    code, out, err = ran("simulate", "--replay", tape, "--", *python, "a lake", "0")
    assert (code, out) == (1, "400\n")
    assert err.endswith("error: 1 request was not recorded\n")
    assert ran("simulate", "--", *python, "a lake", "0")[0] == 0
    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    assert ran("simulate", "--replay", tape, "--", *killed)[0] == 137
    assert ran("simulate", "--replay", tape, "--", "no-such-program") == (
        2,
        "",
        "error: no-such-program: no such file or directory\n  check the program's name\n",
    )
    script = tmp_path / "script"
    script.write_text("echo hi\n")
    script.chmod(0o755)
    told = f"error: {script}: exec format error\n  begin it with a line like #!/bin/sh\n"
    assert ran("simulate", "--replay", tape, "--", str(script)) == (2, "", told)


def test_a_program_is_ended_with_us(tmp_path):
    tape, told = tmp_path / "tape.yaml", tmp_path / "told"
    tape.touch()
    wait = f"echo $$ > {told}.new; mv {told}.new {told}; exec sleep 60"
    command = [*COMMAND, "simulate", "--replay", str(tape), "--", "sh", "-c", wait]
    with subprocess.Popen(command) as process:
        ends = time.monotonic() + 20
        while not told.exists() and time.monotonic() < ends:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(20) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
