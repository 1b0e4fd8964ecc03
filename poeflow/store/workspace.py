"""The state folder of a project, `.poeflow/`, and the lock that allows one run at a time."""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from poeflow.clock import Clock, SystemClock
from poeflow.digest import sha256_of
from poeflow.errors import BusyError, UsageError
from poeflow.events import ignore
from poeflow.lazy_pattern import lazy_pattern
from poeflow.project.project import Project, atomic_write
from poeflow.project.state_folder import STATE_NAME, is_elsewhere, state_folder
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
from poeflow.store.history import History
from poeflow.store.ledger import Ledger
from poeflow.store.transfer import import_old_files, opened_store
from poeflow.store.writer import StoreWriter

WAIT: Final = 10.0
TRUST: Final = (
    "a stranger may have made it: remove it with `git rm -r .poeflow`; if it is yours, add"
    " --trust-state, or keep it out of git with `git rm -r --cached .poeflow`"
)
"""The hint for state that git tracks."""
_COMMITTED: Final = lazy_pattern(r"\.poeflow/(models\.json|\.gitignore|offline/.+)")
_UNSAFE: Final = lazy_pattern(r"[^A-Za-z0-9._=,+-]")
_LONGEST: Final = 100
_PAUSE: Final = 0.05
_SYSTEM_CLOCK: Final = SystemClock()
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that holds the workspace, for information: the operating system has the lock."""

    pid: int
    since: float


def tracked_state(project: Project, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return which files of the project's state git tracks, by their paths in the project.

    They came with the repository, so that its author decides what is in them. Files that may be
    committed are left out: the list of models, `.gitignore`, and simulated outputs. There are none
    if the user has the state elsewhere.
    """
    if is_elsewhere(environ) or not os.path.lexists(project.root / STATE_NAME):
        return ()
    git = Git.find(project.root, environ)
    found = git.tracked([STATE_NAME]) if git is not None else []
    return tuple(sorted(path for path in found if not _COMMITTED.match(path)))


