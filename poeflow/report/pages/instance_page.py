"""One instance as its page shows it: what was sent, what came back, what became of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from poeflow.costs import Prices
from poeflow.digest import Json
from poeflow.records import InstanceRecord, RequestRow
from poeflow.report.pages.conversation import Message, body_of, messages_of, parameters_of
from poeflow.report.pages.groups import Numbered
from poeflow.report.pages.prose import prose
from poeflow.report.pages.words import MOST_TEXT, pretty

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
    price = prices(row.record.model)
    if price is None or None in tokens:
        return None
    cost = price.cost(tokens[0] or 0, tokens[-1] or 0)
    return None if cost is None else float(cost)


def _sum(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None
