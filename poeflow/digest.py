"""Encodes, decodes and hashes JSON."""

import binascii
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    Json = Any  # msgspec reads annotations at run time and takes no recursive alias

_HALF: Final = "[\ud800-\udfff]"
_UNUSUAL = (msgspec.DecodeError, UnicodeDecodeError)
LONG: Final = 256 * 1024
"""Characters of a text from which on it is encoded in slices, of this length."""
_DEEPEST: Final = 5
"""How deep a text may be that is encoded in slices: that of an answer is four below the top."""
_MOST: Final = 128
"""Items of an object or array above which it is not searched for such a text."""


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


def json_pieces(value: object) -> Iterable[bytes]:
    """Return what `encode_json` returns, in pieces; they may be iterated more than once.

    A long text is encoded in slices each time, so no copy of it is made. Lone surrogates are
    escaped slice by slice.
    """
    return _SlicedJson(value) if _holds_long(value) else (encode_json(value),)


class _SlicedJson:
    """The JSON of a value with a long text."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __iter__(self) -> Iterator[bytes]:
        return _sliced(self._value, encode_json)


def _sliced(value: object, encode: Callable[[object], bytes]) -> Iterator[bytes]:
    if not _holds_long(value):
        yield encode(value)
    elif isinstance(value, str):
        yield b'"'
        yield from (encode(one)[1:-1] for one in _slices(value))
        yield b'"'
    elif isinstance(value, dict):
        for number, key in enumerate(sorted(value) if encode is canonical else value):
            yield (b"," if number else b"{") + encode(key) + b":"
            yield from _sliced(value[key], encode)
        yield b"}"
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield b"," if number else b"["
            yield from _sliced(one, encode)
        yield b"]"


def _holds_long(value: object) -> bool:
    """Whether a text in plain data is so long that it is encoded in slices.

    Level by level, as fast as can be: every answer is looked through, and few are long.
    """
    level = [value]
    for _ in range(_DEEPEST + 1):
        below: list[object] = []
        for one in level:
            if type(one) is str:
                if len(one) > LONG:
                    return True
            elif type(one) is dict:
                below += one.values() if len(one) <= _MOST else ()
            elif type(one) is list:
                below += one if len(one) <= _MOST else ()
        if not below:
            return False
        level = below
    return False


def _slices(text: str) -> Iterator[str]:
    return (text[at : at + LONG] for at in range(0, len(text), LONG))


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


_ESCAPE: Final = r"\\(u[0-9a-fA-F]{4}|.)"
_HALVES: Final = (range(0xD800, 0xDC00), range(0xDC00, 0xE000))


def half_escaped(text: str) -> tuple[str, int] | None:
    r"""Return the escape of half a character in JSON, as `\ud83d`, and its offset.

    None if it has no such half, or if something else is wrong, too.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    first, second = _HALVES
    open_at, end = -1, 0
    for found in re.finditer(_ESCAPE, text):
        code = int(found[1][1:], 16) if len(found[1]) > 1 else 0
        if open_at >= 0 and (found.start() != end or code not in second):
            break
        if open_at < 0 and code in second:
            open_at = found.start()
            break
        open_at, end = (found.start() if code in first else -1), found.end()
    if open_at < 0:
        return None
    return text[open_at : open_at + 6], open_at


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
        case str() if re.search(_HALF, value) is None:
            return value
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case list():
            return [mended(one) for one in value]
        case dict():
            return {str(mended(key)): mended(one) for key, one in value.items()}
        case _:
            return value


def without_nulls(document: Mapping[str, Json]) -> dict[str, Json]:
    """Return a copy of an object without the keys that are null, in all its objects."""
    return {name: _pruned(value) for name, value in document.items() if value is not None}


def _pruned(value: Json) -> Json:
    if isinstance(value, list):
        return [_pruned(one) for one in value]
    return without_nulls(value) if isinstance(value, dict) else value


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the hash of a text in UTF-8, half a surrogate pair as `?`; no copy of it is made."""
    made = hashlib.sha256()
    for one in _slices(text):
        made.update(one.encode("utf-8", "replace"))
    return made.hexdigest()


def sha256_of_json(value: object) -> str:
    """Return the hash of the canonical JSON of a value; no copy of a long text in it is made."""
    if not _holds_long(value):
        return sha256_of(canonical(value))
    made = hashlib.sha256()
    for piece in _sliced(value, canonical):
        made.update(piece)
    return made.hexdigest()


def key_text(value: Json) -> str:
    """Return the key of an item: a text or number itself, else 12 digits of its hash."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return sha256_of_json(value)[:_KEY_DIGITS]
    return encode_json(value).decode()


@functools.lru_cache(maxsize=1024)  # the key of an instance is hashed again while it runs
def sha256_of_key(key: str) -> str:
    """Return the hash of the key of an instance, which is that of the key as JSON."""
    return sha256_of(canonical(key))


_KEY_DIGITS: Final = 12
"""Hexadecimal digits of a hash that is the key of an item."""
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


def in_hexadecimal(digest: str) -> str:
    """Return a hash in hexadecimal digits, of a short one the hash."""
    return sha256_of_json(digest) if len(digest) == SHORT else digest


def short_hash_or_none(digest: str | None) -> str | None:
    """Return the short form of a hash, if there is one."""
    return None if digest is None else short_hash(digest)


def short_hashes(digests: Mapping[str, str]) -> dict[str, str]:
    """Return hashes by name in their short form."""
    return {name: short_hash(digest) for name, digest in digests.items()}


def short_hash_of(data: bytes) -> str:
    """Return the short hash of data."""
    return _shortened(hashlib.sha256(data).digest()[: PREFIX // 2])


def short_hash_of_json(value: object) -> str:
    """Return the short hash of the canonical JSON of a value, as `sha256_of_json` makes it."""
    if _holds_long(value):
        return short_hash(sha256_of_json(value))
    return short_hash_of(canonical(value))


def short_hash_of_text(text: str) -> str:
    """Return the short hash of a text in UTF-8, as `sha256_of_text` makes it."""
    if len(text) <= LONG:
        return short_hash_of(text.encode("utf-8", "replace"))
    return short_hash(sha256_of_text(text))


def _shortened(digest: bytes) -> str:
    data = binascii.b2a_base64(digest, newline=False)
    return data.translate(_TO_URL)[:SHORT].decode()


def hash_half(digest: str) -> int:
    """Return the first 64 bits of a SHA-256 in hexadecimal digits, or of a short one."""
    if len(digest) == SHORT:
        return int.from_bytes(hash_beginning(digest)[:8])
    return int(digest[:16], 16)


def hash_prefix(short: str) -> str:
    """Return the hexadecimal digits that the hash begins with which a short one stands for."""
    return hash_beginning(short).hex()


def hash_beginning(short: str) -> bytes:
    """Return the bytes that the hash begins with which a short one stands for."""
    return binascii.a2b_base64(short.encode().translate(_FROM_URL) + b"==")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
