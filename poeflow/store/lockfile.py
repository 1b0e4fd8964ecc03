"""The lock beside a flow: what the last real run made, in hashes, for git to review and merge."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from poeflow.errors import DiskError, StaleError
from poeflow.files import atomic_write
from poeflow.store.folders import disk_errors

VERSION: Final = 1
MAX_BYTES: Final = 256 * 1024 * 1024
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_CONFLICT: Final = re.compile(rb"^(<{7} |={7}$|>{7} )", re.MULTILINE)


class Block(
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


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run made. `inputs` is the hash of what it was given."""

    poeflow_lock: Literal[1] = VERSION
    inputs: Hash
    instances: dict[str, Block]


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
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            raise DiskError(f"{self.shown}: {reason}", hint="check its permissions") from None
        if _CONFLICT.search(data):
            message = f"{self.shown} holds the marks of a merge"
            raise StaleError(
                message, hint="run the flow: it takes what is cached and writes it anew"
            )
        try:
            return msgspec.json.decode(data, type=Lock)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            message = f"{self.shown} is no lock this version reads: {error}"
            raise StaleError(message, hint="run the flow to write it anew") from None

    def write(self, lock: Lock) -> None:
        """Replace the lock, instances sorted; one that is the same is left alone.

        Raises `DiskError`.
        """
        ordered = msgspec.structs.replace(lock, instances=_sorted(lock.instances))
        data = msgspec.json.format(msgspec.json.encode(ordered), indent=1)
        with disk_errors(self._path.parent, "made"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self._path, data + b"\n")


def _sorted(instances: Mapping[str, Block]) -> dict[str, Block]:
    return {
        name: msgspec.structs.replace(
            block,
            parts=dict(sorted(block.parts.items())),
            outputs=dict(sorted(block.outputs.items())),
            usage=dict(sorted(block.usage.items())),
        )
        for name, block in sorted(instances.items())
    }
