"""The queue of a watch session: file changes, keys pressed, and runs that end."""

import asyncio
import fcntl
import signal
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, Literal, Protocol, Self, TypeAlias

import msgspec
from watchfiles import awatch

from poeflow.clock import Clock
from poeflow.opener import followed
from poeflow.project.read_log import FileStat, stamp_at

STEP: Final = 0.01
QUIET: Final = 0.02
"""Seconds without another event, on top of the watcher's own step without one."""
SETTLED: Final = 0.3 - STEP
"""The same for files that are still being written, or are saved repeatedly."""
AGAIN: Final = 1.0
"""A change of a file within so many seconds after the last one waits longer."""
LONGEST: Final = 2.0
"""Seconds after which a burst that does not end is acted upon all the same."""
SWEEP: Final = 1.0
"""Seconds between two sweeps over all files, for changes without an event."""
PATIENCE: Final = 10.0
"""Seconds to wait at most until git, or another program, ends writing."""

WatchCommand = Literal["rerun", "refresh", "pause", "quit"]


class FilesTouched(msgspec.Struct, frozen=True):
    """Something happened to these paths."""

    paths: frozenset[Path]


class CommandGiven(msgspec.Struct, frozen=True):
    """The user pressed a key."""

    command: WatchCommand


class RunEnded(msgspec.Struct, frozen=True):
    """The run has ended."""


SessionItem: TypeAlias = FilesTouched | CommandGiven | RunEnded


class ItemQueue(Protocol):
    """The queue of a session's items."""

    def put(self, item: SessionItem) -> None:
        """Add an item at the end."""

    async def next(self, within: float) -> SessionItem | None:
        """Return the next item, None if there is none within so many seconds."""

    def arm(self, folders: frozenset[Path]) -> None:
        """Watch these folders, and no others, from now on."""


class Inbox:
    """A queue of what is put there and of the events of folders, in order of arrival.

    Use it as a context manager. `on_fault` is called with the reason if folders cannot be watched.
    """

    def __init__(self, *, on_fault: Callable[[str], None]) -> None:
        self._on_fault = on_fault
        self._items: asyncio.Queue[SessionItem] = asyncio.Queue()
        self._group = asyncio.TaskGroup()
        self._stop = asyncio.Event()
        self._armed: dict[Path, int] = {}
        self._faults: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await self._group.__aexit__(None, None, None)

    def put(self, item: SessionItem) -> None:
        self._items.put_nowait(item)

    async def next(self, within: float) -> SessionItem | None:
        """Return the next item, None if there is none within so many seconds."""
        await asyncio.sleep(0)  # else a pending Ctrl-C is taken for the timeout
        try:
            async with asyncio.timeout(within):
                item = await self._items.get()
        except TimeoutError:
            return None
        if isinstance(item, FilesTouched) and not item.paths.isdisjoint(self._armed):
            self._armed = {}  # the folder itself may have been replaced by another
        return item

    def arm(self, folders: frozenset[Path]) -> None:
        """Watch these folders, and no others, from now on."""
        wanted = {folder: _inode(folder) for folder in folders}
        if wanted == self._armed:
            return
        self._armed = wanted
        self._stop.set()
        self._stop = asyncio.Event()
        self._group.create_task(self._follow(folders, self._stop))

    async def _follow(self, folders: Collection[Path], stop: asyncio.Event) -> None:
        """Put the events of `folders` into the queue until `stop` is set."""
        step = round(STEP * 1000)
        try:
            async for batch in awatch(
                *folders,
                watch_filter=None,
                debounce=2 * step,
                step=step,
                stop_event=stop,
                recursive=False,
                ignore_permission_denied=True,
            ):
                self.put(FilesTouched(frozenset(Path(path) for _, path in batch)))
        except OSError as error:  # a folder is gone, or the system can watch no more
            fault = str(error)
            if fault not in self._faults and all(folder.is_dir() for folder in folders):
                self._on_fault(fault)
            self._faults.add(fault)


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


class Debouncer:
    """Collects touched paths until there were no events for a while.

    The while is longer for a file that is still being written, and for one that is saved again
    soon. It does not end while a file of `locks` exists, such as git's while it changes branches.
    `before` returns the status of a file when it was read last.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        locks: Collection[Path] = (),
        before: Callable[[Path], FileStat | None] = lambda _path: None,
    ) -> None:
        self._clock = clock
        self._locks = locks
        self._before = before
        self._paths: set[Path] = set()
        self._first = 0.0
        self._last = 0.0
        self._taken: dict[Path, float] = {}
        self._is_slow = False

    def touch(self, paths: Collection[Path]) -> None:
        if not paths:
            return
        now = self._clock.monotonic()
        if not self._paths:
            self._first, self._is_slow = now, False
        self._last = now
        self._paths.update(paths)
        if any(now - self._taken.get(path, -AGAIN) < AGAIN for path in paths):
            self._is_slow = True

    def wait_for(self, paths: Iterable[Path]) -> bool:
        """Touch those of some changed paths that are being written; return whether any are."""
        unfinished = [path for path in paths if self._is_unfinished(path)]
        self.touch(unfinished)
        return bool(unfinished)

    @property
    def due_in(self) -> float | None:
        """The seconds until the touched paths may be looked at, None if there are none."""
        if not self._paths:
            return None
        now = self._clock.monotonic()
        due = min(self._last + QUIET, self._first + LONGEST)
        if due <= now:
            self._is_slow = self._is_slow or any(map(self._is_unfinished, self._paths))
        if self._is_slow:
            due = min(self._last + SETTLED, self._first + PATIENCE)
        if due <= now < self._first + PATIENCE and any(one.exists() for one in self._locks):
            return QUIET
        return max(0.0, due - now)

    def take(self) -> frozenset[Path]:
        """Return the touched paths and clear them."""
        paths, now = frozenset(self._paths), self._clock.monotonic()
        self._paths.clear()
        self._taken = {path: at for path, at in self._taken.items() if now - at < AGAIN}
        self._taken.update(dict.fromkeys(paths, now))
        return paths

    def _is_unfinished(self, path: Path) -> bool:
        """Whether more changes are likely: gone, emptied, truncated, or open for writing."""
        stamp, before = stamp_at(path), self._before(path)
        if stamp is None or stamp.size == 0:
            return True
        is_cut = before is not None and before.inode == stamp.inode and stamp.size * 2 < before.size
        return is_cut or is_being_written(path)


def is_being_written(path: Path) -> bool:
    """Whether a process has the file at `path` open for writing, as far as the system says.

    Linux does not lease a file for reading while it is open for writing (fcntl(2), F_SETLEASE); a
    lease that is broken sends a signal, here one that is ignored.
    """
    if sys.platform != "linux":
        return False
    try:
        with followed(path) as (handle, _):
            fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # gone, owned by another user, or a file system without leases
        return False
    return False


def git_locks(root: Path) -> list[Path]:
    """Return the files that exist while git changes what is in the folder `root`."""
    return [one / ".git" / "index.lock" for one in (root, *root.parents) if (one / ".git").is_dir()]
