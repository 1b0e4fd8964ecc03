"""`poeflow watch`: run flows, and run again what a change makes stale."""

from typing import Final, Unpack

import click

from poeflow.cli.click_options import Shared, shared_options
from poeflow.cli.completing import SELECTIONS
from poeflow.cli.signals import Ending
from poeflow.cli.watch_session import session

EPILOG: Final = """\b
Examples:
  poeflow watch flows/notes.yaml
  poeflow watch flows/notes.yaml --offline --input topic=otters
  poeflow watch flows/notes.yaml:draft --until --max-cost-usd 0.50
"""


@click.command(epilog=EPILOG)
@click.argument(
    "flows",
    nargs=-1,
    required=True,
    metavar="FLOW[:STEP[@KEY]]...",
    shell_complete=SELECTIONS,
)
@shared_options
@click.option("--view", "views", is_flag=True, help="Serve pages that follow the session, too.")
def watch(flows: tuple[str, ...], *, views: bool, **options: Unpack[Shared]) -> None:
    """Run flows, and run again what is stale whenever a file they read changes.

    Limits are those of the whole session, which sends 200 requests at most where nothing else is
    said. Shown are the answers that changed, word by word; what is asked already is never cut
    short by a change. On a terminal: r runs again, f asks everything again, p pauses, q quits.
    """
    ending = Ending()
    ending.run(session(flows, options, views=views, cut_short=lambda: ending.exit_code))
