"""A bound on the time of all that a step does."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from poeflow.durations import spoken
from poeflow.errors import APITimeoutError

T = TypeVar("T")


async def within(limit: float | None, doing: Coroutine[object, object, T]) -> T:
    """Return what `doing` gives within `limit` seconds. Raises `APITimeoutError`."""
    try:
        async with asyncio.timeout(limit):
            return await doing
    except TimeoutError:
        message = f"the step took longer than {spoken(limit or 0)}"
        raise APITimeoutError(message, hint="raise timeout.step") from None