class Workspace:
    """The state of `project`. It is not used if git tracks the files `tracked` of it.

    It is in `.poeflow/`, or where `POEFLOW_STATE_DIR` of `environ` says. Offline nothing real is
    changed: outputs go to `offline/` in it, at the same paths as in the project, and state about
    simulated answers to `simulated/`.
    """

    def __init__(
        self,
        project: Project,
        environ: Mapping[str, str],
        *,
        offline: bool,
        tracked: Sequence[str] = (),
    ) -> None:
        """Raise `UsageError` if the environment names a place that is not safe."""
        self._project = project
        self.tracked = tuple(tracked)
        self._state = state_folder(project.root, environ)
        self._folder = self._state / "simulated" if offline else self._state
        self._offline = offline
        self._store = StoreWriter(self._state / "poeflow.db")

    def prepare(self) -> None:
        """Make the state folder, private and ignored by git. Raises `DiskError`.

        Its `.gitignore` is written once, so that users can edit it to commit files.
        """
        make_private(self._state)
        make_private(self._folder)
        with disk_errors(self._state, "made private"):
            if self._state.stat().st_mode & 0o777 != PRIVATE:
                self._state.chmod(PRIVATE)
        ignore = self._state / ".gitignore"
        if not ignore.exists():
            atomic_write(ignore, b"*\n")
        if self.is_elsewhere:
            atomic_write(self._state / "project.txt", os.fsencode(self._project.root) + b"\n")

    @property
    def folder(self) -> Path:
        """The state folder, which need not exist."""
        return self._state

    @property
    def is_elsewhere(self) -> bool:
        """Whether the state is not in the project."""
        return self._state.parent != self._project.root

    @property
    def shown(self) -> str:
        """The state folder in messages: relative to the project, if it is there."""
        return str(self._state) if self.is_elsewhere else STATE_NAME

    @property
    def trials(self) -> str:
        """The folder of the output files of trials in messages."""
        return f"{self.shown}/simulated/trial" if self._offline else f"{self.shown}/trial"

    @property
    def unused_store(self) -> Path | None:
        """The store in the project that is not used, as the state is elsewhere, and still empty."""
        old = self._project.root / STATE_NAME / self._store.path.name
        is_unused = self.is_elsewhere and not os.path.lexists(self._store.path)
        return old if is_unused and os.path.lexists(old) else None

    def holder(self) -> Holder | None:
        """Return the process that holds the workspace now, None if none does. Raises `DiskError`.

        Its number is 0 if it left no note.
        """
        path = self._lock_path
        with disk_errors(path, "opened"):
            try:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_note(handle) or Holder(pid=0, since=0.0)
        finally:
            os.close(handle)
        return None

    def last_hold(self) -> int | None:
        """Return a number that differs once another process has held the workspace.

        It is None while one does, or if the last one was killed, and 0 if none ever did. Raises
        `DiskError`.
        """
        path = self._lock_path
        with disk_errors(path, "looked at"):
            try:
                return _last_end(path.lstat())
            except FileNotFoundError:
                return 0

    @property
    def is_tracked(self) -> bool:
        """Whether the state came with the repository, so that nothing in it is used."""
        return bool(self.tracked)

    def refuse_tracked(self) -> None:
        """Raise `UsageError` if git tracks some of the state.

        Nothing is stored there either: paid answers would then not be used.
        """
        if self.tracked:
            message = f"{tracked_words(self.tracked)}, and so is not used"
            raise UsageError(message, hint=TRUST)

    def check(self) -> None:
        """Check that the state has only real folders and plain files of the user's own.

        Then an answer can be stored. Raises `DiskError`.
        """
        allowed = owners(self._project.root)
        cache = self.cache_folder
        media = cache / "media"
        trial = self._folder / "trial"
        for folder in (self._state, self._state / "offline", self._folder, cache, trial):
            check_folder(folder, allowed)
        with disk_errors(cache, "looked at"):
            inner = list(cache.iterdir()) if cache.is_dir() else []
        for folder in (*inner, media / "urls", media / "files"):
            check_folder(folder, allowed)
        for file in (self._state / "lock", self._folder / "ledger.jsonl"):
            check_file(file, allowed)

    @property
    def store(self) -> StoreWriter:
        """The writer of the store; `hold` closes it at its end."""
        return self._store

    def answers(self, *, on_corrupt: Callable[[str], None]) -> Cache:
        """Return the stored answers: the real ones, or offline the simulated ones."""
        return Cache(
            self.cache_folder,
            self._store,
            on_corrupt=on_corrupt,
            is_used=not self.is_tracked,
            simulated=self._offline,
        )

    def history(self, warn: Callable[[str], None]) -> History:
        """Return the history; its runs are written through the store's writer."""
        return History(self.history_path, warn=warn, store=self._store)

    @property
    def cache_folder(self) -> Path:
        """The folder of media, and of answers of older versions."""
        return self._folder / "cache"

    @property
    def has_answers(self) -> bool:
        """Whether any answer is stored. Raises `DiskError`."""
        return self.answers(on_corrupt=ignore).has_any

    @property
    def history_path(self) -> Path:
        """The file with the runs: the store, in which simulated runs are marked.

        Until this version writes, it is the history of an older version.
        """
        old = self._state / "history.db"
        has_old_alone = old.exists() and not os.path.lexists(self._store.path)
        return old if has_old_alone else self._store.path

    def ledger(self) -> Ledger:
        """Return the ledger of this checkout; rows of a copy elsewhere do not count.

        State that a CI system restores at the same path counts.
        """
        place = sha256_of(os.fsencode(self._project.root.resolve()))[:16]
        old = self._folder / "ledger.jsonl"
        return Ledger(
            self._store,
            old=old if os.path.lexists(old) else None,
            place=place,
            is_used=not self.is_tracked,
            simulated=self._offline,
        )

    def output_tree(self) -> Project:
        """Return the folder for output files."""
        return Project(self._state / "offline") if self._offline else self._project

    def trial_tree(self, models: Mapping[str, str]) -> Project:
        """Return the folder for the output files of a trial of other models, given by alias."""
        named = ",".join(f"{alias}={name}" for alias, name in sorted(models.items()))
        safe = _UNSAFE.sub("-", named)[:_LONGEST].lstrip(".")
        name = safe if safe == named else f"{safe}-{sha256_of(named.encode())[:6]}"
        return Project(self._folder / "trial" / name)

    @contextlib.contextmanager
    def hold(
        self,
        *,
        wait: float = WAIT,
        clock: Clock = _SYSTEM_CLOCK,
        warn: Callable[[str], None] | None = None,
    ) -> Iterator[int]:
        """Keep other runs out until the block ends; the system releases the lock if we die.

        Yields what `last_hold` returned a moment before, -1 if the last process was killed. So it
        is another number than an earlier one unless no other process was at work since.

        First the files of an older version are moved into the store, and the store is opened: a
        damaged one is renamed, and its readable answers are copied. `warn` gets messages about
        that; without it the history of the run reports them.

        Raises `BusyError`, which names the holder of the workspace, after `wait` seconds.
        """
        with self._lock_file(warn) as (handle, is_new):
            with disk_errors(self._lock_path, "locked"):
                for _ in _attempts(handle, clock, wait):
                    clock.sleep(_PAUSE)
            with self._held(handle, clock, warn, is_new=is_new) as last:
                yield last

    @contextlib.asynccontextmanager
    async def ahold(
        self,
        *,
        wait: float = WAIT,
        clock: Clock = _SYSTEM_CLOCK,
        warn: Callable[[str], None] | None = None,
    ) -> AsyncIterator[int]:
        """Do what `hold` does in an event loop: others go on while this waits, or cancel it."""
        with self._lock_file(warn) as (handle, is_new):
            with disk_errors(self._lock_path, "locked"):
                for _ in _attempts(handle, clock, wait):
                    await clock.asleep(_PAUSE)
            with self._held(handle, clock, warn, is_new=is_new) as last:
                yield last

    @property
    def _lock_path(self) -> Path:
        return self._state / "lock"

    @contextlib.contextmanager
    def _lock_file(self, warn: Callable[[str], None] | None) -> Iterator[tuple[int, bool]]:
        """Open the lock file; yield its handle, and whether it is new."""
        self.refuse_tracked()
        self.check()
        self.prepare()
        is_new = not os.path.lexists(self._lock_path)
        with disk_errors(self._lock_path, "opened"):
            handle = os.open(self._lock_path, _LOCK, 0o600)
        try:
            yield handle, is_new
        finally:
            os.close(handle)
            self._report(warn)

    @contextlib.contextmanager
    def _held(
        self, handle: int, clock: Clock, warn: Callable[[str], None] | None, *, is_new: bool
    ) -> Iterator[int]:
        """Note who holds the workspace, and open the store, until the block ends."""
        with disk_errors(self._lock_path, "locked"):
            last = 0 if is_new else _last_end(os.fstat(handle)) or -1
        with _holder_note(handle, Holder(pid=os.getpid(), since=clock.now())):
            import_old_files(self._state, self._store)
            with opened_store(self._store):
                self._report(warn)
                yield last

    def _report(self, warn: Callable[[str], None] | None) -> None:
        """Pass on the messages of the store."""
        while warn is not None and self._store.messages:
            warn(self._store.messages.popleft())


