"""Encodes, decodes and hashes JSON."""

import binascii
import functools
import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from poeflow.lazy_pattern import lazy_pattern

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    Json = Any  # msgspec reads annotations at run time and takes no recursive alias

_HALF: Final = lazy_pattern("[\ud800-\udfff]")
_UNUSUAL = (msgspec.DecodeError, UnicodeDecodeError)


class KeyTwiceError(ValueError):
    """An object has a key twice, so that its value is ambiguous."""


class TooDeepError(ValueError, RecursionError):
    """JSON is nested deeper than it can be read."""


def canonical(value: object) -> bytes:
    """Encode as JSON with sorted keys and no spaces, so that equal values give equal bytes."""
    try:
        return msgspec.json.encode(value, order="sorted")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can express only as an escape
        plain = msgspec.to_builtins(value)
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def encode_json(value: object) -> bytes:
    """Encode as JSON, keys in their own order, lone surrogates escaped."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()


def decode_json(data: bytes) -> Json:
    """Decode JSON, keeping lone surrogates. Raises `ValueError`."""
    decoded: Json
    try:
        try:
            decoded = msgspec.json.decode(data)
        except _UNUSUAL:
            decoded = json.loads(data.decode("utf-8", "replace"), parse_constant=_refuse)
    except RecursionError:
        raise TooDeepError("it is nested too deep") from None
    return decoded


def check_json_keys(text: str, start: int = 0) -> int:
    """Check that no object in the JSON value at `start` has a key twice; return the value's end.

    Raises `KeyTwiceError`, and `ValueError` if it is not JSON.
    """
    return _KEYS.raw_decode(text, start)[1]


def _each_once(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise KeyTwiceError(f'the key "{twice[:80]}" is here twice')


_KEYS: Final = json.JSONDecoder(object_pairs_hook=_each_once, parse_int=len, parse_float=len)
"""It does not convert numbers, so they may have any length."""


def with_whole_characters(value: Json) -> Json:
    """Return JSON with surrogate pairs joined and lone surrogates replaced by U+FFFD.

    Streams may be split within the escapes of a character; only the joined text can be corrected.
    """
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return mended(value)
    return value


def mended(value: Json) -> Json:
    """Return the same as `with_whole_characters`: slower, but without a copy of a long text."""
    match value:
        case str() if _HALF.search(value) is None:
            return value
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case list():
            return [mended(one) for one in value]
        case dict():
            return {str(mended(key)): mended(one) for key, one in value.items()}
        case _:
            return value


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_json(value: object) -> str:
    return sha256_of(canonical(value))


@functools.lru_cache(maxsize=1024)  # the key of an instance is hashed again while it runs
def sha256_of_key(key: str) -> str:
    """Return the hash of the key of an instance, which is that of the key as JSON."""
    return sha256_of_json(key)


SHORT: Final = 22
"""Characters of a short hash."""
PREFIX: Final = 32
"""Hexadecimal digits that a short hash stands for."""
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")


def short_hash(digest: str) -> str:
    """Return the first 128 bits of a SHA-256 as 22 characters, of base64 without `+` and `/`.

    That is a third less than in hexadecimal digits. A hash that is short already stays as it is.
    """
    if len(digest) == SHORT:
        return digest
    return _shortened(bytes.fromhex(digest[:PREFIX]))


def short_hash_of(data: bytes) -> str:
    """Return the short hash of data."""
    return _shortened(hashlib.sha256(data).digest()[: PREFIX // 2])


def _shortened(digest: bytes) -> str:
    data = binascii.b2a_base64(digest, newline=False)
    return data.translate(_TO_URL)[:SHORT].decode()


def hash_prefix(short: str) -> str:
    """Return the hexadecimal digits that the hash begins with which a short one stands for."""
    return hash_beginning(short).hex()


def hash_beginning(short: str) -> bytes:
    """Return the bytes that the hash begins with which a short one stands for."""
    return binascii.a2b_base64(short.encode().translate(_FROM_URL) + b"==")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
