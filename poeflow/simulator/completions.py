"""Encodes an answer as the API's JSON, whole or in chunks, in one of two observed profiles.

In `legacy`, from the API's translator, optional keys are absent and tokens are estimates. In
`strict`, passed through, optional keys are null and the model is the provider's snapshot.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.simulator.chat_request import CompletionRequest, tokens_in
from poeflow.simulator.faults import Profile
from poeflow.simulator.http_messages import SSE_TYPE, Reply, Segment, encoded, event, in_json
from poeflow.simulator.made_up_answers import MadeUpAnswer, pieces

_CALL_ID_DIGITS: Final = 24


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The data that all parts of one answer share: request, time and profile."""

    request: CompletionRequest
    answer: MadeUpAnswer
    profile: Profile
    created: int

    @property
    def id(self) -> str:
        digits = self.request.seed
        if self.profile == "legacy":
            return f"chatcmpl-{digits[:24]}"
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32])
        return f"chatcmpl-{'-'.join(parts)}"

    @property
    def model(self) -> str:
        """The requested name; in the strict profile the provider's snapshot."""
        if self.profile == "legacy":
            return self.request.model
        return f"{self.request.bot.id}-{datetime.fromtimestamp(self.created, UTC):%Y}-01-15"


def completion_reply(envelope: Envelope) -> Reply:
    """Return the reply with an answer, streamed if requested."""
    if not envelope.request.is_streamed:
        return in_json(200, completion_body(envelope))
    segments = [Segment(event(encoded(chunk))) for chunk in chunks(envelope)]
    headers = (SSE_TYPE, ("cache-control", "no-cache"))
    return Reply(status=200, headers=headers, segments=(*segments, Segment(event(b"[DONE]"))))


def completion_body(envelope: Envelope) -> dict[str, Json]:
    """Return the body of an unstreamed answer."""
    choice: dict[str, Json] = {
        "index": 0,
        "message": _message(envelope),
        "finish_reason": envelope.answer.finish_reason,
    }
    body = _around(envelope, "chat.completion", [choice])
    return body | {"usage": _usage(envelope)}


def chunks(envelope: Envelope) -> Iterator[dict[str, Json]]:
    """Yield the chunks of a streamed answer: the role, the parts, the finish, the usage."""
    answer = envelope.answer
    yield _chunk(envelope, {"role": "assistant", "content": ""})
    for piece in pieces(answer.reasoning):
        yield _chunk(envelope, _reasoning(piece, envelope.profile))
    for piece in [answer.text] if answer.is_media else pieces(answer.text):
        yield _chunk(envelope, {"content": piece})
    deltas = list(_call_deltas(envelope))
    # The translator was observed to end with the last piece of a tool call, not in a new chunk.
    last = deltas.pop() if deltas and envelope.profile == "legacy" else {}
    for delta in deltas:
        yield _chunk(envelope, delta)
    yield _chunk(envelope, last, finish_reason=answer.finish_reason)
    if envelope.request.wants_usage:
        body = _around(envelope, "chat.completion.chunk", [])
        yield body | {"usage": _usage(envelope)}


def _message(envelope: Envelope) -> dict[str, Json]:
    answer, is_legacy = envelope.answer, envelope.profile == "legacy"
    calls: list[Json] = [_call(envelope, index) for index in range(len(answer.tool_calls))]
    content = answer.text if answer.text or is_legacy or not calls else None
    message: dict[str, Json] = {"role": "assistant", "content": content}
    if answer.reasoning:
        message |= _reasoning(answer.reasoning, envelope.profile)
    if calls or not is_legacy:
        message["tool_calls"] = calls or None
    if not is_legacy:
        message |= {"function_call": None, "annotations": [], "provider_specific_fields": None}
        message |= {"images": None, "thinking_blocks": None}
    return message


def _around(envelope: Envelope, kind: str, choices: list[Json]) -> dict[str, Json]:
    body: dict[str, Json] = {
        "id": envelope.id,
        "object": kind,
        "created": envelope.created,
        "model": envelope.model,
        "choices": choices,
    }
    if envelope.profile == "strict":
        body |= {"system_fingerprint": None, "service_tier": "default"}
    return body


def _chunk(
    envelope: Envelope, delta: dict[str, Json], *, finish_reason: str | None = None
) -> dict[str, Json]:
    choice: dict[str, Json] = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = _around(envelope, "chat.completion.chunk", [choice])
    has_usage = envelope.profile == "strict" and envelope.request.wants_usage
    return body | {"usage": None} if has_usage else body


def _reasoning(text: str, profile: Profile) -> dict[str, Json]:
    both: dict[str, Json] = {"reasoning_content": text}
    return both | {"reasoning": text} if profile == "legacy" else both


def _call(envelope: Envelope, index: int) -> dict[str, Json]:
    call = envelope.answer.tool_calls[index]
    digits = envelope.request.seed[index : index + _CALL_ID_DIGITS]
    body: dict[str, Json] = {
        "id": f"call_{digits}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
    request = envelope.request
    if request.bot.id.startswith("gemini"):
        body["extra_content"] = {"google": {"thought_signature": request.seed[:32]}}
    return body


def _call_deltas(envelope: Envelope) -> Iterator[dict[str, Json]]:
    """Yield the pieces of tool calls: name and id first, then the arguments in pieces."""
    for index, call in enumerate(envelope.answer.tool_calls):
        whole = _call(envelope, index) | {"function": {"name": call.name, "arguments": ""}}
        yield {"tool_calls": [{"index": index, **whole}]}
        for piece in pieces(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _usage(envelope: Envelope) -> Json:
    """Return the token counts: an estimate as in legacy, or with the provider's details."""
    request, answer = envelope.request, envelope.answer
    prompt, completion = request.prompt_tokens, answer.tokens
    if envelope.profile == "legacy":
        return _counts(prompt, completion)
    reasoning = tokens_in(answer.reasoning)
    called = sum(tokens_in(call.name + call.arguments) for call in answer.tool_calls)
    offered = sum(tokens_in(str(tool.parameters)) for tool in request.tools)
    return {
        **_counts(prompt + offered, completion + reasoning + called),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": None},
    }


def _counts(prompt: int, completion: int) -> dict[str, Json]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
