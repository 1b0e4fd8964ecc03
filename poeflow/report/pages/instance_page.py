"""The data of the page of an instance: request, answer, attempts, files.

An answer in Markdown becomes HTML that holds nothing a browser would run or fetch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from poeflow.costs import Prices, cost_of
from poeflow.digest import Json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.records import InstanceRecord, RequestRow
from poeflow.report.history import ServedNames, request_body, response_of
from poeflow.report.pages.groups import NumberedInstance
from poeflow.report.pages.words import MOST_TEXT, harmless, pretty

_HASHED: Final = lazy_pattern(r"data:([\w.+-]+/[\w.+-]+);sha256,([0-9a-f]{64})")
_ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer"})
MOST: Final = 100_000
"""Longer Markdown is shown as it is; a hostile text of this length takes 2 s."""
_DEEPEST: Final = 20
_REL: Final = "noopener noreferrer nofollow"
_WEB: Final = ("http://", "https://")
PictureAddress = Callable[[NumberedInstance, str], str | None]
"""Returns the address of a picture of an instance by its SHA-256, None if it is gone."""
_PICTURE: Final = "image/"


@dataclass(frozen=True, slots=True)
class ChatMessagePart:
    """A part of a message.

    `text` is the text, or the name of an attachment; `digest` is the SHA-256 of an attachment,
    empty if only its address is known. A `call` is JSON.
    """

    kind: Literal["text", "attachment", "call"]
    text: str
    media_type: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message. `role` is one that the API knows, or `other`."""

    role: str
    parts: tuple[ChatMessagePart, ...]


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that an instance wrote. `address` is that of a picture, None for other files."""

    path: str
    digest: str
    address: str | None


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request with its raw JSON, which may be cut."""

    row: RequestRow
    request: str
    answer: str
    cost: float | None
    response: ServedNames


@dataclass(frozen=True, slots=True)
class InstanceView:
    """The data of the page of an instance.

    `model` is the name by which the model answered, `asked` the one in its request. `pictures` are
    the addresses of attached pictures by their hash. `answer` is the text as HTML, None if it is
    shown as it is; `data` is JSON, empty if the answer is not data.
    """

    one: NumberedInstance
    model: str
    asked: str
    messages: tuple[ChatMessage, ...]
    parameters: Mapping[str, str]
    pictures: Mapping[str, str]
    files: tuple[WrittenFile, ...]
    answer: Markup | None
    data: str
    sent: tuple[SentRequest, ...]
    cost: float | None

    @property
    def record(self) -> InstanceRecord:
        return self.one.record

    @property
    def text(self) -> str:
        """The answer as it came, up to a length that browsers can show."""
        return (self.record.text or "")[:MOST_TEXT]

    @property
    def left_out(self) -> int:
        """How many characters of the answer are not in `text`."""
        return max(len(self.record.text or "") - MOST_TEXT, 0)


def instance_view(
    one: NumberedInstance,
    requests: Sequence[RequestRow],
    *,
    address_of: PictureAddress,
    prices: Prices,
) -> InstanceView:
    """Return the data of the page of an instance."""
    record = one.record
    body = request_body(record.request)
    messages = messages_of(body)
    files = tuple(_files(one, address_of))
    text, data = record.text or "", pretty(record.data) if record.data is not None else ""
    addresses = {file.path.removeprefix("//"): file.address for file in files if file.address}
    sent = tuple(_sent(row, prices) for row in requests)
    return InstanceView(
        one=one,
        model=record.model or str(body.get("model", "")),
        asked=str(body.get("model", "")),
        messages=messages,
        parameters=parameters_of(body),
        pictures=dict(_attached(one, messages, address_of)),
        files=files,
        answer=prose(text, addresses) if text.strip() and not data else None,
        data=data[:MOST_TEXT],
        sent=sent,
        cost=_sum([each.cost for each in sent]),
    )


def messages_of(body: Mapping[str, Json]) -> tuple[ChatMessage, ...]:
    """Return the messages of a request; one of an unknown shape becomes its JSON."""
    found = body.get("messages")
    return tuple(_message(one) for one in found) if isinstance(found, list) else ()


def parameters_of(body: Mapping[str, Json]) -> Mapping[str, str]:
    """Return the other parameters of a request, each as text."""
    given = {name: value for name, value in body.items() if name not in ("messages", "model")}
    return {
        name: value if isinstance(value, str) else pretty(value) for name, value in given.items()
    }


def digests_of(record: InstanceRecord) -> frozenset[str]:
    """Return the hashes of all files of an instance: attachments and outputs."""
    messages = messages_of(request_body(record.request))
    given = {part.digest for message in messages for part in message.parts if part.digest}
    return frozenset(given | set(record.files.values()))


