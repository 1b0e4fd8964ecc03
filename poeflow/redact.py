"""Masks keys in all output, and escapes control characters for the terminal."""

import base64
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import msgspec

from poeflow.digest import LONG, Json, encode_json, json_pieces
from poeflow.lazy_pattern import lazy_pattern

_KEY_SHAPE: Final = lazy_pattern(r"[\x21-\x7e]{1,512}")
SHORTEST_MASKED: Final = 8
"""The length from which a key is masked: shorter ones occur in ordinary words."""
_SERVER_SECRETS: Final = lazy_pattern(r"Bearer\s+[\x21-\x7e]+|\bsk-[A-Za-z0-9_\-]{16,}")
_UNSAFE: Final = lazy_pattern(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]",
)
_JOINERS: Final = lazy_pattern("([\u200c\u200d])")
_RUNS: Final = lazy_pattern(r"\\+|[^A-Za-z0-9]")
_LETTERS: Final = lazy_pattern("[A-Za-z0-9]+")
_HTML_NAMES: Final = {'"': "quot", "&": "amp", "'": "apos", "<": "lt", ">": "gt"}
_IN_HTML: Final = str.maketrans(
    {'"': "&quot;", "&": "&amp;", "'": "&#x27;", "<": "&lt;", ">": "&gt;"}
)
_URL_ALPHABET: Final = str.maketrans("+/", "-_")
_EITHER_ALPHABET: Final = str.maketrans({"+": "(?:[+-]|%2[bB])", "/": r"(?:\\{0,8}+/|_|%2[fF])"})
_BROKEN: Final = r"(?:[\s>]|\\[nrt]){0,64}+"
"""The line breaks and indentation that may separate two characters of base64."""
_HALF: Final = 24
"""Half the length of the shortest lines of base64."""
_SHORT: Final = 400
"""Below so many bytes, one search for all signs of keys is faster than one for each."""
_WORDS: Final = bytes(
    ord("w") if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_-+/") else ord(" ")
    for code in range(256)
)
_LONG_WORD: Final = 8
MASK: Final = "[key]"
SHOWN_BEFORE: Final = 3
"""The characters of an encoded key that `Scrubber.begun` lets pass."""


