"""`poeflow report`: a run as one file to keep or to hand on."""

from pathlib import Path
from typing import Final

import click

from poeflow.cli.completing import RUNS
from poeflow.cli.private_files_options import trust_state_option
from poeflow.cli.run_arguments import history_here, place_of, shown_of
from poeflow.errors import UsageError
from poeflow.project.project import Project, atomic_write
from poeflow.report.pages.file import html_report

EPILOG: Final = """\b
Examples:
  poeflow report last --html run.html
  poeflow report 12 --html reports/12.html
"""


@click.command(epilog=EPILOG)
@click.argument("run", shell_complete=RUNS)
@click.option(
    "--html",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where to write the page.",
)
@trust_state_option
def report(run: str, target: Path) -> None:
    """Write a run as a page that holds everything: prompts, answers, pictures, timings, costs.

    RUN is a number of `poeflow history`, or last. The file needs no server and no network, runs
    no script, and is as safe to open as what it shows is private.
    """
    with history_here() as history:
        place = place_of(history, run)
        if place.name is not None:
            raise UsageError(f"{run} names an instance", hint=f"report all of run {place.run.id}")
        shown = shown_of(Project.find(Path.cwd()), history)
        pages = html_report(shown.records.run(place.run.id) or place.run, shown)
        atomic_write(target.absolute(), pages)
