"""Waits for a function that blocks, in a thread that nobody has to wait for."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from types import TracebackType


class _Ending:
    """How a function ended: what it gave or raised, nothing lost."""

    def __init__(self) -> None:
        self.result: object = None
        self.error: BaseException | None = None

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.error = error
        return True


async def in_thread(function: Callable[[], object]) -> object:
    """Return what `function` gives, or raise what it raises.

    Unlike in `asyncio.to_thread`, one that never returns keeps neither the event loop nor the
    process from ending: when the waiting is cancelled, the thread is left to itself.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[_Ending] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        ending = _Ending()
        with ending:
            ending.result = context.run(function)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, ending)

    def deliver(ending: _Ending) -> None:
        if not ended.done():
            ended.set_result(ending)

    threading.Thread(target=run, name="poeflow-tool", daemon=True).start()
    ending = await ended
    if ending.error is not None:
        raise ending.error
    return ending.result
