"""One instance of a run as people read it: what was sent, what came back, what became of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from poeflow.digest import Json, encode_json
from poeflow.durations import spoken
from poeflow.facts import Fact
from poeflow.records import InstanceRecord, RequestRow
from poeflow.redact import visible
from poeflow.report.history import tokens_of
from poeflow.report.terminal.text import Line

UNKNOWN: Final = "outcome unknown: it may have been billed"
UNKNOWN_REQUEST: Final = "its request is not known before that"
NO_REQUEST: Final = "it asks no model"


def instance_lines(one: InstanceRecord, requests: Sequence[RequestRow]) -> Iterator[Line]:
    """Yield everything the history has of an instance."""
    yield ((visible(_ended(one)), "bold"),)
    if one.reason:
        yield ((visible(one.reason), "red" if one.status == "failed" else "dim"),)
    yield from _request(body_of(one))
    if one.reasoning:
        yield from _section("reasoning", one.reasoning, style="dim")
    if one.text is not None:
        yield from _section("answer" if one.request else "text", one.text)
    for row in requests:
        yield ()
        yield ((visible(_sent(row)), "dim" if row.answer and row.answer.answer else "red"),)
    for verdict in one.verdicts:
        mark = "as expected" if verdict.get("passed") else "not as expected"
        yield ((visible(f"{mark}: {verdict.get('message') or verdict.get('kind')}"), ""),)
    for path, digest in one.files.items():
        yield ((visible(f"wrote {path[2:]} ({digest[:12]})"), "dim"),)


def request_lines(fact: Fact) -> Iterator[Line]:
    """Yield the request of an instance that is planned, as it would be sent."""
    yield ((visible(f"{fact.id}: {'; '.join((fact.state, *fact.reasons))}"), "bold"),)
    if fact.request is None:
        is_unknown = fact.state == "unknown"
        yield ((UNKNOWN_REQUEST if is_unknown else NO_REQUEST, "dim"),)
        return
    body = fact.request.get("body")
    yield from _request(body if isinstance(body, dict) else {})


def body_of(one: InstanceRecord) -> dict[str, Json]:
    """Return the body of the first request of an instance, empty where it sent none."""
    body = (one.request or {}).get("body")
    return body if isinstance(body, dict) else {}


def messages_of(body: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Yield who said what in a request; what is no text is told by its JSON."""
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        content, calls = message.get("content"), message.get("tool_calls")
        text = "\n".join(_part(part) for part in content) if isinstance(content, list) else content
        told = [text if isinstance(text, str) else "", _json(calls) if calls else ""]
        yield str(message.get("role")), "\n".join(filter(None, told))


def _request(body: Mapping[str, Json]) -> Iterator[Line]:
    settings = {key: value for key, value in body.items() if key != "messages"}
    if settings:
        yield ((visible(_json(settings)), "dim"),)
    for role, text in messages_of(body):
        yield from _section(role, text)


def _part(part: Json) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else _json(part)


def _section(title: str, text: str, *, style: str = "") -> Iterator[Line]:
    yield ()
    yield ((f"-- {visible(title)} --", "cyan"),)
    for line in text.splitlines() or [""]:
        yield ((visible(line), style),)


def _ended(one: InstanceRecord) -> str:
    how = one.source or ("current, nothing was done" if one.status == "ok" else one.status)
    told = [how if one.status == "ok" or not one.source else f"{one.status}, {one.source}"]
    told += [f"took {spoken(one.seconds)}"] if one.seconds else []
    told += [tokens_of(one)] if tokens_of(one) else []
    told += [one.model] if one.model else []
    told += [f"answered by {one.answered_by}"] if one.answered_by else []
    return f"{one.id}: {', '.join(told)}"


def _sent(row: RequestRow) -> str:
    record, answer = row.record, row.answer
    kind = "" if record.purpose == "answer" else f" ({record.purpose})"
    head = f"request {row.id} to {record.model}{kind}, {record.began:.1f} s into the run: "
    if answer is None:
        return head + UNKNOWN
    retries = f" after {len(answer.retries)} failed: {'; '.join(answer.retries)}"
    took = f"in {spoken(answer.ended - record.began)}"
    end = f"answered {took}" if answer.error is None else f"failed {took}: {answer.error}"
    return head + end + (retries if answer.retries else "")


def _json(value: object) -> str:
    return encode_json(value).decode("utf-8", "replace")
