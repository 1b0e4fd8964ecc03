"""The entry of one instance in the lock: hashes, and a few words for its reviewers."""

from typing import Annotated, Final, Literal

import msgspec

from poeflow.digest import short_hash, short_hash_or_none

PART: Final = 8
"""Hexadecimal digits of a part's hash: enough to say what changed; the recipe's hash decides."""
Hash = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]
"""A short hash: see `digest.short_hash`."""
LongHash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Accepted(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A file that was edited and accepted as an instance's text.

    `written`, `text` and `result` are the hashes of what poeflow wrote, None if it wrote nothing.
    """

    path: str
    written: Hash | None = None
    text: Hash | None = None
    result: Hash | None = None

    def with_short_hashes(self) -> "Accepted":
        """Return the same with its hashes in their short form."""
        return Accepted(
            path=self.path,
            written=short_hash_or_none(self.written),
            text=short_hash_or_none(self.text),
            result=short_hash_or_none(self.result),
        )


class Before(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The long hashes of an instance in a lock of version 1.

    Instances that read this one have recipes made of them. `recipe` is None once the instance has
    a recipe of version 2.
    """

    recipe: LongHash | None = None
    request: LongHash | None = None
    result: LongHash | None = None
    extras: LongHash | None = None
    text: LongHash | None = None


class LockEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance made, in short hashes; `schemas/lock.schema.json` describes the keys.

    `parts` has the beginning of the hash of each part of the recipe. `model` is the model that was
    asked, `served` the name by which its server said that it answered, if that is another one, and
    `because` names the steps whose results are used. `conversation` is set if others continue it
    and it is more than the request and the text.
    """

    status: Literal["ok", "skipped"]
    recipe: str
    request: str | None = None
    server: str = ""
    model: str = ""
    served: str = ""
    because: tuple[str, ...] = ()
    parts: dict[str, str] = {}
    result: str | None = None
    extras: str | None = None
    text: str | None = None
    conversation: str | None = None
    outputs: dict[str, str] = {}
    untracked: bool = False
    answered_by: str | None = None
    warnings: list[str] = []
    accepted: Accepted | None = None
    before: Before | None = None

    def is_of(self, fingerprint: str) -> bool:
        """Whether its first request is the one with a fingerprint."""
        return self.request is not None and self.request == short_hash(fingerprint)
