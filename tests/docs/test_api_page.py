"""Every example of Poe's chat completions page runs, word for word but for the import line.

`api_page/*.txt` are those examples; the same are tried with `await` and `async for`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poeflow.simulator.server import Simulator

EXAMPLES = {path.stem: path.read_text() for path in Path(__file__).parent.glob("api_page/*.txt")}
CLIENT = """\
import os
from poeflow import PoeClient

client = PoeClient(api_key=os.environ["POE_API_KEY"])

"""


@pytest.fixture
def place(tmp_path):
    """A folder with the page's file, the environment that leads to a simulator, and that."""
    (tmp_path / "doc.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
    with Simulator(key_required=True) as simulator:
        environ = {
            **os.environ,
            "POE_API_KEY": "some-key-12345",
            "POE_BASE_URL": simulator.base_url,
        }
        yield tmp_path, environ, simulator


def code_of(name: str) -> str:
    """Return an example as it stands; the last goes on with the client of those before it."""
    code = EXAMPLES[name]
    return code if "PoeClient(" in code else CLIENT + code


def awaited(code: str) -> str:
    """Return the same program for the asynchronous client."""
    code = code.replace("PoeClient", "AsyncPoeClient")
    code = code.replace("= client.chat", "= await client.chat").replace(
        "for chunk", "async for chunk"
    )
    imports = re.findall(r"^(?:import|from) .*\n", code, re.MULTILINE)
    body = re.sub(r"^(?:import|from) .*\n", "", code, flags=re.MULTILINE)
    inside = "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
    return f"import asyncio\n{''.join(imports)}\nasync def main():\n{inside}\nasyncio.run(main())\n"


def run(place, code: str) -> str:
    folder, environ, _ = place
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_four():
    assert sorted(EXAMPLES) == ["answer", "attachment", "custom_parameters", "stream"]


@pytest.mark.parametrize("rewrite", [str, awaited])
@pytest.mark.parametrize("name", ["answer", "stream"])
def test_what_is_printed_is_the_answer(place, name, rewrite):
    told = run(place, rewrite(code_of(name)))
    (request,) = place[2].requests
    assert request.json["model"] == "Claude-Sonnet-4"
    assert request.json.get("stream") is (True if name == "stream" else None)
    assert "This answer is simulated." in told


@pytest.mark.parametrize("rewrite", [str, awaited])
def test_a_file_goes_as_a_data_url(place, rewrite):
    run(place, rewrite(code_of("attachment")))
    (request,) = place[2].requests
    part = request.json["messages"][0]["content"][1]
    assert part == {
        "type": "file",
        "file": {
            "filename": "doc.pdf",
            "file_data": "data:application/pdf;base64,JVBERi0xLjQKJSVFT0YK",
        },
    }


@pytest.mark.parametrize("rewrite", [str, awaited])
def test_custom_parameters_travel_at_the_top_level(place, rewrite):
    run(place, rewrite(code_of("custom_parameters")))
    (request,) = place[2].requests
    assert request.json["thinking_budget"] == 1024
    assert "extra_body" not in request.json
