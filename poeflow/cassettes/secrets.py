"""Masks keys in what is recorded: those of the request itself, of the environment, and by shape.

The request that is looked up in a cassette is masked in the same way.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import UNSET

from poeflow.cassettes.recordings import (
    Chunk,
    Content,
    RecordedAnswer,
    RecordedRequest,
    content_of,
)
from poeflow.digest import Json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.redact import MASK, Scrubber, Secret
from poeflow.simulator.http_messages import Request

_SECRET_HEADER: Final = lazy_pattern(r"(?:.*[-_])?(?:key|token|secret|authorization|apikey)")
_SECRET_NAMES: Final = frozenset({"key", "token"})
_SECRET_MEMBERS: Final = frozenset(
    {"apikey", "authorization", "accesstoken", "clientsecret", "password", "secretkey"}
)
"""Parameters and members of bodies that hold a key, by their letters in lower case."""
_BOUNDARY: Final = lazy_pattern(r'(?i);\s*boundary=("?)([^";,\s]{1,200})\1')
_ONE_BOUNDARY: Final = "boundary"
_MAX_SCRUBBERS: Final = 64


class Masking:
    """Masks keys; `keys` are those of the environment."""

    def __init__(self, *keys: Secret) -> None:
        self._keys = keys
        self._scrubbers: dict[tuple[str, ...], Scrubber] = {}

    def scrubber_of(self, request: Request) -> Scrubber:
        """Return what masks the keys of a request, and those of the environment."""
        found = tuple(dict.fromkeys(_keys_in(request)))
        if found not in self._scrubbers:
            if len(self._scrubbers) >= _MAX_SCRUBBERS:
                self._scrubbers.clear()
            secrets = (secret for text in found for secret in _secrets(text))
            self._scrubbers[found] = Scrubber(*self._keys, *secrets)
        return self._scrubbers[found]


def recorded_request(request: Request, scrubber: Scrubber | None) -> RecordedRequest:
    """Return a request as it is recorded, masked unless there is no scrubber.

    Of its headers only the content type is there. The boundary of a form, which is chosen at
    random, is replaced; the query is sorted.
    """
    kind = request.headers.get("content-type", "").strip()
    body = request.body
    boundary = _BOUNDARY.search(kind)
    if boundary is not None:
        body = body.replace(boundary[2].encode(), _ONE_BOUNDARY.encode())
        kind = f"{kind[: boundary.start()]}; boundary={_ONE_BOUNDARY}"
    content = content_of(body, kind or "application/json")
    found = RecordedRequest(
        method="GET" if request.method == "HEAD" else request.method,
        path=_address(request),
        type=kind if body else "",
        json=content.json,
        text=content.text,
        base64=content.base64,
    )
    return found if scrubber is None else _masked_request(found, scrubber)


def masked_answer(answer: RecordedAnswer, scrubber: Scrubber) -> RecordedAnswer:
    """Return an answer with the keys in it masked, also one that comes in several chunks."""
    scrub = _scrub_for(answer, scrubber)
    headers = {name: scrub(value) for name, value in answer.headers.items()}
    answer = msgspec.structs.replace(answer, headers=headers)
    if answer.stream is UNSET:
        return _masked_content(answer, scrub)
    chunks = tuple(_masked_chunk(chunk, scrub) for chunk in answer.stream)
    whole = _with_joined_masked(chunks, scrubber.scrub_server_text)
    return msgspec.structs.replace(answer, stream=whole)


def _address(request: Request) -> str:
    """Return path and query, the parameters sorted and those that hold keys masked."""
    pairs = parse_qsl(request.raw_query, keep_blank_values=True)
    plain = sorted((name, MASK if _is_secret(name) else value) for name, value in pairs)
    return f"{request.path}?{urlencode(plain, safe='[]')}" if plain else request.path


def _is_secret(name: str) -> bool:
    """Return whether a parameter of the query holds a key."""
    return name in _SECRET_NAMES or _is_secret_member(name)


def _is_secret_member(name: str) -> bool:
    return name.lower().replace("_", "").replace("-", "") in _SECRET_MEMBERS


def _keys_in(request: Request) -> Iterator[str]:
    """Yield the keys that a request carries beside its body."""
    for name, value in request.headers.items():
        if _SECRET_HEADER.fullmatch(name):
            yield value.strip().rpartition(" ")[2]
    for cookie in request.headers.get("cookie", "").split(";"):
        yield cookie.partition("=")[2].strip()
    for name, value in parse_qsl(request.raw_query):
        if _is_secret(name):
            yield value


def _secrets(text: str) -> Iterator[Secret]:
    """Yield a key, unless it cannot be one."""
    try:
        yield Secret(text)
    except ValueError:
        return


def _masked_request(request: RecordedRequest, scrubber: Scrubber) -> RecordedRequest:
    masked = _masked_content(request, _scrub_for(request, scrubber))
    path, kind = scrubber.scrub(request.path), scrubber.scrub(request.type)
    return msgspec.structs.replace(masked, path=path, type=kind)


def _scrub_for(value: Content, scrubber: Scrubber) -> "Scrub":
    """Return what masks the keys in a value: only those by their shape if it has no other."""
    return (scrubber if scrubber.may_change(value) else _ANY).scrub_server_text


_ANY: Final = Scrubber()
Scrub: TypeAlias = Callable[[str], str]
Place: TypeAlias = tuple[str | int, ...]
C = TypeVar("C", bound=Content)


def _masked_content(content: C, scrub: Scrub) -> C:
    """Return a body without keys, also one in base64."""
    if content.json is not UNSET:
        masked = _mapped(_renamed(content.json, scrub), lambda _, text: scrub(text))
        return msgspec.structs.replace(content, json=masked)
    if isinstance(content.text, str):
        return msgspec.structs.replace(content, text=scrub(content.text))
    if isinstance(content.base64, str) and scrub(content.base64) != content.base64:
        return msgspec.structs.replace(content, base64=UNSET, text=MASK)
    return content


def _masked_chunk(chunk: Chunk, scrub: Scrub) -> Chunk:
    masked = msgspec.structs.replace(_masked_content(chunk, scrub), event=scrub(chunk.event))
    if masked.data_ is UNSET:
        return masked
    value = _mapped(_renamed(masked.data_, scrub), lambda _, text: scrub(text))
    return msgspec.structs.replace(masked, data_=value)


def _with_joined_masked(chunks: tuple[Chunk, ...], scrub: Scrub) -> tuple[Chunk, ...]:
    """Mask keys of which each chunk has only a piece.

    The first chunk then has the whole text of that place, and the others none.
    """
    joined: dict[Place, list[str]] = {}

    def collected(place: Place, text: str) -> str:
        joined.setdefault(place, []).append(text)
        return text

    for chunk in chunks:
        if chunk.data_ is not UNSET:
            _mapped(chunk.data_, collected)
    texts = {place: "".join(pieces) for place, pieces in joined.items()}
    masked = {place: scrub(text) for place, text in texts.items()}
    left = {place: text for place, text in masked.items() if text != texts[place]}
    if not left:
        return chunks

    def replaced(place: Place, text: str) -> str:
        if place not in left:
            return text
        whole, left[place] = left[place], ""
        return whole

    return tuple(
        chunk
        if chunk.data_ is UNSET
        else msgspec.structs.replace(chunk, data_=_mapped(chunk.data_, replaced))
        for chunk in chunks
    )


def _renamed(value: Json, scrub: Scrub) -> Json:
    """Return JSON with the names of its members masked."""
    match value:
        case dict():
            return {scrub(name): _renamed(one, scrub) for name, one in value.items()}
        case list():
            return [_renamed(one, scrub) for one in value]
        case _:
            return value


def _mapped(value: Json, change: Callable[[Place, str], str], at: Place = ()) -> Json:
    """Return JSON with its texts changed; a place counts a choice by its own index."""
    match value:
        case str():
            return change(at, value)
        case dict():
            return {
                name: MASK
                if isinstance(one, str) and _is_secret_member(name)
                else _mapped(one, change, (*at, name))
                for name, one in value.items()
            }
        case list():
            return [_mapped(one, change, (*at, _index(one, n))) for n, one in enumerate(value)]
        case _:
            return value


def _index(one: Json, position: int) -> int:
    index = one.get("index") if isinstance(one, dict) else None
    return index if isinstance(index, int) else position
