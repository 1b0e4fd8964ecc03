"""Why an answer ended, in every spelling servers give it: the one list of what is known.

Names are compared without case, prefix and punctuation: `MAX_TOKENS`, `maxTokens` and
`FinishReason.MAX_TOKENS` are one.
"""

import re
from typing import Final

LENGTH: Final = "length"
FILTERED: Final = "content_filter"
NO_FINISH: Final = "no_finish"

GOOD: Final = frozenset(
    {"stop", "stop_sequence", "stop_token", "end_turn", "end", "endoftext", "eos", "eos_token"}
    | {"tool_calls", "tool_call", "tool_use", "function_call", "function_calls"}
    | {"complete", "completed", "done", "finish", "finished", "normal"}
)
"""The answer is whole."""

CUT: Final = frozenset(
    {LENGTH, "max_length", "model_length", "context_length", "context_length_exceeded"}
    | {"max_tokens", "max_output_tokens", "max_new_tokens", "max_completion_tokens"}
    | {"limit", "token_limit", "error_limit", "time_limit", "not_finished"}
    | {"model_context_window_exceeded", "context_window_exceeded"}
)
"""It ran into a limit."""

STOPPED: Final = frozenset(
    {FILTERED, "content_filtered", "content_filtering", "filtered", "moderation", "blocked"}
    | {"safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive"}
    | {"image_safety", "image_prohibited_content", "image_recitation", "error_toxic"}
    | {"guardrail_intervened", "refusal"}
)
"""Somebody's rules ended it."""

FAILED: Final = frozenset(
    {"error", "network_error", "server_error", "internal_error", "insufficient_system_resource"}
)
"""The server failed: asking again may help."""

_CAPITAL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_BETWEEN: Final = re.compile(r"[^a-z0-9]+")


def plain_name(reason: str) -> str:
    """Return a reason in lower case, words joined by `_`, without what its API puts in front."""
    name = _CAPITAL.sub("_", reason.rpartition(".")[2]).lower()
    name = _BETWEEN.sub("_", name).strip("_")
    return name.removeprefix("finish_reason_").removeprefix("stop_reason_")


def doubt_in(reason: str | None) -> str | None:
    """Return what makes an answer doubtful that ended so: one of the names above, or its own.

    None where it is known to be whole. A reason nobody knows is no such thing.
    """
    name = plain_name(reason or "")
    if not name:
        return NO_FINISH
    if name in GOOD:
        return None
    if name in CUT:
        return LENGTH
    return FILTERED if name in STOPPED else name


def is_failure(reason: str | None) -> bool:
    """Whether a server says so that it failed."""
    return plain_name(reason or "") in FAILED
