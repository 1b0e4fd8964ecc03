"""What the user wishes, as single keys; the terminal is as it was on every way out."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Final

from poeflow.operations.watch.changes import CommandGiven, WatchCommand

KEYS: Final[dict[str, WatchCommand]] = {"r": "rerun", "f": "refresh", "p": "pause", "q": "quit"}


@contextlib.contextmanager
def wishes(put: Callable[[CommandGiven], None]) -> Iterator[bool]:
    """Put what the user wishes; yield whether there is a terminal to wish on."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        yield False
        return

    def heard(key: str) -> None:
        if key.lower() in KEYS:
            put(CommandGiven(KEYS[key.lower()]))

    with keys(sys.stdin.fileno(), heard):
        yield True


@contextlib.contextmanager
def keys(handle: int, heard: Callable[[str], None]) -> Iterator[None]:
    """Hand each key pressed on the terminal `handle` to `heard` while the block lasts.

    Must be used in a running event loop. Ctrl-Z gives the terminal back until the job goes on;
    in the background nothing is read.
    """
    terminal = _Terminal(handle, heard)
    terminal.take()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTSTP, terminal.suspend)
    loop.add_signal_handler(signal.SIGCONT, terminal.take)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTSTP)
        loop.remove_signal_handler(signal.SIGCONT)
        terminal.give_back()


class _Terminal:
    def __init__(self, handle: int, heard: Callable[[str], None]) -> None:
        self._handle = handle
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._before = termios.tcgetattr(handle)

    def take(self) -> None:
        """Have keys one by one, unless we are in the background."""
        if self._is_ours():
            tty.setcbreak(self._handle, termios.TCSADRAIN)
            self._loop.add_reader(self._handle, self._read)

    def give_back(self) -> None:
        self._loop.remove_reader(self._handle)
        if self._is_ours():
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._handle, termios.TCSADRAIN, self._before)

    def suspend(self) -> None:
        """Stop as the terminal asked, and go on from here when it says so."""
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