class Secret:
    """An API key that cannot be printed by accident. `reveal()` returns the text.

    Surrounding white space is dropped. Raises `ValueError`, without the value, unless the rest is
    1 to 512 printable ASCII characters. Private servers often accept any key, so a short one is
    allowed, but not masked.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        text = text.strip()
        if not _KEY_SHAPE.fullmatch(text):
            raise ValueError("a key is 1 to 512 printable ASCII characters without spaces")
        self._text = text

    @property
    def is_masked(self) -> bool:
        """Return whether the key is long enough to be distinguished from ordinary text."""
        return len(self._text) >= SHORTEST_MASKED

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is never pickled")


class Scrubber:
    """Replaces keys in every form: plain, escaped, and in both alphabets of base64.

    Escapes are those of JSON, Python, URLs and HTML, of some or all characters but letters and
    digits, once or a few times. Base64 is found at all three alignments, so also within longer
    data, of UTF-16 too, with or without line breaks. Keys that are too short are not masked. It
    cannot be pickled.
    """

    def __init__(self, *secrets: Secret) -> None:
        keys = sorted(set(_masked_keys(secrets)), key=len, reverse=True)
        self._keys = keys
        spellings = [spelling for key in keys for spelling in _spellings(key)]
        self._pattern = lazy_pattern("|".join(spellings)) if spellings else None
        wide = [_in_utf16(key) for key in keys]
        encoded = (needle for raw in wide for needle in _base64_needles(raw))
        self._wide = tuple(dict.fromkeys((*(raw.decode() for raw in wide), *encoded)))
        pieces = [piece for key in keys for piece in _encoded_pieces(key)]
        self._lines = lazy_pattern("|".join(map(_in_lines, pieces)))
        either = (one for piece in pieces for one in (piece, piece.translate(_URL_ALPHABET)))
        self._parts = tuple({part for one in either for part in _halves(one)})
        self._signs = _shortest(_signs(self._keys, self._wide, self._parts))

    @functools.cached_property
    def _any_sign(self) -> re.Pattern[bytes]:
        return _any_of(self._signs)

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

    def may_change(self, value: object) -> bool:
        """Whether a text in plain data or a struct may hold a secret: one search through all of it.

        However a key is spelled, its letters and digits stand there as they are.
        """
        if self._pattern is None:
            return False
        try:
            if isinstance(value, msgspec.Struct) and _may_be_long(value):
                pieces = json_pieces(msgspec.structs.asdict(value))
                return _are_in(pieces, self._signs, self._any_sign)
            return _is_any_in(msgspec.json.encode(value), self._signs, self._any_sign)
        except (TypeError, ValueError, RecursionError):  # not of JSON, or half a character
            return True

    def begun(self, text: str) -> int:
        """Return how many characters at the end of a text may begin a key, as it is or encoded.

        Fewer than four do not count for an encoded one: many texts end like it begins.
        """
        longest, starts = self._starts
        end = text[-SHOWN_BEFORE:]
        found = max((_overlap(end, key) for key in self._keys), default=0)
        end = text[-longest:]
        for start, known in starts.items():
            at = end.find(start)
            while at >= 0:
                if any(one.startswith(end[at:]) for one in known):
                    found = max(found, len(end) - at)
                at = end.find(start, at + 1)
        return found

    @functools.cached_property
    def _starts(self) -> tuple[int, Mapping[str, list[str]]]:
        """The length of the longest spelling of a key, and the spellings by their beginnings."""
        encoded = [raw for key in self._keys for raw in (key.encode(), _in_utf16(key))]
        spelled = {needle for raw in encoded for needle in _base64_needles(raw)}
        spelled |= {needle.decode() for key in self._keys for needle in _plain_needles(key)}
        starts: dict[str, list[str]] = {}
        for one in spelled:
            starts.setdefault(one[: SHOWN_BEFORE + 1], []).append(one)
        return max(map(len, spelled), default=0), starts

    def scrub_server_text(self, text: str) -> str:
        """Scrub text from a server, which may also contain a header or another user's key."""
        return _SERVER_SECRETS.sub(MASK, self.scrub(text))


class Keyring:
    """Finds the keys of a run in data that will be sent or written.

    It searches for a key in plain form, escaped for JSON, URLs or HTML, in UTF-16, and in base64
    at any alignment, as fixed bytes, which is fast. It cannot be pickled.
    """

    def __init__(self, *secrets: Secret) -> None:
        self._secrets = secrets
        keys = _masked_keys(secrets)
        encoded = [raw for key in keys for raw in (key.encode(), _in_utf16(key))]
        self._whole = {n.encode() for raw in encoded for n in _base64_needles(raw)}
        self._plain = _shortest({needle for key in keys for needle in _plain_needles(key)})
        parts = (part for needle in self._whole for part in _halves(needle.decode()))
        self._parts = _shortest({part.encode() for part in parts})
        self._signs = self._plain + self._parts
        self._worded = tuple(sign for sign in self._signs if _longest_word(sign) >= _LONG_WORD)
        self._others = tuple(sign for sign in self._signs if _longest_word(sign) < _LONG_WORD)
        self._word = b"w" * min(map(_longest_word, self._worded), default=0)

    def __bool__(self) -> bool:
        return bool(self._plain)

    def __repr__(self) -> str:
        return "Keyring(...)"

    def __reduce__(self) -> str:
        raise TypeError("what knows keys is never pickled")

    def is_in(self, data: bytes) -> bool:
        """Return whether a key is in `data`, also in base64 with indented lines."""
        if len(data) < _SHORT and self._any_sign.search(data) is None:
            return False
        if _holds(data, self._plain):
            return True
        if not _holds(data, self._parts):
            return False
        for escape in (rb"\n", rb"\r", rb"\t"):
            data = data.replace(escape, b"")
        data = data.translate(None, b"\n\r\t >")
        return any(needle in data for needle in self._whole)

    def is_in_json(self, value: Json) -> bool:
        """Return whether a key is in the JSON of `value`, of which a long text is not copied."""
        is_any = _are_in(json_pieces(value), self._signs, self._any_sign)
        return is_any and self.is_in(encode_json(value))

    @functools.cached_property
    def _any_sign(self) -> re.Pattern[bytes]:
        return _any_of(self._signs)

    def may_be_in(self, window: bytes, words: bytes) -> bool:
        """Return whether `is_in` may be true of data that this is a window on: see `windows`.

        `words` is what `word_marks` returns for it: most parts of a binary file have no long word.
        """
        return _holds(window, self._others) or (
            self._word in words and _holds(window, self._worded)
        )

    @functools.cached_property
    def overlap(self) -> int:
        """The bytes by which windows must overlap, so that one of them has a sign of a key."""
        return max(map(len, self._signs), default=0)

    @functools.cached_property
    def scrubber(self) -> Scrubber:
        """The scrubber that masks these keys."""
        return Scrubber(*self._secrets)


