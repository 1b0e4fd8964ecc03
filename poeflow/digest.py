"""Canonical JSON and the hashes made of it."""

import hashlib
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    Json = Any  # msgspec reads annotations at run time and takes no recursive alias


def canonical(value: object) -> bytes:
    """Encode as JSON with sorted keys and no spaces, so that equal values give equal bytes."""
    return msgspec.json.encode(value, order="sorted")


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_json(value: object) -> str:
    return sha256_of(canonical(value))
