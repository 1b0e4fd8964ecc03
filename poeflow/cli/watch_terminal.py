"""The terminal of a watch session: what it shows, and the keys pressed on it.

The terminal is restored however the session ends.
"""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from poeflow.cli.output import RUN_OUTPUTS, is_lively
from poeflow.cli.problem_output import show_problems
from poeflow.engine.results import Outcome
from poeflow.errors import PoeflowError
from poeflow.events import Listener, Warned
from poeflow.operations.check import Checkup
from poeflow.operations.watch.changes import CommandGiven, WatchCommand
from poeflow.operations.watch.watched_flow import RewrittenText
from poeflow.redact import Scrubber
from poeflow.report.difference import rewritten
from poeflow.report.listeners import scrubbed
from poeflow.report.terminal.screen import Screen
from poeflow.report.terminal.text import Line, marks_for, unstyled

KEYS: Final[dict[str, WatchCommand]] = {"r": "rerun", "f": "refresh", "p": "pause", "q": "quit"}


class WatchScreen:
    """Shows a session, without secrets."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._is_live = is_lively(sys.stderr)
        self._is_colored = self._is_live and not os.environ.get("NO_COLOR")
        self._marks = marks_for(sys.stderr)
        self._screen = Screen(sys.stderr, color=self._is_colored)
        self._listen: Listener | None = None

    def begin(self, why: str) -> None:
        """Show that flows run again, and why."""
        clock = time.strftime("%H:%M:%S")
        self._write([(), ((f"{clock} ", "dim"), (self._safe(why), "bold"))])

    def problems(self, found: Checkup) -> None:
        """Show the problems of a flow."""
        show_problems(found.problems, (found,))

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        """Yield the listener of a run."""
        with RUN_OUTPUTS["text"].listener() as listen:
            self._listen = scrubbed(listen, self._scrubber)
            try:
                yield self._listen
            finally:
                self._listen = None

    def result(self, shown: str, outcome: Outcome, texts: Sequence[RewrittenText] | None) -> None:
        """Show the results of a flow, and the texts that changed; None for its first run.

        On a terminal only the changes are shown after the first run; a pipe gets every result.
        """
        if texts is None or not sys.stdout.isatty():
            RUN_OUTPUTS["text"].print_results({shown: outcome})
        for text in texts or ():
            self._write(self._difference(text))

    def failed(self, shown: str, error: PoeflowError) -> None:
        """Show the error that prevented a run."""
        lines = [f"{shown}: {error.message}", *([f"  {error.hint}"] if error.hint else [])]
        self._write([((self._safe(line), "red" if line == lines[0] else ""),) for line in lines])

    def say(self, line: str) -> None:
        """Show a line, above the run if one is being drawn."""
        if self._listen is not None:
            self._listen(Warned(at=0.0, step=None, message=line))
        else:
            self._write([((self._safe(line), "dim"),)])

    def unwatched(self, fault: str) -> None:
        """Show that changes are noticed late, and why."""
        self.say(f"folders cannot be watched ({fault}); they are looked through every second")

    def _difference(self, text: RewrittenText) -> list[Line]:
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
        shown = [head, *((("  ", ""), *line) for line in lines)]
        return [*shown, (("  ", ""), (rest, "dim"))] if more else shown

    def _safe(self, text: str) -> str:
        return self._marks.shown(self._scrubber.scrub(text))

    def _write(self, lines: Sequence[Line]) -> None:
        sys.stdout.flush()
        if self._is_live:
            self._screen.leave(list(lines))
        else:
            sys.stderr.write("".join(unstyled(line) + "\n" for line in lines if line))
            sys.stderr.flush()


@contextlib.contextmanager
def pressed_commands(put: Callable[[CommandGiven], None]) -> Iterator[bool]:
    """Put the commands that the user's keys give; yield whether there is a terminal for keys.

    Must be used in a running event loop. Ctrl-Z restores the terminal until the process continues;
    in the background no key is read.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        yield False
        return

    def heard(key: str) -> None:
        if key.lower() in KEYS:
            put(CommandGiven(KEYS[key.lower()]))

    terminal = _Terminal(sys.stdin.fileno(), heard)
    terminal.take()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTSTP, terminal.suspend)
    loop.add_signal_handler(signal.SIGCONT, terminal.take)
    try:
        yield True
    finally:
        loop.remove_signal_handler(signal.SIGTSTP)
        loop.remove_signal_handler(signal.SIGCONT)
        terminal.give_back()


class _Terminal:
    """A terminal whose keys are heard, and which is given back as it was."""

    def __init__(self, handle: int, heard: Callable[[str], None]) -> None:
        self._handle = handle
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._before = termios.tcgetattr(handle)

    def take(self) -> None:
        """Read keys one by one, unless in the background."""
        if self._is_ours():
            tty.setcbreak(self._handle, termios.TCSADRAIN)
            self._loop.add_reader(self._handle, self._read)

    def give_back(self) -> None:
        self._loop.remove_reader(self._handle)
        if self._is_ours():
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._handle, termios.TCSADRAIN, self._before)

    def suspend(self) -> None:
        """Stop the process, and continue from here when it is resumed."""
        self.give_back()
        self._loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        self._loop.add_signal_handler(signal.SIGTSTP, self.suspend)
        self.take()

    def _read(self) -> None:
        try:
            pressed = os.read(self._handle, 64) if self._is_ours() else b""
        except OSError:
            pressed = b""
        if not pressed:  # hung up, or in the background
            self._loop.remove_reader(self._handle)
        for key in pressed.decode("utf-8", "replace"):
            self._heard(key)

    def _is_ours(self) -> bool:
        try:
            return os.tcgetpgrp(self._handle) == os.getpgrp()
        except OSError:
            return False
