"""`poeflow status`: how flows stand, a line a step."""

import os
from pathlib import Path
from typing import Final, Literal

import click

from poeflow.cli.click_options import part_options
from poeflow.cli.commands.check import show
from poeflow.cli.completing import FLOWS
from poeflow.cli.output import show_sheet
from poeflow.cli.private_files_options import (
    access_of,
    allow_file_option,
    say_warning,
    trust_state_option,
    trusts_state,
    without_keys,
)
from poeflow.cli.targets import targets
from poeflow.digest import encode_json
from poeflow.operations.check import checkup
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import facts_of
from poeflow.problems import errors_only
from poeflow.records import InstanceStatus
from poeflow.report.github_commands import inert_json
from poeflow.report.plan import status_lines, status_sheet

EPILOG: Final = """\b
Examples:
  poeflow status
  poeflow status flows/notes.yaml --output json
"""


@click.command(epilog=EPILOG)
@click.argument("flows", nargs=-1, metavar="FLOW...", shell_complete=FLOWS)
@click.option("--inputs-file", type=click.Path(path_type=Path), help="YAML or JSON with inputs.")
@click.option("--offline", is_flag=True, help="Look at the simulated runs.")
@part_options
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@trust_state_option
@allow_file_option
@click.pass_context
def status(
    ctx: click.Context,
    /,
    flows: tuple[str, ...],
    *,
    inputs_file: Path | None,
    first: int | None,
    key: str | None,
    offline: bool,
    output: Literal["text", "json"],
    allow_files: tuple[Path, ...],
) -> None:
    """Say of every step whether it is current, and why not. Nothing is sent or written.

    Files, folders and globs are fine; without any, the flows below this folder.
    """
    options = RunOptions(
        inputs_file=inputs_file,
        offline=offline,
        first=first,
        key=key,
        environ=os.environ,
        trust_state=trusts_state(),
        listen=say_warning,
    )
    found: dict[str, tuple[InstanceStatus, ...]] = {}
    is_invalid = False
    for target in targets(flows or (".",), access_of(allow_files)):
        checked = checkup(target.project, target.path, target.shown)
        faults = errors_only(checked.problems)
        if faults:
            show(faults, (checked,))
            is_invalid = True
            continue
        found[target.shown] = facts_of(checked, options)
    if output == "json":
        told = encode_json({name: list(facts) for name, facts in found.items()}).decode()
        click.echo(inert_json(without_keys()(told)))
    else:
        show_sheet(
            lambda marks, width: status_sheet(found, marks=marks, width=width), status_lines(found)
        )
    if is_invalid:
        ctx.exit(3)
