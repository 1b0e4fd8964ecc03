"""Keeps the key out of every sink, and control characters out of the terminal."""

import base64
import functools
import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

import msgspec

_KEY_SHAPE: Final = re.compile(r"[\x21-\x7e]{1,512}")
SHORTEST_MASKED: Final = 8
"""Characters of a key from which on it is masked: a shorter one is part of ordinary words."""
_SERVER_SECRETS: Final = re.compile(r"Bearer\s+[\x21-\x7e]+|\bsk-[A-Za-z0-9_\-]{16,}")
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]",
)
_RUNS: Final = re.compile(r"\\+|[^A-Za-z0-9]")
_HTML_NAMES: Final = {'"': "quot", "&": "amp", "'": "apos", "<": "lt", ">": "gt"}
_URL_ALPHABET: Final = str.maketrans("+/", "-_")
_EITHER_ALPHABET: Final = str.maketrans({"+": "(?:[+-]|%2[bB])", "/": r"(?:\\{0,8}+/|_|%2[fF])"})
_BROKEN: Final = r"(?:[\s>]|\\[nrt]){0,64}+"
"""Where base64 is broken into lines: what may stand between two of its characters."""
_HALF: Final = 24
"""Half the characters of the shortest lines that base64 is broken into."""
MASK: Final = "[key]"


class Secret:
    """An API key that cannot be printed by accident. `reveal()` gives the text, once, on purpose.

    Surrounding white space is dropped. Raises `ValueError`, without the value, where the rest is
    not 1 to 512 printable ASCII characters. Servers of one's own often take any key: a short one
    is taken, and not masked.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        text = text.strip()
        if not _KEY_SHAPE.fullmatch(text):
            raise ValueError("a key is 1 to 512 printable ASCII characters without spaces")
        self._text = text

    @property
    def is_masked(self) -> bool:
        """Whether the key is long enough to be told from ordinary text."""
        return len(self._text) >= SHORTEST_MASKED

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is never pickled")


class Scrubber:
    """Replaces the secrets however they are spelled: raw, escaped, in base64 of either alphabet.

    Escapes are those of JSON, Python, URLs and HTML, some of the characters or all of them, once
    or a few times over. Base64 is found at its three alignments, so also within longer data, and
    that of UTF-16 too, broken into lines or not. Keys too short to be told from words are left
    alone. It is never pickled.
    """

    def __init__(self, *secrets: Secret) -> None:
        keys = sorted(set(_masked_keys(secrets)), key=len, reverse=True)
        self._keys = keys
        spellings = [spelling for key in keys for spelling in _spellings(key)]
        self._pattern = re.compile("|".join(spellings)) if spellings else None
        wide = [_in_utf16(key) for key in keys]
        encoded = (needle for raw in wide for needle in _base64_needles(raw))
        self._wide = tuple(dict.fromkeys((*(raw.decode() for raw in wide), *encoded)))
        pieces = [piece for key in keys for piece in _encoded_pieces(key)]
        self._lines = re.compile("|".join(map(_in_lines, pieces)))
        either = (one for piece in pieces for one in (piece, piece.translate(_URL_ALPHABET)))
        self._parts = tuple({part for one in either for part in _halves(one)})

    def __repr__(self) -> str:
        return "Scrubber(...)"

    def __reduce__(self) -> str:
        raise TypeError("what knows keys is never pickled")

    def scrub(self, text: str) -> str:
        if self._pattern is None:
            return text
        text = self._pattern.sub(MASK, text)
        for spelling in self._wide:
            text = text.replace(spelling, MASK)
        has_part = any(part in text for part in self._parts)
        return self._lines.sub(MASK, text) if has_part else text

    def begun(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of a key."""
        return max((_overlap(text, key) for key in self._keys), default=0)

    def scrub_server_text(self, text: str) -> str:
        """Scrub text a server sent: it may echo a header or somebody else's key as well."""
        return _SERVER_SECRETS.sub(MASK, self.scrub(text))


class Keyring:
    """The keys of a run, to be found in what is about to be sent or written.

    It looks for a key as it is, escaped for JSON, URLs or HTML, in UTF-16, and in base64 at any
    alignment: for fixed bytes, at the speed of memory. It is never pickled.
    """

    def __init__(self, *secrets: Secret) -> None:
        self._secrets = secrets
        keys = _masked_keys(secrets)
        encoded = [raw for key in keys for raw in (key.encode(), _in_utf16(key))]
        self._whole = {n.encode() for raw in encoded for n in _base64_needles(raw)}
        self._plain = tuple({needle for key in keys for needle in _plain_needles(key)})
        parts = (part for needle in self._whole for part in _halves(needle.decode()))
        self._parts = tuple({part.encode() for part in parts})

    def __bool__(self) -> bool:
        return bool(self._plain)

    def __repr__(self) -> str:
        return "Keyring(...)"

    def __reduce__(self) -> str:
        raise TypeError("what knows keys is never pickled")

    def is_in(self, data: bytes) -> bool:
        """Whether a key is in `data`, base64 also where it is broken into indented lines."""
        if any(needle in data for needle in self._plain):
            return True
        if not any(part in data for part in self._parts):
            return False
        for escape in (rb"\n", rb"\r", rb"\t"):
            data = data.replace(escape, b"")
        data = data.translate(None, b"\n\r\t >")
        return any(needle in data for needle in self._whole)

    @functools.cached_property
    def scrubber(self) -> Scrubber:
        """What masks these keys."""
        return Scrubber(*self._secrets)


