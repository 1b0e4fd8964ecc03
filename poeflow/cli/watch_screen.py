"""A watch session on stderr: why it reruns, what the answers were and are, what it spent."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence

from poeflow.cli.commands.check import show
from poeflow.cli.results import is_lively, listener, print_results
from poeflow.engine.run import Outcome
from poeflow.errors import PoeflowError
from poeflow.events import Listener, Warned
from poeflow.operations.check import Checkup
from poeflow.operations.watch.flow import Rewritten
from poeflow.redact import Scrubber
from poeflow.report.rewritten import rewritten
from poeflow.report.scrubbed import scrubbed
from poeflow.report.terminal.marks import marks_for
from poeflow.report.terminal.screen import Screen
from poeflow.report.terminal.text import Line, plain


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
