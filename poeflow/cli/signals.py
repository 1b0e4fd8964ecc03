"""Ending at once and in order when the system asks for it."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Final, TypeVar

import click

from poeflow.errors import INTERRUPTED

T = TypeVar("T")
SIGNALLED: Final = {signal.SIGTERM: 143, signal.SIGHUP: 129}
"""The exit codes of a process that other signals than SIGINT end."""


class Ending:
    """What cut a command short. `exit_code` is that of the signal, of Ctrl-C where none came."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self._signal is None else SIGNALLED[self._signal]

    def run(self, main: Coroutine[object, object, T]) -> T:
        """Run `main` to its end. SIGINT raises `KeyboardInterrupt`, others end with their code.

        Either way `main` is cancelled first, so that it leaves nothing half-written. A signal that
        is ignored, as SIGHUP by `nohup`, stays so. Python's development mode changes nothing: what
        asyncio says then of slow tasks quotes their values, a key among them.
        """
        return asyncio.run(self._guarded(main), debug=False)

    async def _guarded(self, main: Coroutine[object, object, T]) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def end(number: signal.Signals) -> None:
            self._signal = number
            if task is not None:
                task.cancel()

        heeded = [one for one in SIGNALLED if signal.getsignal(one) is not signal.SIG_IGN]
        for one in heeded:
            loop.add_signal_handler(one, end, one)
        try:
            return await main
        except asyncio.CancelledError:
            if self._signal is not None:
                raise click.exceptions.Exit(self.exit_code) from None
            raise
        finally:
            for one in heeded:
                loop.remove_signal_handler(one)


def run_until_done(main: Coroutine[object, object, T]) -> T:
    """Run `main` to its end, or to that of a signal."""
    return Ending().run(main)
