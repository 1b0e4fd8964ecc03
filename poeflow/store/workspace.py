"""The state folder `.poeflow/` of a project, its lock, and the ledger of written files."""

import contextlib
import errno
import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from poeflow.clock import Clock, SystemClock
from poeflow.digest import sha256_of
from poeflow.errors import BusyError, UsageError
from poeflow.opener import head, regular, regular_status
from poeflow.project.atomic_write import sync_folder
from poeflow.project.project import Project, atomic_write
from poeflow.store.cache import Cache
from poeflow.store.folders import (
    PRIVATE,
    check_file,
    check_folder,
    disk_errors,
    make_private,
    owners,
)
from poeflow.store.git import Git

MAX_LEDGER_BYTES: Final = 64 * 1024 * 1024
"""How much is taken in at once: a row has about 150 bytes."""
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`path` is a project path, `sha256` the hash of the bytes written there.

    `place` names the checkout that they were written in.
    """

    path: str
    sha256: str
    place: str = ""


class Ledger:
    """An append-only file of JSON rows, safe with several threads and processes.

    A row is committed before its file is replaced: a crash between the two never makes our own
    file look edited. A torn line, left by a crash, is ignored, and so is a row of another `place`:
    what was written elsewhere says nothing of a file here. None counts where it is not `is_used`.
    """

    def __init__(self, path: Path, *, place: str = "", is_used: bool = True) -> None:
        self._is_used = is_used
        self._path = path
        self._place = place
        self._rows: dict[str, set[str]] = {}
        self._inode = 0
        self._read = 0
        self._lock = threading.Lock()

    def record(self, path: str, sha256: str) -> None:
        """Commit a row, durable when this returns. Raises `DiskError`."""
        row = LedgerRow(path=path, sha256=sha256, place=self._place)
        make_private(self._path.parent)
        with self._lock, disk_errors(self._path, "written"):
            handle = os.open(self._path, _APPEND, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._catch_up(handle)
                is_first = os.fstat(handle).st_size == 0
                if sha256 in self._rows.get(path, ()):
                    return  # whoever wrote it made it durable
                _append(handle, msgspec.json.encode(row) + b"\n")
                if is_first:
                    sync_folder(self._path.parent)
                os.fsync(handle)
            finally:
                os.close(handle)

    def written(self, path: str) -> frozenset[str]:
        """Return the hashes of all that poeflow ever wrote to a path. Raises `DiskError`."""
        if not self._is_used:
            return frozenset()
        with self._lock, disk_errors(self._path, "read"):
            try:
                with regular(self._path.parent, (self._path.name,)) as (handle, _):
                    self._catch_up(handle)
            except FileNotFoundError:
                return frozenset()
            return frozenset(self._rows.get(path, ()))

    def _catch_up(self, handle: int) -> None:
        """Take in the complete lines that were added since the last look."""
        status = regular_status(handle)
        if status.st_ino != self._inode or status.st_size < self._read:
            self._rows, self._inode, self._read = {}, status.st_ino, 0
        os.lseek(handle, self._read, os.SEEK_SET)
        data = head(handle, MAX_LEDGER_BYTES)
        complete = data[: data.rfind(b"\n") + 1]
        self._read += len(complete)
        for line in complete.split(b"\n"):
            try:
                row = msgspec.json.decode(line, type=LedgerRow)
            except (ValueError, RecursionError):
                continue
            if row.place == self._place:
                self._rows.setdefault(row.path, set()).add(row.sha256)


def _append(handle: int, line: bytes) -> None:
    """Append a line, beginning a new one where a crash tore the last."""
    size = os.fstat(handle).st_size
    is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
    data = b"\n" + line if is_torn else line
    if os.write(handle, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


STATE: Final = ".poeflow"
WAIT: Final = 10.0
TRUST: Final = (
    "a stranger may have made it: remove it with `git rm -r .poeflow`; if it is yours, add"
    " --trust-state, or keep it out of git with `git rm -r --cached .poeflow`"
)
"""What to do about state that git tracks."""
_COMMITTED: Final = re.compile(r"\.poeflow/(models\.json|\.gitignore|offline/.+)")
_PAUSE: Final = 0.05
_SYSTEM_CLOCK: Final = SystemClock()
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the workspace, for information: the lock itself is the system's."""

    pid: int
    since: float


