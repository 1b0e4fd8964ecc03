"""`poeflow accept`: keep files that were edited by hand as they are."""

import asyncio
import os
from pathlib import Path
from typing import Final

import click

from poeflow.cli.commands.check import show
from poeflow.cli.completing import FLOWS
from poeflow.cli.private_files_options import (
    access_of,
    allow_file_option,
    say,
    say_warning,
    trust_state_option,
    trusts_state,
)
from poeflow.cli.targets import target_of
from poeflow.errors import InvalidFlowError
from poeflow.operations.accept import accept as take
from poeflow.operations.check import checkup
from poeflow.operations.run_options import RunOptions
from poeflow.problems import errors_only

EPILOG: Final = """\b
Examples:
  poeflow accept flows/notes.yaml
  poeflow accept flows/notes.yaml out/notes.de.md
  poeflow accept flows/notes.yaml out/notes.de.md --drop
"""


@click.command(epilog=EPILOG)
@click.argument("flow", type=click.Path(path_type=Path), shell_complete=FLOWS)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--drop", is_flag=True, help="Give up what was accepted: a run writes the answer.")
@click.option("--inputs-file", type=click.Path(path_type=Path), help="YAML or JSON with inputs.")
@trust_state_option
@allow_file_option
@click.pass_context
def accept(
    ctx: click.Context,
    /,
    flow: Path,
    *,
    paths: tuple[Path, ...],
    drop: bool,
    inputs_file: Path | None,
    allow_files: tuple[Path, ...],
) -> None:
    """Keep the flow's output files as they are now: all that were edited, or those named.

    An accepted file is the text of its step, for the steps that build on it too. It stays when the
    step's request changes; `plan` and `run` say so. Accept it again to keep it for the new request.
    """
    target = target_of(flow, access_of(allow_files))
    found = checkup(target.project, target.path, target.shown)
    show(found.problems, (found,))
    if errors_only(found.problems):
        ctx.exit(InvalidFlowError.exit_code)
    options = RunOptions(
        inputs_file=inputs_file, environ=os.environ, listen=say_warning, trust_state=trusts_state()
    )
    places = [path.parent.resolve() / path.name for path in paths]
    taken = asyncio.run(take(found, options, places, drop=drop))
    for path in taken.paths:
        say(f"{'dropped' if drop else 'accepted'} {path[2:]}")
    for path, reason in taken.refused.items():
        say(f"{path[2:]}: {reason}")
    if not taken.paths and not taken.refused:
        click.echo("nothing was accepted" if drop else "nothing was edited", err=True)
    ctx.exit(1 if taken.refused else 0)
