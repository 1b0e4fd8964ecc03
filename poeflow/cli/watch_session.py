"""`poeflow watch` on a terminal: the session, and the screen it is shown on."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from poeflow.cli.argument_values import input_files, without_stdin
from poeflow.cli.click_options import Shared, check_selection, shared_run_options
from poeflow.cli.commands.check import show
from poeflow.cli.keys import wishes
from poeflow.cli.output import is_lively, listener, print_results
from poeflow.cli.private_files_options import access_of, environment_with
from poeflow.cli.targets import Target, selections, target_of
from poeflow.clock import SystemClock
from poeflow.engine.run import Outcome
from poeflow.errors import PoeflowError
from poeflow.events import Listener, Warned
from poeflow.operations.check import Checkup
from poeflow.operations.run_context import shared_budget
from poeflow.operations.watch.changes import Inbox
from poeflow.operations.watch.session import RerunExecutor, Rewritten, Session, WatchedFlow
from poeflow.redact import Scrubber
from poeflow.report.difference import rewritten
from poeflow.report.listeners import scrubbed
from poeflow.report.terminal.screen import Screen
from poeflow.report.terminal.text import Line, marks_for, plain
from poeflow.settings import known_keys


class WatchScreen:
    """Shows a session; nothing that is shown holds a secret."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._is_live = is_lively(sys.stderr)
        self._is_colored = self._is_live and not os.environ.get("NO_COLOR")
        self._marks = marks_for(sys.stderr)
        self._screen = Screen(sys.stderr, color=self._is_colored)
        self._listen: Listener | None = None

    def begin(self, why: str) -> None:
        """Show that flows are run again, and why."""
        clock = time.strftime("%H:%M:%S")
        self._write([(), ((f"{clock} ", "dim"), (self._safe(why), "bold"))])

    def problems(self, found: Checkup) -> None:
        """Show what is wrong with a flow, if anything is."""
        show(found.problems, (found,))

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        """Yield who hears what happens in a run."""
        with listener("text") as listen:
            self._listen = scrubbed(listen, self._scrubber)
            try:
                yield self._listen
            finally:
                self._listen = None

    def result(self, shown: str, outcome: Outcome, texts: Sequence[Rewritten] | None) -> None:
        """Show what a flow came to, and which texts are others; None where it ran first.

        On a terminal what changed says it all; a pipe gets every result.
        """
        if texts is None or not sys.stdout.isatty():
            print_results({shown: outcome}, "text")
        for text in texts or ():
            self._write(self._difference(text))

    def failed(self, shown: str, error: PoeflowError) -> None:
        """Show what kept a flow from running."""
        lines = [f"{shown}: {error.message}", *([f"  {error.hint}"] if error.hint else [])]
        self._write([((self._safe(line), "red" if line == lines[0] else ""),) for line in lines])

    def say(self, line: str) -> None:
        """Show a line by the way, also above a run that is being drawn."""
        if self._listen is not None:
            self._listen(Warned(at=0.0, step=None, message=line))
        else:
            self._write([((self._safe(line), "dim"),)])

    def unwatched(self, fault: str) -> None:
        """Show that changes are seen late, and why."""
        self.say(f"folders cannot be watched ({fault}); they are looked through every second")

    def _difference(self, text: Rewritten) -> list[Line]:
        old = None if text.old is None else self._scrubber.scrub(text.old)
        lines, more = rewritten(
            old,
            self._scrubber.scrub(text.new),
            width=self._screen.size[0] - 2 if self._is_live else sys.maxsize,
            is_colored=self._is_colored,
            marks=self._marks,
        )
        head: Line = ((self._safe(text.instance), "cyan"), (" is new" if old is None else "", ""))
        rest = f"... ({more:,} more lines, see poeflow diff last~1 last)"
        told = [head, *((("  ", ""), *line) for line in lines)]
        return [*told, (("  ", ""), (rest, "dim"))] if more else told

    def _safe(self, text: str) -> str:
        return self._marks.shown(self._scrubber.scrub(text))

    def _write(self, lines: Sequence[Line]) -> None:
        sys.stdout.flush()
        if self._is_live:
            self._screen.leave(list(lines))
        else:
            sys.stderr.write("".join(plain(line) + "\n" for line in lines if line))
            sys.stderr.flush()


REQUESTS: Final = 200
"""How many requests a session sends where nobody said how many."""


async def session(
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
