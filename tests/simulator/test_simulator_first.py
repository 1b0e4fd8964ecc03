import httpx

from poeflow.simulator.server import Simulator

ASKED = {
    "model": "Claude-Sonnet-4.5",
    "messages": [{"role": "user", "content": "Top 3 things to do in NYC?"}],
}


def test_same_request_gets_the_same_answer_streamed_or_not():
    with Simulator() as sim:
        whole = httpx.post(f"{sim.base_url}/chat/completions", json=ASKED).json()
        streamed = httpx.post(f"{sim.base_url}/chat/completions", json=ASKED | {"stream": True})
        again = httpx.post(f"{sim.base_url}/chat/completions", json=ASKED).json()
    text = whole["choices"][0]["message"]["content"]
    lines = [line for line in streamed.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [httpx.Response(200, text=line[6:]).json() for line in lines[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text
    assert again["choices"] == whole["choices"]
