"""Ending at once and in order when the system asks for it."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Final, TypeVar

import click

T = TypeVar("T")
TERMINATED: Final = 143


def run_until_done(main: Coroutine[object, object, T]) -> T:
    """Run `main` to its end. SIGINT raises `KeyboardInterrupt`, SIGTERM ends with exit code 143.

    Either way `main` is cancelled first, so that it leaves nothing half-written.
    """
    return asyncio.run(_guarded(main))


async def _guarded(main: Coroutine[object, object, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    was_asked = False

    def end() -> None:
        nonlocal was_asked
        was_asked = True
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await main
    except asyncio.CancelledError:
        if was_asked:
            raise click.exceptions.Exit(TERMINATED) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
