"""The lock beside a flow: what the last real run made, in hashes, for git to review and merge."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from poeflow.errors import DiskError, StaleError
from poeflow.opener import UnusableFileError, read_plain
from poeflow.project.conflicts import has_marks, sides
from poeflow.project.project import atomic_write
from poeflow.store.folders import disk_errors

VERSION: Final = 1
MAX_BYTES: Final = 256 * 1024 * 1024
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_MARK: Final = re.compile(rb"^(<{7}|={7}|>{7})", re.MULTILINE)


class Accepted(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A file that a person edited and accepted as an instance's text.

    `written`, `text` and `result` are the hashes that poeflow's own file and answer had, None if
    there was none.
    """

    path: str
    written: Hash | None = None
    text: Hash | None = None
    result: Hash | None = None


class LockEntry(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What an instance made; the keys are told in `schemas/lock.schema.json`."""

    status: Literal["ok", "skipped"]
    recipe: Hash
    request: Hash | None = None
    server: str = ""
    parts: dict[str, str] = {}
    result: Hash | None = None
    extras: Hash | None = None
    text: Hash | None = None
    outputs: dict[str, Hash] = {}
    untracked: bool = False
    usage: dict[str, int] = {}
    answered_by: str | None = None
    warnings: list[str] = []
    accepted: Accepted | None = None


class Lock(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a run made. `inputs` is the hash of what it was given.

    `orphans` are files that earlier runs wrote and no step writes any more, with their hashes.
    """

    poeflow_lock: Literal[1]
    inputs: Hash
    instances: dict[str, LockEntry]
    orphans: dict[str, Hash] = {}


class _Version(msgspec.Struct):
    poeflow_lock: int = 0


class NewerLockError(StaleError):
    """A lock was written by a newer poeflow; this one leaves it alone."""


_RUN: Final = "run the flow: it takes what either side has, and writes the lock anew"


class LockFile:
    """The lock of one flow at `path`, called `shown` in messages."""

    def __init__(self, path: Path, *, shown: str) -> None:
        self._path = path
        self.shown = shown

    def read(self) -> Lock | None:
        """Return the lock, None where there is none.

        Raises `StaleError` where it cannot be used: cut short, of another version, or with the
        marks of a merge that was not resolved.
        """
        found = self.sides()
        if len(found) > 1:
            raise StaleError(f"{self.shown} holds the marks of a merge", hint=_RUN)
        return found[0] if found else None

    def sides(self) -> tuple[Lock, ...]:
        """Return the lock, or both sides of it while a merge is not resolved; none if not there.

        Raises `StaleError` if it cannot be used, as `NewerLockError` if it is of a newer format.
        """
        try:
            data = read_plain(self._path, limit=MAX_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except UnusableFileError as error:
            hint = "remove it, then run the flow to write it anew"
            raise StaleError(f"{self.shown} {error.strerror}", hint=hint) from None
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            raise DiskError(f"{self.shown}: {reason}", hint="check its permissions") from None
        if not _MARK.search(data):
            return (self._decoded(data),)
        try:
            found = tuple(self._decoded(side) for side in sides(data) if side.strip())
        except NewerLockError:
            raise
        except StaleError:
            found = ()
        if not has_marks(data) or not found:
            message = f"{self.shown} holds the marks of a merge, and neither side can be read"
            raise StaleError(message, hint="take one side with git, then run the flow")
        return found if len(found) > 1 else found * 2

    def _decoded(self, data: bytes) -> Lock:
        """Return the lock that a text holds. Raises `StaleError`."""
        try:
            version = msgspec.json.decode(data, type=_Version).poeflow_lock
            if version > VERSION:
                message = f"{self.shown} has the format {version} of a newer poeflow"
                raise NewerLockError(message, hint="update poeflow")
            return msgspec.json.decode(data, type=Lock)
        except (ValueError, RecursionError) as error:
            message = f"{self.shown} is no lock this version reads: {_reason(error)}"
            raise StaleError(message, hint="run the flow to write it anew") from None

    def write(self, lock: Lock) -> None:
        """Replace the lock, instances sorted; one that is the same is left alone.

        Raises `DiskError`.
        """
        ordered = msgspec.structs.replace(
            lock,
            instances=_sorted(lock.instances),
            orphans=dict(sorted(lock.orphans.items())),
        )
        data = msgspec.json.format(msgspec.json.encode(ordered), indent=1)
        with disk_errors(self._path.parent, "made"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self._path, data + b"\n")


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _sorted(instances: Mapping[str, LockEntry]) -> dict[str, LockEntry]:
    return {
        name: msgspec.structs.replace(
            block,
            parts=dict(sorted(block.parts.items())),
            outputs=dict(sorted(block.outputs.items())),
            usage=dict(sorted(block.usage.items())),
        )
        for name, block in sorted(instances.items())
    }
