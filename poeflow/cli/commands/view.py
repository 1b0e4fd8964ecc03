"""`poeflow view`: look at runs in a browser."""

import asyncio
import os
import sys
import webbrowser
from pathlib import Path
from typing import Final, cast

import click

from poeflow.bots import Pricing
from poeflow.catalogue import kept
from poeflow.cli.failures import secrets_in
from poeflow.cli.interrupts import run_until_done
from poeflow.cli.past import with_result
from poeflow.errors import UsageError
from poeflow.files import Project
from poeflow.records import InstanceRecord
from poeflow.redact import Scrubber, masked
from poeflow.store.history import History
from poeflow.store.workspace import Workspace
from poeflow.view.pictures import Pictures
from poeflow.view.scrubbed import ScrubbedRecords
from poeflow.view.shown import Shown

_EXTRA: Final = ("starlette", "uvicorn")
EPILOG: Final = """\b
Examples:
  poeflow view
  poeflow view --port 8400 --no-browser
"""


@click.command(epilog=EPILOG)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--no-browser", "is_quiet", is_flag=True, help="Only print the address.")
def view(port: int, *, is_quiet: bool) -> None:
    """Look at the runs of this project in a browser: prompts, answers, timings, differences.

    Prints `listening URL` and serves until Ctrl-C, on this machine alone: only who has the whole
    address sees anything, and nothing can be changed there. Needs `pip install 'poeflow[ui]'`.
    """
    project = Project.find(Path.cwd())
    with History(Workspace(project, offline=False).history_path, told=_warn) as history:
        run_until_done(_serve(shown_of(project, history), port, opens=not is_quiet))


def shown_of(project: Project, history: History) -> Shown:
    """Return what pages show of a project, with the secrets of the environment masked."""
    scrubber = Scrubber(*secrets_in(os.environ))
    bots = kept(project)[0]

    def price(model: str) -> Pricing | None:
        bot = bots.find(model) if bots is not None else None
        return bot.pricing if bot is not None else None

    def completed(record: InstanceRecord) -> InstanceRecord:
        return cast("InstanceRecord", masked(with_result(history, record), scrubber))

    return Shown(
        records=ScrubbedRecords(history, scrubber),
        pictures=Pictures(project, Workspace(project, offline=True).outputs()),
        prices=price,
        completed=completed,
    )


async def _serve(shown: Shown, port: int, *, opens: bool) -> None:
    try:
        from poeflow.view.server import serve
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        hint = "pip install 'poeflow[ui]'"
        raise UsageError("the pages need starlette and uvicorn", hint=hint) from None
    async with serve(shown, port=port) as serving:
        click.echo(f"listening {serving.address}")
        if opens and sys.stdout.isatty():
            await asyncio.to_thread(webbrowser.open, serving.opening())
        await asyncio.get_running_loop().create_future()


def _warn(message: str) -> None:
    click.echo(f"warning: {message}", err=True)
