"""Recordings of requests and answers, and the text of a cassette: JSON documents behind `---`.

Each value has a line of its own unless it is short; each chunk of a stream is one line.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from poeflow.digest import Json, KeyTwiceError, check_json_keys, decode_json, encode_json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place, Problem

VERSION: Final = 1
MAX_LEVELS: Final = 200
"""Levels of JSON that is recorded as its value; deeper JSON is recorded as text."""
_AROUND: Final = 8
"""Levels that a document may add around such a value."""
_WIDTH: Final = 100
_SEPARATORS: Final = frozenset({b"---", b"--", b"-"})
"""The line before a recording; a writer that was killed may have written only a part of it."""
_UNSEEN: Final = lazy_pattern("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200b\ufeff]")
_EVENT_END: Final = lazy_pattern(rb"\r?\n\r?\n")
_HEADER: Final = lazy_pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*")
_PLAIN_EVENT: Final = lazy_pattern(rb"(?:event: ([^\r\n]+)\n)?data: ([{\[][^\r\n]*)\n\n")


Seconds = Annotated[float, Meta(ge=0, le=3600)]


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes as they read best: JSON as its value, else text, else base64; or none."""

    json: Json | UnsetType = UNSET
    text: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET

    @property
    def data(self) -> bytes:
        """The bytes. Raises `ValueError` if `base64` is not base64."""
        if self.json is not UNSET:
            return encode_json(self.json)
        if isinstance(self.text, str):
            return self.text.encode("utf-8", "surrogatepass")
        return binascii.a2b_base64(self.base64, strict_mode=True) if self.base64 else b""


