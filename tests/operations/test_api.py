"""The front door of Python: results say how they were judged, and errors what to write."""

import asyncio
import io
import subprocess
import sys

import pytest
from rich.console import Console

import poeflow
from poeflow.events import StepFinished
from poeflow.project.project import Project
from poeflow.records import RunFilter
from poeflow.store.history import History
from poeflow.store.workspace import Workspace

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


@pytest.mark.parametrize("name", ["arun", "aplan", "astatus"])
def test_without_a_loop_of_asyncio_it_says_so(flow, name):
    called = getattr(poeflow, name)(flow, offline=True)
    with pytest.raises(poeflow.UsageError, match=f"{name} needs a running event loop of asyncio"):
        called.send(None)


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


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("name", ["listen", "stop"])
def test_what_ends_a_program_ends_a_run_and_leaves_nothing_held(flow, name, error):
    def leave(*_event):
        raise error("enough")

    with pytest.raises(error, match="enough"):
        poeflow.run(flow, offline=True, **{name: leave})
    assert poeflow.run(flow, offline=True, wait=0).exit_code == 0
    runs = History(flow.parent / ".poeflow/poeflow.db", warn=pytest.fail).runs(RunFilter())
    assert [one.end.exit_code for one in runs] == [0, 130]


def test_a_task_that_a_function_leaves_behind_cannot_hold_the_process(flow):
    (flow.parent / "tasks.py").write_text(
        "import asyncio, sys\n"
        "async def end(): sys.exit(3)\n"
        "async def run():\n"
        "    asyncio.create_task(end())\n"
        "    await asyncio.sleep(60)\n"
    )
    flow.write_text("{poeflow: 1, steps: {a: {call: 'tasks:run', reads: []}}}")
    program = "import poeflow; poeflow.run('a.yaml', offline=True, allow_tools=True)"
    assert _program(flow.parent, program).returncode == 3
    flow.write_text(FLOW)
    assert poeflow.run(flow, offline=True, wait=0).exit_code == 0


def _program(folder, code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, timeout=30, capture_output=True, check=False)


async def test_runs_in_one_loop_wait_for_each_other(flow):
    outcomes = await asyncio.gather(*(poeflow.arun(flow, offline=True) for _ in range(3)))
    assert [one.exit_code for one in outcomes] == [0, 0, 0]


async def test_a_run_that_waits_for_another_can_be_cancelled(flow):
    with Workspace(Project(flow.parent), {}, offline=True).hold():
        waiting = asyncio.create_task(poeflow.arun(flow, offline=True, wait=6))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert (await poeflow.arun(flow, offline=True, wait=0)).exit_code == 0


@pytest.mark.parametrize(
    ("own", "asked", "least"), [(3, (1, None), 1), (1, (3, 2), 1), (4, (2, 3), 2), (4, (3, 2), 2)]
)
def test_the_smallest_concurrency_counts(flow, own, asked, least):
    flow.write_text(f"{FLOW}limits: {{concurrency: {own}}}\n")
    limits = poeflow.Limits(concurrency=asked[0])
    assert poeflow.plan(flow, limits=limits, concurrency=asked[1]).concurrency == least


def test_a_picture_of_an_offline_run_is_there_for_the_next_one(flow):
    flow.write_text(
        "poeflow: 1\nsteps:\n"
        "  draw: {model: GPT-Image-1, prompt: an otter, output: {media: out}}\n"
        "  see: {model: GPT-5.2, prompt: what, attachments: [{from: steps.draw.media}]}\n"
    )
    first = poeflow.run(flow, offline=True)
    second = poeflow.run(flow, offline=True)
    assert (second.exit_code, second.failures, second.spent.requests) == (0, {}, 0)
    assert second.results["draw"].media == first.results["draw"].media
