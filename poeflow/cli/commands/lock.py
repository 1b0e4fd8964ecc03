"""`poeflow lock`: merge locks, as a merge driver of git, and bring them back in order."""

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
from poeflow.cli.problem_output import say_error, show_problems
from poeflow.cli.targets import flow_targets
from poeflow.errors import InvalidFlowError, PoeflowError, StaleError, most_serious
from poeflow.operations.check import checkup
from poeflow.operations.lock_repair import fill_lock, merge_locks
from poeflow.operations.locks import lacking
from poeflow.operations.run_options import RunOptions
from poeflow.problems import errors_only
from poeflow.store.git import Git

MERGE: Final = """\b
Examples:
  poeflow init --git
  git merge other-branch
"""
FILL: Final = """\b
Examples:
  poeflow lock fill
  poeflow lock fill flows/notes.yaml
"""


@click.group()
def lock() -> None:
    """Merge locks, as a merge driver of git, or bring them back in order."""


@lock.command(epilog=MERGE)
@click.argument("base", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("ours", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("theirs", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("path", default="the lock")
def merge(base: Path, ours: Path, theirs: Path, path: str) -> None:
    """Merge both sides of a lock into the file OURS.

    Git calls this with BASE OURS THEIRS and the PATH of a lock, after `poeflow init --git` set it
    up. Changes of one side are merged. If both changed an instance, it gets conflict marks, the
    exit code is 1, and the next run uses the side that is current.
    """
    git = Git(Path.cwd(), os.environ)
    if not merge_locks(base, ours, theirs, shown=path, git=git):
        click.echo(
            f"{path}: both sides changed the same instances; run the flow to settle it", err=True
        )
        raise click.exceptions.Exit(1)


@lock.command(epilog=FILL)
@click.argument("flows", nargs=-1, metavar="[FLOW|FOLDER|GLOB]...", shell_complete=FLOWS)
@click.option("--inputs-file", type=click.Path(path_type=Path), help="YAML or JSON with inputs.")
@click.option("--offline", is_flag=True, help="Fill the lock of simulated runs.")
@trust_state_option
@allow_file_option
@env_file_option
@click.pass_context
def fill(
    ctx: click.Context,
    /,
    flows: tuple[str, ...],
    *,
    inputs_file: Path | None,
    offline: bool,
    allow_files: tuple[Path, ...],
    env_file: Path | None,
) -> None:
    """Bring locks back in order from files and stored answers, without asking.

    Entries are written that stored answers prove, or output files with an entry of either side of a
    merge or of an older commit. It says what it filled, and what remains: then the exit code is 4.
    Without a flow, the locks of all flows below this folder are filled.
    """
    options = RunOptions(
        inputs_file=inputs_file,
        offline=offline,
        environ=environment_with(env_file),
        trust_state=trusts_state(),
        listen=say_warning,
        holds_results=False,
    )
    codes: list[int] = []
    for target in flow_targets(flows or (".",), access_of(allow_files, env_file)):
        found = checkup(*target)
        problems = errors_only(found.problems)
        if problems:
            show_problems(problems, (found,))
            codes.append(InvalidFlowError.exit_code)
            continue
        try:
            filled = asyncio.run(fill_lock(found, options))
        except PoeflowError as error:
            lacks = lacking(found, error, options)
            codes.append(say_error(found, error, lacks=lacks, named=flows))
            continue
        codes += [StaleError.exit_code] * bool(filled.remaining)
        for line in filled.lines:
            say(f"{target.shown}: {line}")
    ctx.exit(most_serious(codes))
