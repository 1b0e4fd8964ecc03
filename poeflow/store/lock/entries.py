"""The entry of one instance in the lock: hashes, words for its reviewers, what model answered."""

import functools
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from poeflow.bots import is_snapshot
from poeflow.digest import short_hash, short_hash_or_none
from poeflow.redact import visible

PART: Final = 8
"""Hexadecimal digits of a part's hash: enough to say what changed; the recipe's hash decides."""
Hash = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]
"""A short hash: see `digest.short_hash`."""
LongHash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


_READ: Final = ("file ", "glob ", "reads ", "outputs ")
LockStatus = Literal["ok", "skipped", "empty"]
"""`skipped` by its own `if`; `empty` is a loop over what a step gives, which had no items."""


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

    status: LockStatus
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


class AnswerNames(NamedTuple):
    """The model that was `asked`, the name that answered, and the one before if it is another."""

    asked: str
    by: str
    before: str = ""


def other_names(entry: LockEntry, old: LockEntry | None) -> AnswerNames | None:
    """Return by which name a model answered, if it is another than was asked, or than last time.

    `old` is the entry of last time, which counts if the same model was asked. A name with a date is
    one of the asked model, and counts only when the date changes. A fallback model is another name.
    """
    now = entry.answered_by or entry.served
    last = ""
    if old is not None and old.model == entry.model:
        last = old.answered_by or old.served
    if last not in ("", now):
        return AnswerNames(entry.model, visible(now) or entry.model, visible(last))
    if not now or last or other_model(entry) is None:
        return None
    return AnswerNames(entry.model, visible(now))


def served_otherwise(entry: LockEntry, old: LockEntry | None) -> str:
    """Say that a model answered by another name than was asked, or than last time; else empty.

    That a fallback model is asked has been said when it was.
    """
    names = other_names(entry, old)
    if names is None or entry.answered_by is not None:
        return ""
    if names.before:
        return f"{names.asked} answered as {names.by}, last time as {names.before}"
    return f"asked {names.asked}, answered by {names.by}"


def other_model(entry: LockEntry) -> str | None:
    """Return the model that answered, None if it is the one that was asked, or a date of it."""
    return entry.answered_by or _other_served(entry.served, entry.model)


@functools.lru_cache(maxsize=256)  # the instances of a step are mostly answered by one model
def _other_served(served: str, model: str) -> str | None:
    """Return the name by which a server answered, None if it is that of the model, or a date."""
    return visible(served) if served and not is_snapshot(served, model) else None


def is_same_result(entry: LockEntry | None, old: LockEntry | None) -> bool:
    """Whether other steps see the same of two entries; none of them is like another without."""
    if entry is None or old is None:
        return entry is old
    return (entry.status, entry.result, entry.extras) == (old.status, old.result, old.extras)


def with_path(entry: LockEntry, then: str, now: str) -> LockEntry:
    """Return an entry whose file at `then` is at `now`."""
    outputs = {now if path == then else path: one for path, one in entry.outputs.items()}
    return msgspec.structs.replace(entry, outputs=outputs)


def reads_in(entry: LockEntry) -> tuple[str, ...]:
    """Return the parts of an entry for what its templates, its command or its outputs read."""
    return _reads_among(tuple(entry.parts))


@functools.lru_cache(maxsize=256)  # the instances of a loop mostly have parts of the same names
def _reads_among(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in parts if name.startswith(_READ))
