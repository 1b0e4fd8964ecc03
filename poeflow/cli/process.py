"""The process of a command: signals end it, and functions of a project leave it as it is."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

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


@contextlib.contextmanager
def own_streams() -> Iterator[tuple[TextIO, TextIO]]:
    """Yield a stdout and a stderr of the run's own, which functions of a project cannot close.

    What they print goes to stderr until the block ends, in any thread, and what programs print
    that they start: a run's stdout is for its results. At the end the working folder and the
    environment are what they were.
    """
    stdout, stderr = sys.stdout, sys.stderr
    prints = contextlib.redirect_stdout(_Log(stderr))
    if (_number(stdout), _number(stderr)) != (1, 2):  # streams that no program inherits
        with _surroundings(), prints:
            yield stdout, stderr
        return
    stdout.flush()
    with _surroundings(), _copy(stdout) as results, _copy(stderr) as log:
        os.dup2(2, 1)
        try:
            with prints:
                yield results, log
        finally:
            sys.stdout, sys.stderr = _restored(stdout, 1, results), _restored(stderr, 2, log)


class _Log:
    """What functions of a project print to, in place of stdout: a `stream` that may break off."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._stream, name)
        return found

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def close(self) -> None:
        """Stay open: others print to it, too."""


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """Restore the working folder and the environment at the end, as functions may change them.

    Other flows of the command read both, and the paths of its options are relative to the folder.
    """
    folder, environ = Path(), dict(os.environ)
    with contextlib.suppress(OSError):  # it may be gone
        folder = folder.absolute()
    try:
        yield
    finally:
        if os.environ != environ:
            os.environ.clear()
            os.environ.update(environ)
        with contextlib.suppress(OSError):
            os.chdir(folder)


def _number(stream: TextIO) -> int | None:
    """Return the number of the file that a stream writes to, None if there is none."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _copy(stream: TextIO) -> Iterator[TextIO]:
    """Yield another stream to the same file; what it cannot write at the end is lost."""
    copy = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors=stream.errors)
    try:
        yield copy
    finally:
        with contextlib.suppress(OSError):
            copy.close()


def _restored(stream: TextIO, number: int, copy: TextIO) -> TextIO:
    """Return a stream that writes where its copy does; a new one if a function closed it."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()  # what a function left in it goes where the rest of it went
    os.dup2(copy.fileno(), number)
    if not stream.closed:
        return stream
    return os.fdopen(number, "w", encoding=copy.encoding, errors=copy.errors, closefd=False)
