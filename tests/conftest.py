"""Options of the whole suite."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(  # a loaded machine is slow, not wrong
    "poeflow", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("poeflow")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts in the background with Ctrl-C ignored, and our processes would
    # inherit that: the tests that press it need what a person at a terminal has.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-cases",
        action="store_true",
        help="write what is found now as what is expected: tests/cases, tests/house/help.txt, and "
        "what the schema and the pages list (tests/docs)",
    )


NODE_PACKAGE = "openai@6.30.1"  # 7 asks for a newer node than Debian has


@pytest.fixture(scope="session")
def node_client(tmp_path_factory) -> Path:
    """Return a script for node in a folder where the `openai` package of npm is installed."""
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", NODE_PACKAGE]
    environ = os.environ | {"npm_config_cache": str(folder / "cache"), "HOME": str(folder)}
    (folder / "package.json").write_text("{}")
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(shutil.copy(Path(__file__).parent / "simulator/node_client.mjs", folder))
