"""What a session reacts to: what happens in watched folders, keys, and the end of a run."""

import asyncio
import fcntl
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Literal, Protocol, Self, TypeAlias

import msgspec
from watchfiles import awatch

from poeflow.clock import Clock
from poeflow.opener import followed
from poeflow.project.read_log import FileStat, stamp_at

STEP: Final = 0.01
QUIET: Final = 0.05 - STEP
"""Seconds without another event, besides the step in which the watcher saw none itself."""
SETTLED: Final = 0.3 - STEP
"""The same for what somebody is still writing, and for what is saved again and again."""
AGAIN: Final = 1.0
"""Within so many seconds after a change was acted upon, another of the same file waits longer."""
LONGEST: Final = 2.0
"""Seconds after which a burst that does not end is looked into all the same."""
SWEEP: Final = 1.0
"""Seconds between two looks at everything, for what no event told of."""
PATIENCE: Final = 10.0
"""Seconds to wait at most for git, or whoever writes a file, to end what they do."""

WatchCommand = Literal["rerun", "refresh", "pause", "quit"]


class Touched(msgspec.Struct, frozen=True):
    """Something happened to these paths."""

    paths: frozenset[Path]


class CommandGiven(msgspec.Struct, frozen=True):
    """The user pressed a key."""

    command: WatchCommand


class Ended(msgspec.Struct, frozen=True):
    """The run that was going on has ended."""


Item: TypeAlias = Touched | CommandGiven | Ended


class Source(Protocol):
    """Where a session's items come from."""

    def put(self, item: Item) -> None:
        """Add an item behind all others."""

    async def next(self, within: float) -> Item | None:
        """Return the next item, None where there is none within so many seconds."""

    def arm(self, folders: frozenset[Path]) -> None:
        """Watch these folders, and no others, from now on."""


class Inbox:
    """Items in the order of their arrival, those of the file system among them.

    Use it as a context manager. `on_fault` is told where folders cannot be watched.
    """

    def __init__(self, *, on_fault: Callable[[str], None]) -> None:
        self._on_fault = on_fault
        self._items: asyncio.Queue[Item] = asyncio.Queue()
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

    def put(self, item: Item) -> None:
        self._items.put_nowait(item)

    async def next(self, within: float) -> Item | None:
        """Return the next item, None where there is none within so many seconds."""
        await asyncio.sleep(0)  # or a Ctrl-C that is due already is taken for the timeout
        try:
            async with asyncio.timeout(within):
                item = await self._items.get()
        except TimeoutError:
            return None
        if isinstance(item, Touched) and not item.paths.isdisjoint(self._armed):
            self._armed = {}  # a folder itself: it may be another one by the same name now
        return item

    def arm(self, folders: frozenset[Path]) -> None:
        """Watch these folders, and no others, from now on. Those that are so already stay so."""
        wanted = {folder: _inode(folder) for folder in folders}
        if wanted == self._armed:
            return
        self._armed = wanted
        self._stop.set()
        self._stop = asyncio.Event()
        self._group.create_task(self._follow(folders, self._stop))

    async def _follow(self, folders: Collection[Path], stop: asyncio.Event) -> None:
        """Put what happens in `folders` into the inbox until `stop` is set."""
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
                self.put(Touched(frozenset(Path(path) for _, path in batch)))
        except OSError as error:  # gone meanwhile, or more than the system watches
            fault = str(error)
            if fault not in self._faults and all(folder.is_dir() for folder in folders):
                self._on_fault(fault)
            self._faults.add(fault)


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


class Settling:
    """Gathers what is touched until it has been quiet for a while.

    The while is longer for a file that somebody is still writing, and for one that is saved again
    soon after it was acted upon. While one of `held` exists, as git's lock does while it changes
    branches, it is not quiet. `before` gives how a path was when it was read last.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        held: Collection[Path] = (),
        before: Callable[[Path], FileStat | None] = lambda _path: None,
    ) -> None:
        self._clock = clock
        self._held = held
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

    @property
    def due_in(self) -> float | None:
        """The seconds until what was touched may be looked at, None where nothing was."""
        if not self._paths:
            return None
        now = self._clock.monotonic()
        due = min(self._last + QUIET, self._first + LONGEST)
        if due <= now:
            self._is_slow = self._is_slow or any(map(self._is_unfinished, self._paths))
        if self._is_slow:
            due = min(self._last + SETTLED, self._first + PATIENCE)
        if due <= now < self._first + PATIENCE and any(one.exists() for one in self._held):
            return QUIET
        return max(0.0, due - now)

    def take(self) -> frozenset[Path]:
        """Return what was touched, and forget it."""
        paths, now = frozenset(self._paths), self._clock.monotonic()
        self._paths.clear()
        self._taken = {path: at for path, at in self._taken.items() if now - at < AGAIN}
        self._taken.update(dict.fromkeys(paths, now))
        return paths

    def _is_unfinished(self, path: Path) -> bool:
        """Whether more is likely to come: gone, emptied, cut down in place, or open for writing."""
        stamp, before = stamp_at(path), self._before(path)
        if stamp is None or stamp.size == 0:
            return True
        is_cut = before is not None and before.inode == stamp.inode and stamp.size * 2 < before.size
        return is_cut or is_being_written(path)


def is_being_written(path: Path) -> bool:
    """Whether a process has the file at `path` open for writing, as far as the system tells.

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
    except OSError:  # gone, a file of somebody else, a file system without leases
        return False
    return False


def git_locks(root: Path) -> list[Path]:
    """Return the files that exist while git changes what is in the folder `root`."""
    return [one / ".git" / "index.lock" for one in (root, *root.parents) if (one / ".git").is_dir()]
