"""`poeflow watch`: run flows, and run again what a change makes stale."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Unpack

import click

from poeflow.cli.argument_values import input_files, without_stdin
from poeflow.cli.click_options import Shared, check_selection, shared_options, shared_run_options
from poeflow.cli.completing import SELECTIONS
from poeflow.cli.private_files_options import access_of, environment_with
from poeflow.cli.signals import Ending
from poeflow.cli.targets import Target, selections, target_of
from poeflow.cli.watch_terminal import WatchScreen, wishes
from poeflow.clock import SystemClock
from poeflow.operations.run_context import shared_budget
from poeflow.operations.watch.changes import Inbox
from poeflow.operations.watch.session import RerunExecutor, Session, WatchedFlow
from poeflow.redact import Scrubber
from poeflow.settings import known_keys

EPILOG: Final = """\b
Examples:
  poeflow watch flows/notes.yaml
  poeflow watch flows/notes.yaml --offline --input topic=otters
  poeflow watch flows/notes.yaml:draft --until --max-cost-usd 0.50
"""
REQUESTS: Final = 200
"""How many requests a session sends where nobody said how many."""


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
    ending.run(_session(flows, options, views=views, cut_short=lambda: ending.exit_code))


async def _session(
    arguments: Sequence[str], options: Shared, *, views: bool, cut_short: Callable[[], int]
) -> None:
    """Watch the flows named until the user quits, with `views` on pages that follow them too.

    `cut_short` gives the exit code of a run that a signal ends.
    Raises `UsageError` or `AccountError`.
    """
    given = _limited(options)
    chosen = selections(arguments)
    check_selection(chosen, given, refreshes=False)
    files = input_files(given["inputs"])
    if given["inputs_file"] is not None:
        files = (*files, given["inputs_file"].absolute())
    environ = environment_with(given["env_file"])
    access = access_of(given["allow_files"], given["env_file"])
    targets = [target_of(path, access) for path in chosen]
    watched = [
        WatchedFlow(one.project, one.path, shown=one.shown, steps=steps, outside=files)
        for one, steps in zip(targets, chosen.values(), strict=True)
    ]
    clock, told = SystemClock(), set[str]()
    screen = WatchScreen(Scrubber(*known_keys(environ)))
    budget = shared_budget(targets[0].project, shared_run_options(given, environ))
    work = RerunExecutor(
        lambda: replace(shared_run_options(given, environ), told=told, cut_short=cut_short),
        budget=budget,
        screen=screen,
        clock=clock,
    )
    async with contextlib.AsyncExitStack() as stack:
        inbox = await stack.enter_async_context(Inbox(on_fault=screen.unwatched))
        if views:
            from poeflow.cli.run_arguments import served

            serving = await stack.enter_async_context(served(targets[0].project))
            screen.say(f"pages at {serving.address}")
        has_keys = stack.enter_context(wishes(inbox.put))
        screen.say(_greeting(targets, given["max_requests"], has_keys=has_keys))
        await Session(watched, work, source=inbox, screen=screen, clock=clock).serve()


def _limited(options: Shared) -> Shared:
    """Return the options with what a session has that others have not."""
    limit = options["max_requests"]
    if limit is None and not options["offline"]:
        limit = REQUESTS
    return {**options, "max_requests": limit, "inputs": without_stdin(options["inputs"])}


def _greeting(targets: list[Target], limit: int | None, *, has_keys: bool) -> str:
    told = f"watching {', '.join(one.shown for one in targets)}"
    if limit is not None:
        told += f", {limit:,} requests at most"
    return f"{told}; r run again, f ask all again, p pause, q quit" if has_keys else told