def tracked_words(paths: Sequence[str]) -> str:
    """Describe the files of the state that git tracks."""
    rest = len(paths) - 1
    return f"git tracks {paths[0]}{f' and {rest:,} more' if rest else ''}"


def _attempts(handle: int, clock: Clock, wait: float) -> Iterator[None]:
    """Lock a file, and yield before each pause until that is possible. Raises `BusyError`."""
    deadline = clock.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() >= deadline:
                raise _busy(handle, clock.now()) from None
            yield
        else:
            return


@contextlib.contextmanager
def _holder_note(handle: int, holder: Holder) -> Iterator[None]:
    """Write who holds the workspace for waiting processes; remove it at the end.

    That leaves a new time of the file. It is only a note: a full disk does not stop a run.
    """
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, msgspec.json.encode(holder) + b"\n", 0)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.utime(handle)


def _last_end(status: os.stat_result) -> int | None:
    """Return when the last process that held a lock file ended, None if it left its note."""
    return None if status.st_size else status.st_mtime_ns


def _read_note(handle: int) -> Holder | None:
    """Return who wrote the note of a locked workspace, None if it cannot be read."""
    try:
        return msgspec.json.decode(os.pread(handle, 1024, 0), type=Holder)
    except (ValueError, RecursionError):
        return None


def _busy(handle: int, now: float) -> BusyError:
    holder = _read_note(handle)
    who = "another run"
    if holder is not None:
        who = f"another run (process {holder.pid}, for {max(0, now - holder.since):.0f} s)"
    return BusyError(f"{who} is at work in this project", hint="wait for it, or end it")
