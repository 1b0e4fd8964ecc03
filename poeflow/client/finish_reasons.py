"""The known finish reasons of answers, in all spellings of servers.

Names are compared without case, prefix and punctuation: `MAX_TOKENS`, `maxTokens` and
`FinishReason.MAX_TOKENS` are the same.
"""

from typing import Final

from poeflow.lazy_pattern import lazy_pattern

LENGTH: Final = "length"
FILTERED: Final = "content_filter"
NO_FINISH: Final = "no_finish"

GOOD: Final = frozenset(
    {"stop", "stop_sequence", "stop_token", "end_turn", "end", "endoftext", "eos", "eos_token"}
    | {"tool_calls", "tool_call", "tool_use", "function_call", "function_calls"}
    | {"complete", "completed", "done", "finish", "finished", "normal"}
)
"""The answer is complete."""

CUT: Final = frozenset(
    {LENGTH, "max_length", "model_length", "context_length", "context_length_exceeded"}
    | {"max_tokens", "max_output_tokens", "max_new_tokens", "max_completion_tokens"}
    | {"limit", "token_limit", "error_limit", "time_limit", "not_finished"}
    | {"model_context_window_exceeded", "context_window_exceeded"}
)
"""The answer was cut at a limit."""

STOPPED: Final = frozenset(
    {FILTERED, "content_filtered", "content_filtering", "filtered", "moderation", "blocked"}
    | {"safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive"}
    | {"image_safety", "image_prohibited_content", "image_recitation", "error_toxic"}
    | {"guardrail_intervened", "refusal"}
)
"""A content filter ended the answer."""

FAILED: Final = frozenset(
    {"error", "network_error", "server_error", "internal_error", "insufficient_system_resource"}
)
"""The server failed; a retry may help."""

_CAPITAL: Final = lazy_pattern(r"(?<=[a-z])(?=[A-Z])")
_BETWEEN: Final = lazy_pattern(r"[^a-z0-9]+")


def plain_name(reason: str) -> str:
    """Return a reason in lower case, words joined by `_`, without an API's prefix."""
    name = _CAPITAL.sub("_", reason.rpartition(".")[2]).lower()
    name = _BETWEEN.sub("_", name).strip("_")
    return name.removeprefix("finish_reason_").removeprefix("stop_reason_")


def doubt_in(reason: str | None) -> str | None:
    """Return the flag for a finish reason: one of the names above, or its own name if unknown.

    None if the answer is known to be complete.
    """
    if reason in GOOD:  # as almost every answer has it
        return None
    name = plain_name(reason or "")
    if not name:
        return NO_FINISH
    if name in GOOD:
        return None
    if name in CUT:
        return LENGTH
    return FILTERED if name in STOPPED else name


def is_failure(reason: str | None) -> bool:
    """Return whether a finish reason means that the server failed."""
    return reason not in GOOD and plain_name(reason or "") in FAILED
