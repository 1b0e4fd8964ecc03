"""The real `openai` package of npm takes the simulator for the API."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from poeflow.simulator.server import Simulator

PACKAGE = "openai@6.30.1"  # 7 asks for a newer node than Debian has
CLIENT = Path(__file__).with_name("node_client.mjs")
WITHOUT = ("POE_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL")


@pytest.fixture(scope="session")
def client(tmp_path_factory) -> Path:
    """Return the script in a folder where the package is installed."""
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    environ = os.environ | {"npm_config_cache": str(folder / "cache"), "HOME": str(folder)}
    (folder / "package.json").write_text("{}")
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(shutil.copy(CLIENT, folder))


def told(client: Path, sim: Simulator, scenario: str) -> Any:
    command = ["node", str(client), sim.base_url, scenario]
    environ = {name: text for name, text in os.environ.items() if name not in WITHOUT}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("stream", True),
        ("tools", [["Oslo"], True]),
        ("structured", {"city": "Oslo"}),
        ("prompted", {"city": "Oslo"}),
        (
            "errors",
            [
                ["NotFoundError", 404, "model_not_found"],
                ["BadRequestError", 400, None],
                ["NotFoundError", 404, "unknown_url"],
                ["NotFoundError", 404, "model_not_found"],
            ],
        ),
        ("models", [True, "Grok-4"]),
    ],
)
def test_it_is_answered(client, sim, scenario, expected):
    assert told(client, sim, scenario) == expected


def test_its_stream_goes_on_after_head(client):
    with Simulator(faults="slow=0.005") as sim:
        assert told(client, sim, "head") == [[200], True]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("401", ["AuthenticationError", 401, "invalid_api_key"]),
        ("429", ["RateLimitError", 429, "rate_limit_exceeded"]),
        ("500", ["InternalServerError", 500, "internal_error"]),
        ("reset", ["APIConnectionError", None, None]),
    ],
)
def test_faults_are_thrown_as_their_class(client, recipe, expected):
    with Simulator(faults=recipe) as sim:
        assert told(client, sim, "refused") == expected


def test_a_refused_request_is_tried_again(client):
    with Simulator(faults="429=0x2") as sim:
        assert told(client, sim, "again") == "stop"
        assert len(sim.requests) == 3
