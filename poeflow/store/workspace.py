"""The state folder `.poeflow/` of a project: what lies where, and who may write to it."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from poeflow.clock import Clock, SystemClock
from poeflow.errors import BusyError
from poeflow.files import Project, atomic_write
from poeflow.store.cache import Cache
from poeflow.store.folders import PRIVATE, disk_errors, make_private
from poeflow.store.ledger import Ledger

STATE: Final = ".poeflow"
WAIT: Final = 10.0
_PAUSE: Final = 0.05
_SYSTEM_CLOCK: Final = SystemClock()
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the workspace, for information: the lock itself is the system's."""

    pid: int
    since: float


class Workspace:
    """The state of `project`.

    Offline nothing real is touched: outputs go to `.poeflow/offline/`, at the same paths as in the
    project, and what is remembered of simulated answers to `.poeflow/simulated/`.
    """

    def __init__(self, project: Project, *, offline: bool) -> None:
        self._project = project
        self._state = project.root / STATE
        self._folder = self._state / "simulated" if offline else self._state
        self._offline = offline

    def prepare(self) -> None:
        """Make the state folder, private and ignored by git. Raises `DiskError`.

        Whoever wants to commit what is in it edits its `.gitignore`, which is written once.
        """
        make_private(self._state)
        make_private(self._folder)
        with disk_errors(self._state, "made private"):
            if self._state.stat().st_mode & 0o777 != PRIVATE:
                self._state.chmod(PRIVATE)
        ignore = self._state / ".gitignore"
        if not ignore.exists():
            atomic_write(ignore, b"*\n")

    def answers(self, *, on_corrupt: Callable[[str], None]) -> Cache:
        return Cache(self._folder / "cache", on_corrupt=on_corrupt)

    @property
    def cache_folder(self) -> Path:
        return self._folder / "cache"

    @property
    def has_answers(self) -> bool:
        """Whether any answer was ever stored."""
        return (self._folder / "cache").is_dir()

    @property
    def history_path(self) -> Path:
        """Where runs are kept: one file for real and simulated ones, which are marked."""
        return self._state / "history.db"

    def ledger(self) -> Ledger:
        return Ledger(self._folder / "ledger.jsonl")

    def outputs(self) -> Project:
        """Return the tree output files go to."""
        return Project(self._state / "offline") if self._offline else self._project

    @contextlib.contextmanager
    def hold(self, *, wait: float = WAIT, clock: Clock = _SYSTEM_CLOCK) -> Iterator[None]:
        """Keep other runs out while the block lasts; the system lets go if we die.

        Raises `BusyError`, saying who holds the workspace, after `wait` seconds.
        """
        self.prepare()
        path = self._state / "lock"
        with disk_errors(path, "opened"):
            handle = os.open(path, _LOCK, 0o600)
        try:
            with disk_errors(path, "locked"):
                _acquire(handle, clock, wait)
            _sign(handle, Holder(pid=os.getpid(), since=clock.now()))
            yield
        finally:
            os.close(handle)


def _acquire(handle: int, clock: Clock, wait: float) -> None:
    deadline = clock.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() >= deadline:
                raise _busy(handle, clock.now()) from None
            clock.sleep(_PAUSE)
        else:
            return


def _sign(handle: int, holder: Holder) -> None:
    """Leave a note for those who wait. It is only a note: a full disk does not stop a run."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, msgspec.json.encode(holder) + b"\n", 0)


def _busy(handle: int, now: float) -> BusyError:
    try:
        holder = msgspec.json.decode(os.pread(handle, 1024, 0), type=Holder)
    except (ValueError, RecursionError):
        who = "another run"
    else:
        who = f"another run (process {holder.pid}, for {max(0, now - holder.since):.0f} s)"
    return BusyError(f"{who} is at work in this project", hint="wait for it, or end it")
