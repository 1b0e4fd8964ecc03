"""Ends a command cleanly at SIGTERM and SIGHUP."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Final

import click

from poeflow.errors import INTERRUPTED

SIGNALLED: Final = {signal.SIGTERM: 143, signal.SIGHUP: 129}
"""The exit codes of a process that is ended by a signal other than SIGINT."""


class EndingSignal:
    """The signal that ended a command, if one did."""

    def __init__(self) -> None:
        self.number: signal.Signals | None = None

    def exit_code(self) -> int:
        """Return the exit code of the signal; that of Ctrl-C if there was none."""
        return INTERRUPTED if self.number is None else SIGNALLED[self.number]


@contextlib.contextmanager
def ended_by_signals() -> Iterator[EndingSignal]:
    """Cancel the running task at SIGTERM or SIGHUP, and end the command with the signal's code.

    A signal that is ignored, as SIGHUP is by `nohup`, stays so; SIGINT is left to `asyncio.run`.
    Python's development mode is off meanwhile: what asyncio then says of slow tasks quotes their
    values, a key among them.
    """
    loop, task, ending = asyncio.get_running_loop(), asyncio.current_task(), EndingSignal()
    loop.set_debug(False)

    def end(number: signal.Signals) -> None:
        ending.number = number
        if task is not None:
            task.cancel()

    heeded = [one for one in SIGNALLED if signal.getsignal(one) is not signal.SIG_IGN]
    for one in heeded:
        loop.add_signal_handler(one, end, one)
    try:
        yield ending
    except asyncio.CancelledError:
        if ending.number is not None:
            raise click.exceptions.Exit(ending.exit_code()) from None
        raise
    finally:
        for one in heeded:
            loop.remove_signal_handler(one)