def _holds(data: bytes, needles: tuple[bytes, ...]) -> bool:
    """Return whether one of the needles is in `data`: a plain loop, as this is done very often."""
    for needle in needles:  # noqa: SIM110 - half as fast with any()
        if needle in data:
            return True
    return False


def _any_of(needles: Sequence[bytes]) -> re.Pattern[bytes]:
    """Return a pattern that finds any of the needles; without any, it finds nothing.

    An empty needle, of a key without letters and digits, is in everything.
    """
    return re.compile(b"|".join(map(re.escape, needles)) if needles else rb"(?!)")


def _is_any_in(data: bytes, needles: tuple[bytes, ...], any_of: re.Pattern[bytes]) -> bool:
    """Return whether one of the needles is in data; a short one is searched once."""
    if len(data) < _SHORT:
        return any_of.search(data) is not None
    return _holds(data, needles)


def _are_in(pieces: Iterable[bytes], needles: tuple[bytes, ...], any_of: re.Pattern[bytes]) -> bool:
    """Return whether one of the needles is in the data that the pieces make together."""
    if isinstance(pieces, tuple):  # in one piece, as almost always
        return _is_any_in(b"".join(pieces), needles, any_of)
    found = windows(pieces, max(map(len, needles), default=1))
    return any(_is_any_in(window, needles, any_of) for window in found)


def _may_be_long(value: msgspec.Struct) -> bool:
    """Return whether a record or an event may hold a long text: that of a result, or outputs."""
    text = getattr(value, "text", None)
    return (isinstance(text, str) and len(text) > LONG) or bool(getattr(value, "outputs", None))


def word_marks(data: bytes) -> bytes:
    """Return data with `w` for each character of a word, also of one in base64; else a space."""
    return data.translate(_WORDS)


def _longest_word(data: bytes) -> int:
    return max(map(len, word_marks(data).split()), default=0)


def windows(pieces: Iterable[bytes], overlap: int) -> Iterator[bytes]:
    """Yield the pieces, each with as many of the bytes before it."""
    end = b""
    for piece in pieces:
        window = end + piece if end else piece
        yield window
        end = window[-overlap:] if overlap else b""


T = TypeVar("T")


def masked(value: T, scrubber: Scrubber) -> T:
    """Return plain data, or a struct, with the keys in every text masked.

    Values without keys are returned unchanged.
    """
    return cast("T", _masked(value, scrubber)) if scrubber.may_change(value) else value


def _masked(value: object, scrubber: Scrubber) -> object:
    match value:
        case str():
            return scrubber.scrub(value)
        case msgspec.Struct():
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            changed = {name: _masked(field, scrubber) for name, field in fields.items()}
            return msgspec.structs.replace(value, **changed) if changed != fields else value
        case Mapping():
            return {_masked(key, scrubber): _masked(one, scrubber) for key, one in value.items()}
        case list() | tuple():
            return type(value)(_masked(one, scrubber) for one in value)
        case _:
            return value


def repr_without(whole: msgspec.Struct, *hidden: str) -> str:
    """Return the `repr` of a struct without the fields that may hold secrets."""
    fields = ", ".join(f"{name}={value!r}" for name, value in fields_without(whole, *hidden))
    return f"{type(whole).__name__}({fields})"


def fields_without(whole: msgspec.Struct, *hidden: str) -> list[tuple[str, Any]]:
    """Return the fields of a struct that hold no secrets, as rich shows them."""
    shown = (name for name in whole.__struct_fields__ if name not in hidden)
    return [(name, getattr(whole, name)) for name in shown]


