import textwrap
from pathlib import Path
from typing import Any

import httpx
from simulator_desk import Desk, body_of, text_of

from poeflow.simulator.sample_media import png
from poeflow.simulator.script import read_script
from poeflow.simulator.server import Simulator

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


def written(folder: Path, text: str) -> Path:
    path = folder / "script.yaml"
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def playing(folder: Path, text: str, **settings: Any) -> Desk:
    return Desk(profile="legacy", script=read_script(written(folder, text)), **settings)


def test_the_first_rule_that_matches_decides(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        rules:
          - match: {model: claude-haiku-4.5, text: changelog}
            answer: {text: "- one\\n- two"}
          - match: {regex: "^Sum(marize)? \\\\w+$"}
            answer: {json: {bullets: [a, b]}}
          - match: {system: editor}
            answer: {template: "{{ model }} heard {{ prompt | upper }} ({{ nth }})"}
        """,
    )
    system = [{"role": "system", "content": "You are an editor."}, {"role": "user", "content": "x"}]
    assert text_of(desk.ask("the changelog", model="Claude-Haiku-4.5")) == "- one\n- two"
    assert text_of(desk.ask("Summarize this")) == '{"bullets":["a","b"]}'
    assert text_of(desk.ask(messages=system)) == "Claude-Sonnet-4.5 heard X (1)"
    assert text_of(desk.ask(messages=system)) == "Claude-Sonnet-4.5 heard X (2)"
    assert "This answer is simulated." in text_of(desk.ask("the changelog"))


def test_templates_see_parameters_and_files_and_never_render_the_prompt(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        rules:
          - answer: {template: "{{ prompt }}|{{ params.thinking_budget }}|{{ files | join(',') }}"}
        """,
    )
    file = {"filename": "a.txt", "file_data": "data:text/plain;base64,QQ=="}
    content = [{"type": "text", "text": "{{ 7 * 7 }}"}, {"type": "file", "file": file}]
    reply = desk.ask(messages=[{"role": "user", "content": content}], thinking_budget=9)
    assert text_of(reply) == "{{ 7 * 7 }}|9|a.txt"


def test_a_template_that_fails_is_told(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        rules:
          - answer: {template: "{{ params.nope }}"}
        """,
    )
    reply = desk.ask()
    assert reply.status == 400
    assert "script.yaml:4:" in body_of(reply)["error"]["message"]


def test_nth_counts_the_requests_that_meet_the_other_conditions(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        otherwise: refuse
        rules:
          - match: {text: draft, nth: 1}
            answer: {text: first}
          - match: {text: draft, nth: 2}
            answer: {text: second}
          - match: {text: draft}
            answer: {text: later}
        """,
    )
    asked = [desk.ask(text) for text in ("draft", "other", "draft", "draft")]
    assert [reply.status for reply in asked] == [200, 400, 200, 200]
    assert [text_of(asked[index]) for index in (0, 2, 3)] == ["first", "second", "later"]


def test_an_error_with_everything(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        rules:
          - answer:
              error: {status: 503, message: Not now., type: busy, code: c, param: p, retry_after: 7}
            delay: 500ms
        """,
        latency=1.0,
    )
    reply = desk.ask()
    assert reply.status == 503
    assert dict(reply.headers)["retry-after"] == "7"
    assert reply.wait == 1.5
    assert body_of(reply) == {
        "error": {"message": "Not now.", "type": "busy", "param": "p", "code": "c"}
    }


def test_tool_calls_come_once_and_the_answer_after_the_result(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        rules:
          - match: {text: weather}
            answer:
              text: Let me look.
              tool_calls:
                - {name: get_weather, arguments: {city: Bergen}}
                - {name: get_weather}
                - {name: get_weather, arguments: "{not json"}
          - match: {text: weather, last: tool}
            answer: {text: It rains.}
        """,
    )
    asked = {"role": "user", "content": "the weather?"}
    first = body_of(desk.ask(messages=[asked], tools=[TOOL]))["choices"][0]
    calls = first["message"]["tool_calls"]
    assert first["finish_reason"] == "tool_calls"
    assert first["message"]["content"] == "Let me look."
    assert [call["function"]["arguments"] for call in calls] == [
        '{"city":"Bergen"}',
        '{"city":"Oslo"}',
        "{not json",
    ]
    assert len({call["id"] for call in calls}) == 3
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "rain"} for call in calls]
    second = desk.ask(messages=[asked, first["message"], *results], tools=[TOOL])
    assert text_of(second) == "It rains."


def test_a_tool_that_is_not_offered_is_not_called(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        rules:
          - answer: {tool_calls: [{name: get_weather}]}
        """,
    )
    reply = desk.ask()
    assert (reply.status, body_of(reply)["error"]["message"]) == (
        400,
        "The script calls the tool 'get_weather', which the request does not offer",
    )


def test_reasoning_and_finish_reason(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        rules:
          - answer: {text: "", reasoning: All of it., finish_reason: length}
        """,
    )
    choice = body_of(desk.ask())["choices"][0]
    assert choice == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "",
            "reasoning_content": "All of it.",
            "reasoning": "All of it.",
        },
        "finish_reason": "length",
    }


def test_faults_of_a_rule_count_for_each_request(tmp_path):
    desk = playing(
        tmp_path,
        """
        simulator: 1
        rules:
          - match: {text: flaky}
            fault: 529x1
        """,
    )
    asked = [desk.ask(text).status for text in ("flaky", "flaky", "solid", "flaky too", "flaky")]
    assert asked == [529, 200, 200, 529, 200]


def test_media_are_made_or_taken_from_files(tmp_path):
    (tmp_path / "pic").mkdir()
    otter = png(bytes(range(24)), 5, 4)
    (tmp_path / "pic" / "otter.PNG").write_bytes(otter)
    path = written(
        tmp_path,
        """
        simulator: 1
        rules:
          - match: {text: otter}
            answer: {media: {file: pic/otter.PNG}}
          - answer: {media: audio}
        """,
    )
    with Simulator(script=path) as sim:

        def ask(text: str) -> str:
            body = {"model": "Imagen-4", "messages": [{"role": "user", "content": text}]}
            answer = httpx.post(f"{sim.base_url}/chat/completions", json=body).json()
            return answer["choices"][0]["message"]["content"]

        picture, sound = ask("an otter"), ask("a song")
        image = httpx.get(picture.rpartition("\n")[2])
        tone = httpx.get(sound)
    assert picture.startswith("![an otter.png](")
    assert (image.headers["content-type"], image.content) == ("image/png", otter)
    assert (tone.headers["content-type"], tone.content[:4]) == ("audio/wav", b"RIFF")
