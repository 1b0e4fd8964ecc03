"""What one step came to: the values templates see as `steps.ID`."""

from typing import Literal

import msgspec

from poeflow.client.answers import Completion
from poeflow.digest import Json

Source = Literal["asked", "cached", "rendered"]


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a step that succeeded. `fingerprint` is None for a render step."""

    text: str
    source: Source
    data: Json = None
    completion: Completion | None = None
    fingerprint: str | None = None

    def values(self) -> dict[str, Json]:
        """Return what templates see; plain data only."""
        completion = self.completion
        usage = completion.usage if completion is not None else None
        return {
            "text": self.text,
            "data": self.data,
            "media": [],
            "reasoning": completion.reasoning if completion else "",
            "tool_calls": [dict(call.raw) for call in completion.tool_calls] if completion else [],
            "usage": None if usage is None else dict(usage.raw),
            "model": completion.model if completion else None,
            "outputs": {},
            "status": "ok",
        }