def visible(text: str, *, with_joiners: bool = False) -> str:
    r"""Escape characters that control a terminal (C0 but \n and \t, C1, DEL, bidi, zero width).

    `with_joiners` leaves joiners: they are invisible, but emoji and several scripts are spelled
    with them.
    """
    if text.isprintable():
        return text
    if not with_joiners:
        return _UNSAFE.sub(_escape, text)
    parts = _JOINERS.split(text)
    return "".join(part if at % 2 else visible(part) for at, part in enumerate(parts))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _masked_keys(secrets: tuple[Secret, ...]) -> list[str]:
    """Return the texts of the keys that are long enough to be masked."""
    return [secret.reveal() for secret in secrets if secret.is_masked]


def _overlap(text: str, key: str) -> int:
    """Return the length of the longest proper beginning of `key` that `text` ends with."""
    most = min(len(text), len(key) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(key[:n])), 0)


def _plain_needles(key: str) -> Iterator[bytes]:
    """Yield the unencoded forms of a key; in JSON inside JSON it is escaped again."""
    in_json = [key]
    for _ in range(3):
        in_json.append(json.dumps(in_json[-1])[1:-1])
    for text in (*in_json, quote(key), quote(key, safe=""), key.translate(_IN_HTML)):
        yield text.encode()
    yield json.dumps("\0".join(key))[1:-1].encode()
    yield _in_utf16(key)


def _in_utf16(key: str) -> bytes:
    """Return a key in UTF-16 without the last zero byte, so that both byte orders match."""
    return key.encode("utf-16-le")[:-1]


def _base64_needles(raw: bytes) -> Iterator[str]:
    """Yield the base64 forms of a key at each alignment, in both alphabets."""
    for piece in _base64_pieces(raw):
        yield from (piece, piece.translate(_URL_ALPHABET))
        yield from (piece.replace("/", "\\/"), quote(piece, safe=""))


def _signs(keys: Iterable[str], wide: Iterable[str], parts: Iterable[str]) -> set[bytes]:
    """Return bytes of which one is in every JSON text that holds a key, however it is spelled."""
    pieces = (piece for key in keys for piece in _base64_pieces(key.encode()))
    plain = (*keys, *pieces, *(one for one in wide if "\0" not in one), *parts)
    spelled = {max(_LETTERS.findall(one), key=len, default="") for one in plain}
    return {one.encode() for one in spelled} | {
        json.dumps(one)[1:-1].encode() for one in wide if "\0" in one
    }


def _shortest(needles: set[bytes]) -> tuple[bytes, ...]:
    """Return the needles without those that hold another: where one is, the other is, too."""
    return tuple(
        one for one in needles if not any(other in one and other != one for other in needles)
    )


def _halves(needle: str) -> tuple[str, str]:
    """Return two halves of a needle; a line break of base64 is in at most one of them."""
    half = min(len(needle) // 2, _HALF)
    return needle[:half], needle[half : 2 * half]


def _base64_pieces(raw: bytes) -> Iterator[str]:
    """Yield the base64 characters that depend only on `raw`, not on its neighbours."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        yield encoded[(shift * 8 + 5) // 6 : (len(raw) + shift) * 8 // 6]


def _spellings(key: str) -> Iterator[str]:
    """Yield patterns that match `key` unencoded and within base64.

    Repeats are bounded, and those of backslashes possessive: hostile text takes linear time.
    """
    yield _RUNS.sub(lambda run: _escaped(run.group()), key)
    for piece in _base64_pieces(key.encode()):
        yield piece.translate(_EITHER_ALPHABET)


def _encoded_pieces(key: str) -> Iterator[str]:
    """Yield the base64 forms of a key and of its UTF-16."""
    yield from _base64_pieces(key.encode())
    yield from _base64_pieces(_in_utf16(key))


def _in_lines(piece: str) -> str:
    """Return a pattern for base64 with line breaks and indentation."""
    return _BROKEN.join(one.translate(_EITHER_ALPHABET) for one in piece)


def _escaped(run: str) -> str:
    """Return a pattern for all forms of one character of a key, or of several backslashes."""
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
