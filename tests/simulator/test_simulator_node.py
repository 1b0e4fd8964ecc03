"""The real `openai` package of npm takes the simulator for the API."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from poeflow.simulator.server import Simulator

WITHOUT = ("POE_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL")


def told(node_client: Path, sim: Simulator, scenario: str) -> Any:
    command = ["node", str(node_client), sim.base_url, scenario]
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
def test_it_is_answered(node_client, sim, scenario, expected):
    assert told(node_client, sim, scenario) == expected


def test_its_stream_goes_on_after_head(node_client):
    with Simulator(faults="slow=0.005") as sim:
        assert told(node_client, sim, "head") == [[200], True]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("401", ["AuthenticationError", 401, "invalid_api_key"]),
        ("429", ["RateLimitError", 429, "rate_limit_exceeded"]),
        ("500", ["InternalServerError", 500, "internal_error"]),
        ("reset", ["APIConnectionError", None, None]),
    ],
)
def test_faults_are_thrown_as_their_class(node_client, recipe, expected):
    with Simulator(faults=recipe) as sim:
        assert told(node_client, sim, "refused") == expected


def test_a_refused_request_is_tried_again(node_client):
    with Simulator(faults="429=0x2") as sim:
        assert told(node_client, sim, "again") == "stop"
        assert len(sim.requests) == 3
