"""One instance as its page shows it: what was sent, what came back, what became of it.

Answers are prose: Markdown becomes HTML that holds nothing a browser would run or fetch.
"""

import re
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
from poeflow.records import InstanceRecord, RequestRow
from poeflow.report.pages.groups import Numbered
from poeflow.report.pages.words import MOST_TEXT, harmless, pretty

_HASHED: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);sha256,([0-9a-f]{64})")
_ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer"})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message.

    `text` is what was said, or how an attachment is called; `digest` the SHA-256 of an attachment's
    bytes, empty where only its address is known. A `call` is JSON.
    """

    kind: Literal["text", "attachment", "call"]
    text: str
    media_type: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """Who said what. `role` is one the API knows, or `other`."""

    role: str
    parts: tuple[Part, ...]


def body_of(request: Mapping[str, Json] | None) -> Mapping[str, Json]:
    """Return the body of a request in the history, empty where there is none."""
    body = (request or {}).get("body")
    return body if isinstance(body, dict) else {}


def messages_of(body: Mapping[str, Json]) -> tuple[Message, ...]:
    """Return the messages of a request; what has an unknown shape is shown as its JSON."""
    found = body.get("messages")
    return tuple(_message(one) for one in found) if isinstance(found, list) else ()


def parameters_of(body: Mapping[str, Json]) -> Mapping[str, str]:
    """Return all else that a request asked for, each as text."""
    given = {name: value for name, value in body.items() if name not in ("messages", "model")}
    return {
        name: value if isinstance(value, str) else pretty(value) for name, value in given.items()
    }


def digests_of(record: InstanceRecord) -> frozenset[str]:
    """Return the hashes of all files an instance names: what it was given and what it wrote."""
    messages = messages_of(body_of(record.request))
    given = {part.digest for message in messages for part in message.parts if part.digest}
    return frozenset(given | set(record.files.values()))


def _message(one: Json) -> Message:
    if not isinstance(one, dict):
        return Message("other", (Part("call", pretty(one)),))
    role = str(one.get("role"))
    parts = [*_content(one.get("content"))]
    if one.get("tool_calls"):
        parts.append(Part("call", pretty(one["tool_calls"])))
    return Message(role if role in _ROLES else "other", tuple(parts))


def _content(content: Json) -> Iterator[Part]:
    if isinstance(content, str):
        yield Part("text", content)
    elif isinstance(content, list):
        yield from (_part(one) for one in content)


def _part(one: Json) -> Part:
    match one:
        case {"type": "text", "text": str(text)}:
            return Part("text", text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _attachment("", url)
        case {"type": "file", "file": {"filename": str(name), "file_data": str(url)}}:
            return _attachment(name, url)
        case _:
            return Part("call", pretty(one))


def _attachment(name: str, url: str) -> Part:
    found = _HASHED.fullmatch(url)
    if found is None:
        return Part("attachment", name or url)
    return Part("attachment", name, media_type=found[1], digest=found[2])


MOST: Final = 100_000
"""Characters of Markdown that are read as such; hostile ones of this length take 2 s."""
_DEEPEST: Final = 20
_REL: Final = "noopener noreferrer nofollow"
_WEB: Final = ("http://", "https://")


def prose(text: str, pictures: Mapping[str, str]) -> Markup | None:
    """Return Markdown as HTML, None where it is too long or nested too deeply to be read as such.

    Links go to http and https, and tell nobody where they were followed. `pictures` are those
    that are shown, by project path with their address; all others become links.
    """
    if len(text) > MOST:
        return None
    parser = MarkdownIt(
        "commonmark", {"html": False, "maxNesting": _DEEPEST}, renderer_cls=_Renderer
    )
    parser.enable(["table", "strikethrough"])
    env = {"pictures": pictures}
    tokens = parser.parse(harmless(text), env)
    if any(token.level >= _DEEPEST - 1 for token in tokens):  # what is deeper would be left out
        return None
    html = parser.renderer.render(tokens, parser.options, env)
    # An entity may have become what was harmless as written.
    return Markup(harmless(html))  # noqa: S704 - made by the renderer below, which escapes


class _Renderer(RendererHTML):
    """Leaves out what a page must not hold: styles, other links, pictures from elsewhere."""

    def link_open(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        target = str(tokens[idx].attrGet("href") or "")
        if target.startswith(_WEB):
            return f'<a href="{escape(target)}" rel="{_REL}">'
        return f'<a class="away" title="{escape(target)}">'

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        source = str(tokens[idx].attrGet("src") or "")
        told = tokens[idx].content or source
        place = env["pictures"].get(source.removeprefix("//"))
        if place is not None:
            return f'<img src="{escape(place)}" alt="{escape(told)}">'
        target = f' href="{escape(source)}" rel="{_REL}"' if source.startswith(_WEB) else ""
        return f'<a class="away"{target} title="{escape(source)}">picture: {escape(told)}</a>'

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])


def _cell(token: Token) -> str:
    """Return the start of a table's cell, aligned by a class: a style is not allowed."""
    style = str(token.attrGet("style") or "")
    aligned = style.removeprefix("text-align:")
    return (
        f'<{token.tag} class="{aligned}">' if aligned in ("right", "center") else f"<{token.tag}>"
    )


