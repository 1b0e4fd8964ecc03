"""`poeflow view`: show runs in a browser."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from poeflow.cli.page_server import served_pages
from poeflow.cli.private_files_options import trust_state_option
from poeflow.cli.process import ended_by_signals
from poeflow.project.project import Project
from poeflow.settings import child_environment

EPILOG: Final = """\b
Examples:
  poeflow view
  poeflow view --port 8400 --no-browser
"""


@click.command(epilog=EPILOG)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--no-browser", "is_quiet", is_flag=True, help="Only print the address.")
@trust_state_option
def view(port: int, *, is_quiet: bool) -> None:
    """Show the runs of this project in a browser: prompts, answers, timings, differences.

    Prints `listening URL` and serves until Ctrl-C, on this machine alone: only who has the whole
    address sees anything, and nothing can be changed there. Needs `pip install 'poeflow[ui]'`.
    """
    asyncio.run(_serve(Project.find(Path.cwd()), port, opens=not is_quiet))


async def _serve(project: Project, port: int, *, opens: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(ended_by_signals())
        serving = await stack.enter_async_context(served_pages(project, port=port))
        click.echo(f"listening {serving.address}")
        if opens and sys.stdout.isatty():
            await asyncio.to_thread(_browse, serving.opening())
        await asyncio.get_running_loop().create_future()


def _browse(address: str) -> None:
    """Open the browser, without keys in its environment and without modules of this folder."""
    command = (sys.executable, "-I", "-m", "webbrowser", address)
    with contextlib.suppress(OSError):
        subprocess.run(  # noqa: S603 - Python itself, with words of ours
            command,
            env=child_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=False,
        )
