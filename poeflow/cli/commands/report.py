"""`poeflow report`: write a run as one HTML file."""

from pathlib import Path
from typing import Final

import click

from poeflow.cli.completing import RUNS
from poeflow.cli.page_server import page_source
from poeflow.cli.private_files_options import trust_state_option
from poeflow.cli.run_arguments import history_here, run_argument
from poeflow.errors import UsageError
from poeflow.project.project import Project, atomic_write
from poeflow.report.pages.pages import html_report

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
    """Write a run as one page: prompts, answers, pictures, timings, costs.

    RUN is a number of `poeflow history`, or last. The file needs no server and no network, and has
    no script. It shows all prompts and answers: share it only if these may be shared.
    """
    with history_here() as history:
        place = run_argument(history, run)
        if place.name is not None:
            raise UsageError(f"{run} names an instance", hint=f"report all of run {place.run.id}")
        shown = page_source(Project.find(Path.cwd()), history)
        pages = html_report(shown.records.run(place.run.id) or place.run, shown)
        atomic_write(target.absolute(), pages)
