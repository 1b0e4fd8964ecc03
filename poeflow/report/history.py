"""Earlier runs and their instances as text."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from poeflow.clock import spoken
from poeflow.digest import Json, encode_json
from poeflow.records import (
    InstanceRecord,
    InstanceStatus,
    RequestRow,
    RunRow,
    how_to_go_on,
    outer_step,
)
from poeflow.redact import visible
from poeflow.report.log import unknown_outcome
from poeflow.report.terminal.text import Line, Marks, Work, aligned

_HEAD: Final = (
    "run", "when", "flow", "result", "commit", "asked", "cached", "tokens", "USD", "took"
)  # fmt: skip
_WORDS: Final = 5
_STYLES: Final = {"ok": "green", "running": "cyan", "unfinished": "yellow", "interrupted": "yellow"}
_SHORT: Final = 8


def table(rows: Sequence[RunRow], *, running: int | None = None) -> Iterator[Line]:
    """Yield a line for each run below a head, the newest first as they come.

    `running` is the number of the one that is at work.
    """
    results = [result_of(row, is_running=row.id == running) for row in rows]
    cells = [_row(row, result) for row, result in zip(rows, results, strict=True)]
    head, *lines = aligned([_HEAD, *cells], words=_WORDS)
    yield ((head, "dim"),)
    for result, line in zip(results, lines, strict=True):
        before, _, after = line.partition(f"  {result}")
        yield ((f"{before}  ", ""), (result, _STYLES.get(result, "red")), (after, ""))


def run_lines(
    row: RunRow, instances: Sequence[InstanceRecord], marks: Marks, *, is_running: bool
) -> Iterator[Line]:
    """Yield what there is to say of one run: itself, then a line for each of its instances."""
    yield from headed(row, is_running=is_running)
    if not instances:
        return
    yield ()
    ordered = in_order(row, instances)
    cells = aligned([_instance(one) for one in ordered], words=3)
    for one, line in zip(ordered, cells, strict=True):
        mark, style = marks.of(_work(one))
        yield ((f"{mark} ", style), (marks.shown(line), ""))
        if one.reason:
            yield ((f"    {marks.shown(one.reason)}", "red" if one.status == "failed" else "dim"),)


def in_order(row: RunRow, instances: Iterable[InstanceRecord]) -> list[InstanceRecord]:
    """Return the instances of a run as its steps are ordered; those of one step as they ended."""
    position = {step: index for index, step in enumerate(row.record.steps)}
    last = len(position)
    return sorted(instances, key=lambda one: position.get(outer_step(one.id), last))


def headed(row: RunRow, *, is_running: bool) -> Iterator[Line]:
    """Yield which run it is: of what flow, when, on which commit, with which inputs."""
    record, result = row.record, result_of(row, is_running=is_running)
    simulated = " (simulated)" if record.simulated else ""
    name = visible(f"run {row.id}: {record.flow[2:]}{simulated} ")
    yield ((name, "bold"), (result, _STYLES.get(result, "red")))
    commit = f", commit {_commit(row)}" if record.commit else ""
    yield ((f"{when(record.started)}{commit}, poeflow {visible(record.version)}", "dim"),)
    if row.end is None and not is_running:
        yield (("it was killed: it has no end", "dim"),)
    yield ((_spent(row, is_running=is_running), "dim"),)
    how = "" if is_running else how_to_go_on(row)
    if how:
        yield ((how, "dim"),)
    if record.inputs:
        yield ((visible(f"inputs {encode_json(record.inputs).decode('utf-8', 'replace')}"), "dim"),)


def when(seconds: float) -> str:
    """Return a time as the user's clock shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def result_of(row: RunRow, *, is_running: bool) -> str:
    """Return how a run ended, or that it is at work."""
    return "running" if row.end is None and is_running else row.result


def _row(row: RunRow, result: str) -> tuple[str, ...]:
    end, counts = row.end, row.counts
    return (
        str(row.id),
        when(row.record.started),
        visible(row.record.flow[2:]) + (" (simulated)" if row.record.simulated else ""),
        result,
        _commit(row) or "-",
        f"{counts.asked:,}",
        f"{counts.cached:,}",
        f"{counts.tokens:,}",
        "-" if counts.cost_usd is None else f"{counts.cost_usd:.4f}",
        "-" if end is None else spoken(end.seconds),
    )


def _commit(row: RunRow) -> str:
    if row.record.commit is None:
        return ""
    return visible(row.record.commit[:_SHORT]) + ("+" if row.record.is_dirty else "")


def _spent(row: RunRow, *, is_running: bool) -> str:
    found = row.counts
    counts = {
        "asked": found.asked,
        "cached": found.cached,
        "rendered": found.rendered,
        "failed": found.failed,
        "skipped": found.skipped,
    }
    told = [f"{count:,} {word}" for word, count in counts.items() if count]
    told += [f"{found.requests:,} request{'' if found.requests == 1 else 's'}"]
    told += [f"{found.tokens:,} tokens"]
    told += [] if row.end is None else [f"took {spoken(row.end.seconds)}"]
    told += [] if found.cost_usd is None else [f"about {found.cost_usd:.4f} USD"]
    told += [unknown_outcome(found.unknown)] if found.unknown and not is_running else []
    return ", ".join(told)


def _instance(one: InstanceRecord) -> tuple[str, ...]:
    return (
        visible(one.id).replace("\n", " "),
        one.status if one.status != "ok" else one.source or "current",
        visible(one.answered_by or one.model or "").replace("\n", " "),
        tokens_of(one),
        spoken(one.seconds) if one.seconds else "",
    )


def tokens_of(one: InstanceRecord) -> str:
    """Return the tokens an instance used, as reported."""
    counts = (one.prompt_tokens, one.completion_tokens)
    return "" if None in counts else f"{counts[0]:,}+{counts[1]:,} tokens"


def _work(one: InstanceRecord) -> Work:
    if one.status != "ok":
        return one.status
    return "done" if one.source is not None else "current"


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


def request_lines(fact: InstanceStatus) -> Iterator[Line]:
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
