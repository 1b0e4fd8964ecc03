"""Keeps the key out of every sink, and control characters out of the terminal."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Final

_KEY_SHAPE: Final = re.compile(r"[\x21-\x7e]{8,512}")
_SERVER_SECRETS: Final = re.compile(r"Bearer\s+[\x21-\x7e]+|\bsk-[A-Za-z0-9_\-]{16,}")
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]",
)
_HTML_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    '"': ("quot", "QUOT"),
    "&": ("amp", "AMP"),
    "'": ("apos",),
    "<": ("lt", "LT"),
    ">": ("gt", "GT"),
}
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
    """Replaces the secrets, however they are spelled.

    Raw, escaped in JSON, a URL or HTML any number of times over, or within something in base64,
    its URL-safe kind included.
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


def visible(text: str) -> str:
    r"""Escape what could steer a terminal (C0 but \n and \t, C1, DEL, bidi, zero width)."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _spellings(key: str) -> Iterator[str]:
    """Yield patterns that match `key` in plain sight and within base64."""
    yield "".join(map(_escaped, key))
    raw = key.encode()
    for shift in range(3):
        # Only the characters fully determined by the key: neighbours change the outer ones.
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        start = (shift * 8 + 5) // 6
        usable = (len(raw) + shift) * 8 // 6
        yield "".join(map(_escaped_base64, encoded[start:usable]))


def _escaped(character: str) -> str:
    """Return a pattern for the ways a character of a key is written; letters have but one."""
    if character.isalnum():
        return character
    code = f"{ord(character):02x}"
    names = "|".join(sorted(f"{name};" for name in _HTML_NAMES.get(character, ())))
    forms = [
        r"\\+" if character == "\\" else rf"\\*{re.escape(character)}",
        rf"%(?:25)*(?i:{code})",
        rf"\\+(?:u00|x)(?i:{code})",
        rf"&(?:amp;)*(?:\#0*{ord(character)};|\#[xX]0*(?i:{code});{'|' + names if names else ''})",
    ]
    return f"(?:{'|'.join(reversed(forms))})"


def _escaped_base64(character: str) -> str:
    both = {"+": "+-", "/": "/_"}.get(character, "")
    return f"(?:{'|'.join(map(_escaped, both))})" if both else character
