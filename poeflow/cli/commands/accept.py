"""`poeflow accept`: keep files that were edited by hand as they are."""

import asyncio
import os
from pathlib import Path
from typing import Final

import click

from poeflow.cli.completing import FLOWS
from poeflow.cli.output import say, say_warning
from poeflow.cli.private_files_options import (
    access_of,
    allow_file_option,
    env_file_option,
    environment_with,
    trust_state_option,
    trusts_state,
)
from poeflow.cli.problem_output import refuse_invalid
from poeflow.cli.targets import flow_target
from poeflow.operations.accept import accept as accept_files
from poeflow.operations.check import checkups
from poeflow.operations.run_options import RunOptions

EPILOG: Final = """\b
Examples:
  poeflow accept flows/notes.yaml
  poeflow accept flows/notes.yaml out/notes.de.md
  poeflow accept flows/notes.yaml out/notes.de.md --drop
"""


@click.command(epilog=EPILOG)
@click.argument("flow", type=click.Path(path_type=Path), shell_complete=FLOWS)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--drop", is_flag=True, help="Undo an acceptance: the next run writes the answer.")
@click.option("--inputs-file", type=click.Path(path_type=Path), help="YAML or JSON with inputs.")
@trust_state_option
@allow_file_option
@env_file_option
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
    env_file: Path | None,
) -> None:
    """Keep the flow's output files as they are now: all that were edited, or those named.

    An accepted file is the text of its step, also for the steps that use it. It stays when the
    step's request changes, with a note in `plan` and `run`. Accept it again for the new request.
    Files of samples are refused: none of them alone is the text of its step.
    """
    [found] = checkups([flow_target(flow, access_of(allow_files, env_file))])
    refuse_invalid([found])
    options = RunOptions(
        inputs_file=inputs_file,
        environ=environment_with(env_file),
        listen=say_warning,
        trust_state=trusts_state(),
    )
    places = [_place(path, flow) for path in paths]
    taken = asyncio.run(accept_files(found, options, places, drop=drop))
    for path in taken.paths:
        say(f"{'dropped' if drop else 'accepted'} {path[2:]}")
    for path, reason in taken.refused.items():
        say(f"{path[2:]}: {reason}")
    if not taken.paths and not taken.refused:
        click.echo("nothing was accepted" if drop else "nothing was edited", err=True)
    ctx.exit(1 if taken.refused else 0)


def _place(path: Path, flow: Path) -> Path:
    """Return the absolute path of a file; if only the flow's folder has it, that is meant."""
    own = flow.parent / path
    place = own if os.path.lexists(own) and not os.path.lexists(path) else path
    return place.parent.resolve() / place.name
