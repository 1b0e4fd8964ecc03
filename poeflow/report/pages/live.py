"""What is new in the history, told to open pages as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from poeflow.errors import PoeflowError

PAUSE: Final = 0.5
_BEAT: Final = 30
"""Looks without news after which a comment shows that the line still stands."""


async def news(changes: Callable[[], int], seen: int, closing: asyncio.Event) -> AsyncIterator[str]:
    """Yield an event whenever the number of changes is another than was `seen` before.

    Ends when `closing` is set, or when the history cannot be read; browsers come back by
    themselves.
    """
    yield "retry: 2000\n\n"
    quiet = 0
    while not closing.is_set():
        try:
            now = await asyncio.to_thread(changes)
        except PoeflowError:
            return
        if now != seen:
            seen, quiet = now, 0
            yield f"id: {now}\ndata: {now}\n\n"
        elif (quiet := quiet + 1) % _BEAT == 0:
            yield ": still here\n\n"
        try:
            await asyncio.wait_for(closing.wait(), PAUSE)
        except TimeoutError:
            continue