class Chunk(Content, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A part of a stream: an event with JSON as `data`, or any other bytes.

    It came `after` that many seconds from the one before.
    """

    after: Seconds | UnsetType = UNSET
    event: str = ""
    data_: Json | UnsetType = msgspec.field(name="data", default=UNSET)

    @property
    def data(self) -> bytes:
        """The bytes. Raises `ValueError` if `base64` is not base64."""
        if self.data_ is UNSET:
            return super().data
        name = f"event: {self.event}\n".encode() if self.event else b""
        return name + b"data: " + encode_json(self.data_) + b"\n\n"


class RecordedRequest(
    Content, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a program asked. `path` has the sorted query behind it; `type` is the content type."""

    method: str
    path: str
    type: str = ""


class RecordedAnswer(
    Content, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What the server answered `after` some seconds: a body, or a stream of events.

    `cut` if the connection ended before the answer did.
    """

    status: Annotated[int, Meta(ge=200, le=999)]
    headers: Mapping[str, str] = {}
    after: Seconds | UnsetType = UNSET
    stream: tuple[Chunk, ...] | UnsetType = UNSET
    cut: bool = False


class RecordedExchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request and its answer."""

    cassette: Literal[1] = VERSION
    request: RecordedRequest
    response: RecordedAnswer


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def content_of(data: bytes, content_type: str) -> Content:
    """Return a body as it reads best, so that what it says is not changed."""
    if not data:
        return Content()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Content(base64=base64.b64encode(data).decode())
    value = _json_in(text) if _is_json(content_type) else UNSET
    return Content(text=text) if value is UNSET else Content(json=value)


def _json_in(text: str) -> Json | UnsetType:
    """Return the value of a JSON text, if the value says all that the text does."""
    try:
        value = decode_json(text.encode())
        check_json_keys(text.lstrip())
        is_same = decode_json(encode_json(value)) == value
    except (KeyTwiceError, ValueError, RecursionError, OverflowError):
        return UNSET
    return value if is_same and not _is_deep(text, value) else UNSET


def _is_deep(text: str, value: Json, most: int = MAX_LEVELS) -> bool:
    """Return whether JSON has more levels than code that goes through it can go down."""
    if text.count("[") + text.count("{") < most:
        return False
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def events_in(data: bytes) -> Iterator[bytes]:
    """Yield the events of a stream with the line ends behind them, and what remains."""
    at = 0
    for end in _EVENT_END.finditer(data):
        yield data[at : end.end()]
        at = end.end()
    if at < len(data):
        yield data[at:]


def chunk_of(data: bytes, *, after: float | UnsetType = UNSET) -> Chunk:
    """Return an event of a stream as it reads best."""
    plain = _PLAIN_EVENT.fullmatch(data)
    if plain is not None:
        try:
            name, value = (plain[1] or b"").decode(), _json_in(plain[2].decode())
        except UnicodeDecodeError:
            value = UNSET
        if value is not UNSET:
            return Chunk(after=after, event=name, data_=value)
    content = content_of(data, "")
    return Chunk(after=after, text=content.text, base64=content.base64)


def recording_text(recording: RecordedExchange) -> bytes:
    """Return the text of a recording, with the separator before it."""
    request, response = (
        msgspec.to_builtins(one) for one in (recording.request, recording.response)
    )
    first = {key: request.pop(key) for key in ("method", "path", "type") if key in request}
    status = {key: response.pop(key) for key in ("status", "after", "headers") if key in response}
    data = {"cassette": VERSION, "request": first | request, "response": status | response}
    return f"---\n{laid_out(data)}\n".encode()


def laid_out(value: Json) -> str:
    """Return JSON in lines, without characters that are not seen or that move the text."""
    text = _laid_out(value, "", "")
    if text.isascii() and "\x7f" not in text:
        return text
    return _UNSEEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _laid_out(value: Json, indent: str, key: str) -> str:
    """Return the JSON value of a key: in one line if it is short, else a line for each part."""
    short = encode_json(value).decode()
    is_broken = key in _BROKEN or len(indent + key + short) > _WIDTH
    if not isinstance(value, dict | list | tuple) or not value or not is_broken or key == _CHUNK:
        return short
    within = f"{indent}  "
    if not isinstance(value, dict):
        inner = _CHUNK if key == "stream" else ""
        begin, parts, end = "[", [_laid_out(one, within, inner) for one in value], "]"
    else:
        pairs = [(encode_json(name).decode(), name, one) for name, one in value.items()]
        parts = [f"{quoted}: {_laid_out(one, within, name)}" for quoted, name, one in pairs]
        begin, end = "{", "}"
    joined = ",\n".join(f"{within}{part}" for part in parts)
    return f"{begin}\n{joined}\n{indent}{end}"


_BROKEN: Final = frozenset({"", "request", "response", "headers", "stream"})
"""Keys whose value is never in one line."""
_CHUNK: Final = "\0"
"""In place of a key, for what is always in one line."""


class PlacedRecording(msgspec.Struct, frozen=True):
    """A recording, and the line at which its document begins."""

    line: int
    recording: RecordedExchange


class CassetteText(msgspec.Struct, frozen=True):
    """What the text of a cassette says.

    `size` is where its last whole recording ends, `is_torn` if half of one follows: its writer was
    killed.
    """

    recordings: tuple[PlacedRecording, ...]
    size: int
    is_torn: bool
    problems: tuple[Problem, ...] = ()


def parse_cassette(data: bytes, path: str) -> CassetteText:
    """Read a cassette, with every problem in it."""
    found: list[PlacedRecording] = []
    problems: list[Problem] = []
    documents = list(_documents(data))
    for at, (line, begin, text) in enumerate(documents):
        if line > 1 and at == len(documents) - 1 and _is_torn(text):
            return CassetteText(tuple(found), begin, is_torn=True, problems=tuple(problems))
        read = _read(text, Place(path, line)) if text.strip() else None
        if isinstance(read, Problem):
            problems.append(read)
        elif read is not None:
            found.append(PlacedRecording(line, read))
    return CassetteText(tuple(found), len(data), is_torn=False, problems=tuple(problems))


def _documents(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield each document with its first line, and the offset of the separator before it."""
    begin = start = at = 0
    line = first = 1
    while at < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        if data[at:end].rstrip() in _SEPARATORS:
            if start:
                yield first, begin, data[start:at]
            elif data[:at].strip():
                yield 1, 0, data[:at]
            begin, start, first = at, end, line + 1
        at, line = end, line + 1
    if data.strip():
        yield first, begin, data[start:]


def _is_torn(text: bytes) -> bool:
    """Return whether this is the first half of a document of ours, or nothing."""
    begins = text.startswith(_BEGINNING) or _BEGINNING.startswith(text)
    if not begins or text.endswith((b"\n}\n", b"\n}")):
        return False
    try:
        decode_json(text)
    except (ValueError, RecursionError):
        return True
    return False


_BEGINNING: Final = b'{\n  "cassette": 1,\n  "request": {\n    "method": '


def _read(text: bytes, place: Place) -> RecordedExchange | Problem:
    """Return the recording in a document, or what is wrong with it."""
    try:
        written = text.decode()
        value = decode_json(text)
        if _is_deep(written, value, MAX_LEVELS + _AROUND):
            return Problem(place, "this is nested too deep", _HINT)
        if decode_json(encode_json(value)) != value:
            return Problem(place, "a number is too large", _HINT)
        recording = msgspec.convert(value, RecordedExchange)
    except json.JSONDecodeError as error:
        there = Place(place.path, place.line + error.lineno - 1, error.colno)
        return Problem(there, f"this is not JSON: {error.msg[:1].lower()}{error.msg[1:]}", _HINT)
    except UnicodeDecodeError:
        return Problem(place, "this is not UTF-8", _HINT)
    except msgspec.ValidationError as error:
        return Problem(place, _plain(str(error)), _HINT)
    except (ValueError, RecursionError):
        return Problem(place, "this is not JSON that can be read", _HINT)
    wrong = next(_wrong(recording), "")
    return Problem(place, wrong, _HINT) if wrong else recording


_HINT: Final = "record it anew, or restore the file"


def _plain(reason: str) -> str:
    """Return a sentence of msgspec's as one of ours."""
    if "$.cassette" in reason:
        return f"this is not a recording of version {VERSION}; a newer poeflow may have made it"
    words = reason.replace("`", "").replace("$.", "").replace(" - at", " at")
    return words[:1].lower() + words[1:]


def _wrong(recording: RecordedExchange) -> Iterator[str]:
    """Yield what no type says: one form of the bytes, base64 that is some, headers of HTTP."""
    response = recording.response
    chunks = () if response.stream is UNSET else response.stream
    for one in (recording.request, response, *chunks):
        forms = [form for form in ("json", "text", "base64", "stream", "data_") if _has(one, form)]
        if len(forms) > 1:
            yield f"{' and '.join(forms)} exclude each other".replace("_", "")
        if isinstance(one, Chunk) and (not forms or forms == ["json"]):
            yield "a chunk has data, text or base64"
        if isinstance(one, Chunk) and one.event and one.data_ is UNSET:
            yield "an event that has a name has data"
        try:
            _ = one.data
        except ValueError:
            yield "what is in base64 is not base64"
    for name in unfit_headers(response.headers):
        yield f"the header {encode_json(name).decode()} is not one of HTTP"


def unfit_headers(headers: Mapping[str, str]) -> list[str]:
    """Return the names of the headers that HTTP does not allow, which no recording has."""
    return [name for name, value in headers.items() if not _HEADER.fullmatch(f"{name}: {value}")]


def _has(one: Content, form: str) -> bool:
    return getattr(one, form, UNSET) is not UNSET
