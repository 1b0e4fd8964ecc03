"""The front door of Python: results say how they were judged, and errors what to write."""

import asyncio
import io

import pytest
from rich.console import Console

import poeflow
from poeflow.events import StepFinished

FLOW = """\
poeflow: 1
steps:
  a:
    render: one two
    expect:
      - {contains: one, level: score, weight: 3}
      - {contains: three, level: warn}
  b: {render: three}
"""


@pytest.fixture
def flow(tmp_path):
    (tmp_path / "poeflow.toml").touch()
    path = tmp_path / "a.yaml"
    path.write_text(FLOW)
    return path


def test_a_result_has_its_score(flow):
    results = poeflow.run(flow, offline=True).results
    assert (results["a"].score, results["a"].passed) == (0.75, False)
    assert (results["b"].score, results["b"].passed) == (None, True)


@pytest.mark.parametrize("name", ["run", "status"])
def test_a_running_loop_is_told_what_to_write(flow, name):
    async def called():
        getattr(poeflow, name)(flow, offline=True)

    with pytest.raises(poeflow.UsageError, match="an event loop is running") as caught:
        asyncio.run(called())
    assert caught.value.hint == f"write `await poeflow.a{name}(...)`"


def test_nothing_that_shows_options_shows_the_environment():
    options = poeflow.RunOptions(environ={"POE_API_KEY": "some-key-12345"})
    console = Console(file=io.StringIO())
    console.print(options)
    assert "keep_going" in console.file.getvalue()
    assert "some-key" not in console.file.getvalue() + repr(options)


def test_an_exception_of_a_listener_is_raised_as_it_is(flow):
    def listen(event):
        if isinstance(event, StepFinished):
            raise LookupError(event.step)

    with pytest.raises(LookupError, match="a"):
        poeflow.run(flow, offline=True, listen=listen, concurrency=1)