def prose(text: str, pictures: Mapping[str, str]) -> Markup | None:
    """Return Markdown as HTML, None if it is too long or nested too deeply.

    Links go to http and https only, and send no referrer. `pictures` are the addresses of those
    shown, by project path; all others become links.
    """
    if len(text) > MOST:
        return None
    parser = MarkdownIt(
        "commonmark", {"html": False, "maxNesting": _DEEPEST}, renderer_cls=_Renderer
    )
    parser.enable(["table", "strikethrough"])
    env = {"pictures": pictures}
    tokens = parser.parse(harmless(text), env)
    if any(token.level >= _DEEPEST - 1 for token in tokens):  # deeper parts would be left out
        return None
    html = parser.renderer.render(tokens, parser.options, env)
    # An entity may have become a control character.
    return Markup(harmless(html))  # noqa: S704 - made by the renderer below, which escapes


def _files(one: NumberedInstance, address_of: PictureAddress) -> Iterator[WrittenFile]:
    for path, digest in one.record.files.items():
        yield WrittenFile(path, digest, address_of(one, digest))


def _attached(
    one: NumberedInstance, messages: Sequence[ChatMessage], address_of: PictureAddress
) -> Iterator[tuple[str, str]]:
    for message in messages:
        for part in message.parts:
            if part.media_type.startswith(_PICTURE):
                found = address_of(one, part.digest)
                if found is not None:
                    yield part.digest, found


def _sent(row: RequestRow, prices: Prices) -> SentRequest:
    answer = row.answer.answer if row.answer is not None else None
    raw = (_raw(row.record.request), _raw(answer))
    return SentRequest(row, *raw, _cost(row, prices), response_of(row))


def _raw(value: dict[str, Json] | None) -> str:
    return "" if value is None else pretty(value)[:MOST_TEXT]


def _cost(row: RequestRow, prices: Prices) -> float | None:
    tokens = (row.answer.prompt_tokens, row.answer.completion_tokens) if row.answer else (None,)
    if None in tokens:
        return None
    cost = cost_of(prices, row.record.model, tokens[0] or 0, tokens[-1] or 0)
    return None if cost is None else float(cost)


def _sum(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def _message(one: Json) -> ChatMessage:
    if not isinstance(one, dict):
        return ChatMessage("other", (ChatMessagePart("call", pretty(one)),))
    role = str(one.get("role"))
    parts = [*_content(one.get("content"))]
    if one.get("tool_calls"):
        parts.append(ChatMessagePart("call", pretty(one["tool_calls"])))
    return ChatMessage(role if role in _ROLES else "other", tuple(parts))


def _content(content: Json) -> Iterator[ChatMessagePart]:
    if isinstance(content, str):
        yield ChatMessagePart("text", content)
    elif isinstance(content, list):
        yield from (_part(one) for one in content)


def _part(one: Json) -> ChatMessagePart:
    match one:
        case {"type": "text", "text": str(text)}:
            return ChatMessagePart("text", text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _attachment("", url)
        case {"type": "file", "file": {"filename": str(name), "file_data": str(url)}}:
            return _attachment(name, url)
        case _:
            return ChatMessagePart("call", pretty(one))


def _attachment(name: str, url: str) -> ChatMessagePart:
    found = _HASHED.fullmatch(url)
    if found is None:
        return ChatMessagePart("attachment", name or url)
    return ChatMessagePart("attachment", name, media_type=found[1], digest=found[2])


class _Renderer(RendererHTML):
    """Leaves out styles, other links, and pictures from elsewhere."""

    def link_open(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        target = str(tokens[idx].attrGet("href") or "")
        if target.startswith(_WEB):
            return f'<a href="{escape(target)}" rel="{_REL}">'
        return f'<a class="away" title="{escape(target)}">'

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        source = str(tokens[idx].attrGet("src") or "")
        name = tokens[idx].content or source
        address = env["pictures"].get(source.removeprefix("//"))
        if address is not None:
            return f'<img src="{escape(address)}" alt="{escape(name)}">'
        target = f' href="{escape(source)}" rel="{_REL}"' if source.startswith(_WEB) else ""
        return f'<a class="away"{target} title="{escape(source)}">picture: {escape(name)}</a>'

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])


def _cell(token: Token) -> str:
    """Return the start tag of a table cell, aligned by a class, since styles are not allowed."""
    style = str(token.attrGet("style") or "")
    aligned = style.removeprefix("text-align:")
    return (
        f'<{token.tag} class="{aligned}">' if aligned in ("right", "center") else f"<{token.tag}>"
    )