def tracked_state(project: Project, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return which files of the project's state git tracks, by their paths in the project.

    They came with the repository, so that whoever made it decides what is in them. Not among them
    are those that may be committed: the list of models, what keeps git away, and simulated outputs.
    """
    if not os.path.lexists(project.root / STATE):
        return ()
    git = Git.find(project.root, environ)
    found = git.tracked([STATE]) if git is not None else []
    return tuple(sorted(path for path in found if not _COMMITTED.match(path)))


class Workspace:
    """The state of `project`. What it holds is not used where git has `tracked` some of it.

    Offline nothing real is touched: outputs go to `.poeflow/offline/`, at the same paths as in the
    project, and what is remembered of simulated answers to `.poeflow/simulated/`.
    """

    def __init__(self, project: Project, *, offline: bool, tracked: Sequence[str] = ()) -> None:
        self._project = project
        self.tracked = tuple(tracked)
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

    @property
    def is_foreign(self) -> bool:
        """Whether it came with the repository, so that nothing of it is used."""
        return bool(self.tracked)

    def refuse_foreign(self) -> None:
        """Raise `UsageError` where git tracks some of the state.

        Nothing is stored there either: what is paid for would lie among what is not used.
        """
        if self.tracked:
            message = f"{tracked_words(self.tracked)}, and so is not used"
            raise UsageError(message, hint=TRUST)

    def check(self) -> None:
        """Check that all there is of the state is real folders and plain files, and ours.

        What is written later then finds its place: nothing is sent whose answer could not be
        stored. Raises `DiskError`.
        """
        allowed = owners(self._project.root)
        cache = self.cache_folder
        media = cache / "media"
        for folder in (self._state, self._state / "offline", self._folder, cache):
            check_folder(folder, allowed)
        with disk_errors(cache, "looked at"):
            inner = list(cache.iterdir()) if cache.is_dir() else []
        for folder in (*inner, media / "urls", media / "files"):
            check_folder(folder, allowed)
        for file in (self._state / "lock", self._folder / "ledger.jsonl"):
            check_file(file, allowed)

    def answers(self, *, on_corrupt: Callable[[str], None]) -> Cache:
        return Cache(self._folder / "cache", on_corrupt=on_corrupt, is_used=not self.is_foreign)

    @property
    def cache_folder(self) -> Path:
        return self._folder / "cache"

    @property
    def has_answers(self) -> bool:
        """Whether any answer was ever stored."""
        return (self._folder / "cache").is_dir() and not self.is_foreign

    @property
    def history_path(self) -> Path:
        """Where runs are kept: one file for real and simulated ones, which are marked."""
        return self._state / "history.db"

    def ledger(self) -> Ledger:
        """Return what poeflow wrote in this checkout; what a copy of it says counts for nothing.

        A cache of a CI system comes back to the same place, and counts.
        """
        place = sha256_of(os.fsencode(self._project.root.resolve()))[:16]
        return Ledger(self._folder / "ledger.jsonl", place=place, is_used=not self.is_foreign)

    def outputs(self) -> Project:
        """Return the tree output files go to."""
        return Project(self._state / "offline") if self._offline else self._project

    @contextlib.contextmanager
    def hold(self, *, wait: float = WAIT, clock: Clock = _SYSTEM_CLOCK) -> Iterator[None]:
        """Keep other runs out while the block lasts; the system lets go if we die.

        Raises `BusyError`, saying who holds the workspace, after `wait` seconds.
        """
        self.refuse_foreign()
        self.check()
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


def tracked_words(paths: Sequence[str]) -> str:
    """Say which files of the state git tracks."""
    rest = len(paths) - 1
    return f"git tracks {paths[0]}{f' and {rest:,} more' if rest else ''}"


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
