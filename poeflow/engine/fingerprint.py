"""A request's identity: the hash of exactly what would be sent, and of nothing else."""

from typing import Final

import msgspec

from poeflow.client.messages import ChatRequest, DataUrl
from poeflow.digest import Json, sha256_of, sha256_of_json

VERSION: Final = 1
_NOT_IDENTITY: Final = frozenset({"stream", "stream_options"})


def fingerprint(request: ChatRequest, *, provider: str, sample: int = 0) -> str:
    """Return the sha256 of the canonical identity of a request."""
    return sha256_of_json(identity(request, provider=provider, sample=sample))


def identity(request: ChatRequest, *, provider: str, sample: int = 0) -> dict[str, Json]:
    """Return what makes a request the one it is, as plain data.

    `provider` is its name, or its origin where the base URL was overridden. Attachments count by
    media type and bytes; whether the answer streams does not count. The first of several samples
    is the request itself.
    """
    body = {k: v for k, v in request.body(_by_hash).items() if k not in _NOT_IDENTITY}
    whole: dict[str, object] = {"version": VERSION, "provider": provider, "body": body}
    if sample:
        whole["sample"] = sample
    plain: dict[str, Json] = msgspec.to_builtins(whole)
    return plain


def _by_hash(url: DataUrl) -> str:
    return f"data:{url.media_type};sha256,{sha256_of(url.data)}"
