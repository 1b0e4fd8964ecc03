"""Canonical JSON and the hashes made of it."""

import hashlib
from typing import TypeAlias

import msgspec

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


def canonical(value: object) -> bytes:
    """Encode as JSON with sorted keys and no spaces, so that equal values give equal bytes."""
    return msgspec.json.encode(value, order="sorted")


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_json(value: object) -> str:
    return sha256_of(canonical(value))