def masked(value: object, scrubber: Scrubber) -> object:
    """Return plain data, or the fields of a struct, with the secrets in every text masked.

    What holds no secret is returned as it is.
    """
    match value:
        case str():
            return scrubber.scrub(value)
        case msgspec.Struct():
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            changed = {name: masked(field, scrubber) for name, field in fields.items()}
            return msgspec.structs.replace(value, **changed) if changed != fields else value
        case Mapping():
            return {masked(key, scrubber): masked(one, scrubber) for key, one in value.items()}
        case list() | tuple():
            return type(value)(masked(one, scrubber) for one in value)
        case _:
            return value


def visible(text: str) -> str:
    r"""Escape what could steer a terminal (C0 but \n and \t, C1, DEL, bidi, zero width)."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _masked_keys(secrets: tuple[Secret, ...]) -> list[str]:
    """Return the texts of the keys that are long enough to be told from ordinary text."""
    return [secret.reveal() for secret in secrets if secret.is_masked]


def _overlap(text: str, key: str) -> int:
    """Return the most characters, short of all, that `key` begins with and `text` ends with."""
    most = min(len(text), len(key) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(key[:n])), 0)


def _plain_needles(key: str) -> Iterator[bytes]:
    """Yield the bytes of a key in plain sight; in JSON that holds JSON it is escaped again."""
    in_json = [key]
    for _ in range(3):
        in_json.append(json.dumps(in_json[-1])[1:-1])
    for text in (*in_json, quote(key), quote(key, safe=""), html.escape(key)):
        yield text.encode()
    yield json.dumps("\0".join(key))[1:-1].encode()
    yield _in_utf16(key)


def _in_utf16(key: str) -> bytes:
    """Return a key in UTF-16, the zero at its end left out: either byte order has these bytes."""
    return key.encode("utf-16-le")[:-1]


def _base64_needles(raw: bytes) -> Iterator[str]:
    """Yield what base64 makes of a key wherever it begins, in either alphabet."""
    for piece in _base64_pieces(raw):
        yield from (piece, piece.translate(_URL_ALPHABET))
        yield from (piece.replace("/", "\\/"), quote(piece, safe=""))


def _halves(needle: str) -> tuple[str, str]:
    """Return two parts of a needle: a line of base64 ends in one of them at most."""
    half = min(len(needle) // 2, _HALF)
    return needle[:half], needle[half : 2 * half]


def _base64_pieces(raw: bytes) -> Iterator[str]:
    """Yield the characters that are fully determined by `raw`: neighbours change the outer ones."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        yield encoded[(shift * 8 + 5) // 6 : (len(raw) + shift) * 8 // 6]


def _spellings(key: str) -> Iterator[str]:
    """Yield patterns that match `key` in plain sight and within base64.

    Repeats are bounded, and those of backslashes possessive: hostile text takes linear time.
    """
    yield _RUNS.sub(lambda run: _escaped(run.group()), key)
    for piece in _base64_pieces(key.encode()):
        yield piece.translate(_EITHER_ALPHABET)


def _encoded_pieces(key: str) -> Iterator[str]:
    """Yield what base64 makes of a key, and of its UTF-16."""
    yield from _base64_pieces(key.encode())
    yield from _base64_pieces(_in_utf16(key))


def _in_lines(piece: str) -> str:
    """Return a pattern for base64 that is broken into lines, with what lines may begin with."""
    return _BROKEN.join(one.translate(_EITHER_ALPHABET) for one in piece)


def _escaped(run: str) -> str:
    """Return a pattern for the ways to write one character of a key, or a run of backslashes."""
    count, character = len(run), run[0]
    code = f"{ord(character):02x}"
    name = f"|(?i:{_HTML_NAMES[character]});" if character in _HTML_NAMES else ""
    entity = rf"\#0{{0,6}}{ord(character)};|\#[xX]0{{0,6}}(?i:{code});{name}"
    coded = (
        rf"\\{{0,8}}+(?:u00|x)(?i:{code})|%(?:25){{0,4}}(?i:{code})|&(?:amp;){{0,4}}(?:{entity})"
    )
    if character == "\\":
        return rf"(?:{coded}|\\{{1,{count * 8}}}+){{1,{count}}}+"
    return rf"(?:{coded}|\\{{0,8}}+{re.escape(character)})"