Place = Callable[[Numbered, str], str | None]
"""Gives the address of the picture with a SHA-256 that an instance names, None where it is gone."""
_PICTURE: Final = "image/"


@dataclass(frozen=True, slots=True)
class File:
    """A file an instance wrote. `place` is where its picture is, None for other files."""

    path: str
    digest: str
    place: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A request with its raw JSON, as far as that is shown."""

    row: RequestRow
    request: str
    answer: str
    cost: float | None


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance, ready to be shown.

    `pictures` are the addresses of attached pictures by their hash. `answer` is the text as prose,
    None where it is shown as it is; `data` is JSON, empty where the answer is no data.
    """

    one: Numbered
    model: str
    messages: tuple[Message, ...]
    parameters: Mapping[str, str]
    pictures: Mapping[str, str]
    files: tuple[File, ...]
    answer: Markup | None
    data: str
    sent: tuple[Sent, ...]
    cost: float | None

    @property
    def record(self) -> InstanceRecord:
        return self.one.record

    @property
    def text(self) -> str:
        """The answer as it came, up to a length that browsers bear."""
        return (self.record.text or "")[:MOST_TEXT]

    @property
    def left_out(self) -> int:
        """How many characters of the answer are not in `text`."""
        return max(len(self.record.text or "") - MOST_TEXT, 0)


def instance_view(
    one: Numbered, requests: Sequence[RequestRow], *, place: Place, prices: Prices
) -> InstanceView:
    """Return what the page of an instance shows."""
    record = one.record
    body = body_of(record.request)
    messages = messages_of(body)
    files = tuple(_files(one, place))
    text, data = record.text or "", pretty(record.data) if record.data is not None else ""
    places = {file.path.removeprefix("//"): file.place for file in files if file.place}
    sent = tuple(_sent(row, prices) for row in requests)
    return InstanceView(
        one=one,
        model=record.model or str(body.get("model", "")),
        messages=messages,
        parameters=parameters_of(body),
        pictures=dict(_attached(one, messages, place)),
        files=files,
        answer=prose(text, places) if text.strip() and not data else None,
        data=data[:MOST_TEXT],
        sent=sent,
        cost=_sum([each.cost for each in sent]),
    )


def _files(one: Numbered, place: Place) -> Iterator[File]:
    for path, digest in one.record.files.items():
        yield File(path, digest, place(one, digest))


def _attached(
    one: Numbered, messages: Sequence[Message], place: Place
) -> Iterator[tuple[str, str]]:
    for message in messages:
        for part in message.parts:
            if part.media_type.startswith(_PICTURE):
                found = place(one, part.digest)
                if found is not None:
                    yield part.digest, found


def _sent(row: RequestRow, prices: Prices) -> Sent:
    answer = row.answer.answer if row.answer is not None else None
    return Sent(row, _raw(row.record.request), _raw(answer), _cost(row, prices))


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
