"""`poeflow history`: the runs of a project, looked through, searched and pruned."""

import sys
import time
from pathlib import Path
from typing import Final

import click

from poeflow.cli.click_options import duration_of
from poeflow.cli.completing import FLOWS
from poeflow.cli.output import print_json, print_lines, warn, width_of
from poeflow.cli.private_files_options import trust_state_option
from poeflow.cli.run_arguments import history_here, trusted_workspace
from poeflow.cli.targets import flow_target
from poeflow.project.project import Project
from poeflow.records import RunFilter
from poeflow.report.history import run_table

EPILOG: Final = """\b
Examples:
  poeflow history flows/notes.yaml --since 7d
  poeflow history --search otters --failed
  poeflow history --prune 90d --keep 100
"""


@click.command(epilog=EPILOG)
@click.argument("flow", required=False, type=click.Path(path_type=Path), shell_complete=FLOWS)
@click.option("--since", metavar="DURATION", help="Only runs of the last 12h, 7d, ...")
@click.option("--failed", is_flag=True, help="Only runs that failed.")
@click.option("--search", metavar="TEXT", help="Only runs with these words in prompts or answers.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--prune", metavar="DURATION", help="Forget runs older than 30d, 12h, ...")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(0),
    help="Forget all but the newest N; with --prune they stay however old they are.",
)
@trust_state_option
def history(
    flow: Path | None,
    *,
    since: str | None,
    failed: bool,
    search: str | None,
    limit: int,
    output: str,
    prune: str | None,
    keep: int | None,
) -> None:
    """List the runs of this project, or of FLOW, the newest first.

    `poeflow show RUN` looks at one, `poeflow diff` at what changed between two.
    """
    stored = history_here()
    if prune is not None or keep is not None:
        _forget(prune, keep)
        return
    wanted = RunFilter(
        flow=None if flow is None else flow_target(flow).path,
        since=None if since is None else time.time() - duration_of(since, "--since"),
        state="failed" if failed else None,
        text=search,
        limit=limit,
    )
    rows = stored.runs(wanted)
    if output == "json":
        print_json(rows)
    elif rows:
        width = width_of(sys.stdout) if sys.stdout.isatty() else None
        print_lines(run_table(rows, running=stored.running(), width=width))
    else:
        click.echo("no run fits", err=True)


def _forget(prune: str | None, keep: int | None) -> None:
    workspace = trusted_workspace(Project.find(Path.cwd()))
    before = None if prune is None else time.time() - duration_of(prune, "--prune")
    with workspace.hold(warn=warn), workspace.history(warn) as stored:
        gone = stored.prune(before=before, keep=keep)
    click.echo(f"forgot {gone:,} run{'' if gone == 1 else 's'}", err=True)
