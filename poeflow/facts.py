"""How instances stand: what a plan says of each, and why."""

from typing import Literal

import msgspec

from poeflow.digest import Json

Standing = Literal["fresh", "new", "stale", "missing", "edited", "unknown", "skipped"]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """How one instance stands.

    `reasons` are all there are. `calls` is how many requests a run would send for it at least,
    `model` whom it would ask, `request` what it would send, attachments as hashes; None where that
    is not known before another step has run.
    """

    id: str
    state: Standing
    reasons: tuple[str, ...] = ()
    calls: int = 0
    model: str | None = None
    request: dict[str, Json] | None = None

    @property
    def is_current(self) -> bool:
        """Whether a run would change nothing."""
        return self.state in ("fresh", "skipped")
