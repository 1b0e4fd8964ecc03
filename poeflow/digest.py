"""JSON in and out, its canonical form, and the hashes made of it."""

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    Json = Any  # msgspec reads annotations at run time and takes no recursive alias

_UNUSUAL = (msgspec.DecodeError, UnicodeDecodeError)


class KeyTwiceError(ValueError):
    """A key is in one object twice, and nobody can tell which value is meant."""


class TooDeepError(ValueError, RecursionError):
    """JSON is nested deeper than it can be read."""


def canonical(value: object) -> bytes:
    """Encode as JSON with sorted keys and no spaces, so that equal values give equal bytes."""
    try:
        return msgspec.json.encode(value, order="sorted")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell only as an escape
        plain = msgspec.to_builtins(value)
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def encode_json(value: object) -> bytes:
    """Encode as JSON, keys in their own order, lone surrogates escaped."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()


def decode_json(data: bytes) -> Json:
    """Decode JSON from outside. Lone surrogates survive. Raises `ValueError`."""
    decoded: Json
    try:
        try:
            decoded = msgspec.json.decode(data)
        except _UNUSUAL:
            decoded = json.loads(data.decode("utf-8", "replace"), parse_constant=_refuse)
    except RecursionError:
        raise TooDeepError("it is nested too deep") from None
    return decoded


def check_keys(text: str, start: int = 0) -> int:
    """Check that no object in the JSON value at `start` has a key twice. Return where it ends.

    Raises `KeyTwiceError`, and `ValueError` where it is not JSON.
    """
    return _KEYS.raw_decode(text, start)[1]


def _each_once(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise KeyTwiceError(f'the key "{twice[:80]}" is here twice')


_KEYS: Final = json.JSONDecoder(object_pairs_hook=_each_once, parse_int=len, parse_float=len)
"""Keeps no values: numbers of any length will do."""


def with_whole_characters(value: Json) -> Json:
    """Return JSON in which two halves of a character are one, and a half alone is U+FFFD.

    Streams are cut within a character's escapes; only what was put together can be mended.
    """
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return _mended(value)
    return value


def _mended(value: Json) -> Json:
    match value:
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case list():
            return [_mended(one) for one in value]
        case dict():
            return {str(_mended(key)): _mended(one) for key, one in value.items()}
        case _:
            return value


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_json(value: object) -> str:
    return sha256_of(canonical(value))


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
