"""`poeflow watch`: run flows, and run again what a change makes stale."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Final, Unpack

import click
import msgspec

from poeflow.cli.click_options import (
    SharedOptions,
    check_selection,
    input_files,
    shared_options,
    shared_run_options,
    without_stdin,
)
from poeflow.cli.completing import SELECTIONS
from poeflow.cli.private_files_options import access_of, environment_with
from poeflow.cli.process import ended_by_signals
from poeflow.cli.targets import FlowTarget, flow_target, selections
from poeflow.cli.watch_terminal import WatchScreen, pressed_commands
from poeflow.clock import SystemClock
from poeflow.operations.budgets import shared_budget
from poeflow.operations.run_options import check_trial
from poeflow.operations.watch.changes import Inbox
from poeflow.operations.watch.session import RerunExecutor, Session
from poeflow.operations.watch.watched_flow import WatchedFlow
from poeflow.redact import Scrubber
from poeflow.settings import known_keys

EPILOG: Final = """\b
Examples:
  poeflow watch flows/notes.yaml
  poeflow watch flows/notes.yaml --offline --input topic=otters
  poeflow watch flows/notes.yaml:draft --until --max-cost-usd 0.50
"""
REQUESTS: Final = 200
"""How many requests a session sends if no limit is given."""


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
def watch(flows: tuple[str, ...], *, views: bool, **options: Unpack[SharedOptions]) -> None:
    """Run flows, and run again what is stale whenever a file they read changes.

    Limits are those of the whole session; without --max-requests it sends at most 200 requests. It
    shows word by word how answers changed; running requests are never cancelled by a change. On a
    terminal: r runs again, f asks everything again, p pauses, q quits.
    """
    asyncio.run(_session(flows, options, views=views))


async def _session(arguments: Sequence[str], options: SharedOptions, *, views: bool) -> None:
    """Watch the flows named until the user quits; with `views` serve pages that follow them.

    Raises `UsageError` or `AccountError`.
    """
    given = _limited(options)
    chosen = selections(arguments)
    check_selection(chosen, given, refreshes=False)
    environ = environment_with(given["env_file"])
    access = access_of(given["allow_files"], given["env_file"])
    targets = [flow_target(path, access) for path in chosen]
    clock, warned = SystemClock(), set[str]()
    screen = WatchScreen(Scrubber(*known_keys(environ)))
    first = shared_run_options(given, environ)
    check_trial(first)
    budget = shared_budget(targets[0].project, first)
    async with contextlib.AsyncExitStack() as stack:
        ending = stack.enter_context(ended_by_signals())
        reruns = RerunExecutor(
            lambda: msgspec.structs.replace(
                shared_run_options(given, environ),
                warned=warned,
                limiters=first.limiters,
                cut_short=ending.exit_code,
            ),
            budget=budget,
            screen=screen,
            clock=clock,
        )
        inbox = await stack.enter_async_context(Inbox(on_fault=screen.unwatched))
        if views:
            from poeflow.cli.page_server import served_pages

            serving = await stack.enter_async_context(served_pages(targets[0].project))
            screen.say(f"pages at {serving.address}")
        has_keys = stack.enter_context(pressed_commands(inbox.put))
        screen.say(_greeting(targets, given["max_requests"], has_keys=has_keys))
        flows = _watched(targets, chosen.values(), given)
        await Session(flows, reruns, queue=inbox, screen=screen, clock=clock).serve()


def _watched(
    targets: Iterable[FlowTarget], steps: Iterable[tuple[str, ...]], options: SharedOptions
) -> list[WatchedFlow]:
    """Return the flows to watch, each with the `steps` it was named with."""
    files = input_files(options["inputs"])
    if options["inputs_file"] is not None:
        files = (*files, options["inputs_file"].absolute())
    return [
        WatchedFlow(target.project, target.path, shown=target.shown, steps=named, outside=files)
        for target, named in zip(targets, steps, strict=True)
    ]


def _limited(options: SharedOptions) -> SharedOptions:
    """Return the options with the default limit of a session, and the text of standard input."""
    limit = options["max_requests"]
    if limit is None and not options["offline"]:
        limit = REQUESTS
    return {**options, "max_requests": limit, "inputs": without_stdin(options["inputs"])}


def _greeting(targets: list[FlowTarget], limit: int | None, *, has_keys: bool) -> str:
    text = f"watching {', '.join(one.shown for one in targets)}"
    if limit is not None:
        text += f", {limit:,} requests at most"
    return f"{text}; r run again, f ask all again, p pause, q quit" if has_keys else text
