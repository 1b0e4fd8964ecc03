"""Keeps the key out of every sink, and control characters out of the terminal."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

_KEY_SHAPE: Final = re.compile(r"[\x21-\x7e]{8,512}")
_SERVER_SECRETS: Final = re.compile(r"Bearer\s+[\x21-\x7e]+|\bsk-[A-Za-z0-9_\-]{16,}")
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]",
)
_RUNS: Final = re.compile(r"\\+|[^A-Za-z0-9]")
_HTML_NAMES: Final = {'"': "quot", "&": "amp", "'": "apos", "<": "lt", ">": "gt"}
_EITHER_ALPHABET: Final = str.maketrans({"+": "(?:[+-]|%2[bB])", "/": r"(?:\\{0,8}+/|_|%2[fF])"})
MASK: Final = "[key]"


class Secret:
    """An API key that cannot be printed by accident. `reveal()` gives the text, once, on purpose.

    Surrounding white space is dropped. Raises `ValueError`, without the value, where the rest is
    not 8 to 512 printable ASCII characters.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        text = text.strip()
        if not _KEY_SHAPE.fullmatch(text):
            raise ValueError("a key is 8 to 512 printable ASCII characters without spaces")
        self._text = text

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
    or a few times over. Base64 is found at its three alignments, so also within longer data.
    """

    def __init__(self, *secrets: Secret) -> None:
        keys = sorted({secret.reveal() for secret in secrets}, key=len, reverse=True)
        spellings = [spelling for key in keys for spelling in _spellings(key)]
        self._pattern = re.compile("|".join(spellings)) if spellings else None

    def scrub(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text

    def scrub_server_text(self, text: str) -> str:
        """Scrub text a server sent: it may echo a header or somebody else's key as well."""
        return _SERVER_SECRETS.sub(MASK, self.scrub(text))


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


def _spellings(key: str) -> Iterator[str]:
    """Yield patterns that match `key` in plain sight and within base64.

    Repeats are bounded, and those of backslashes possessive: hostile text takes linear time.
    """
    yield _RUNS.sub(lambda run: _escaped(run.group()), key)
    raw = key.encode()
    for shift in range(3):
        # Only the characters fully determined by the key: neighbours change the outer ones.
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        start = (shift * 8 + 5) // 6
        usable = (len(raw) + shift) * 8 // 6
        yield encoded[start:usable].translate(_EITHER_ALPHABET)


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
