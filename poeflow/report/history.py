"""Formats runs of the history and their instances as lines."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from operator import mul
from typing import Final

import msgspec

from poeflow.bots import other_name
from poeflow.clock import spoken
from poeflow.digest import SHORT, Json, encode_json, hash_prefix
from poeflow.records import (
    InstanceRecord,
    InstanceStatus,
    Records,
    RequestRow,
    RunFilter,
    RunRow,
    how_to_go_on,
    outer_step,
)
from poeflow.redact import visible
from poeflow.report.terminal.run_summary import unknown_outcome
from poeflow.report.terminal.text import Line, Marks, Work, aligned, cells

_HEAD: Final = (
    "run", "when", "flow", "result", "commit", "asked", "cached", "tokens", "USD", "took"
)  # fmt: skip
_WORDS: Final = ("run", "when", "flow", "result", "commit")
LESS: Final = ("commit", "cached", "took", "tokens", "asked")
"""Columns that are left out, one after another, where the table is too wide."""
_STYLES: Final = {"ok": "green", "running": "cyan", "unfinished": "yellow", "interrupted": "yellow"}
_SHORT: Final = 8
MAX_TEXT: Final = 300
"""How many characters of each answer of a loop are shown."""
UNKNOWN: Final = "outcome unknown: it may have been billed"
UNKNOWN_REQUEST: Final = "its request is not known before that"
NO_REQUEST: Final = "it asks no model"


def run_table(
    rows: Sequence[RunRow], *, running: int | None = None, width: int | None = None
) -> Iterator[Line]:
    """Yield a table of runs, a line for each, with the columns that fit into `width`.

    `running` is the number of the run that has not ended.
    """
    results = [result_of(row, is_running=row.id == running) for row in rows]
    table = [_row(row, result) for row, result in zip(rows, results, strict=True)]
    head, *lines = _fitting([_HEAD, *table], width)
    yield ((head, "dim"),)
    for result, line in zip(results, lines, strict=True):
        before, _, after = line.partition(f"  {result}")
        yield ((f"{before}  ", ""), (result, _style_of(result)), (after, ""))


def _fitting(rows: Sequence[tuple[str, ...]], width: int | None) -> list[str]:
    """Return the rows of the table as lines, without columns for which there is no room."""
    for count in range(len(LESS) + 1):
        kept = [at for at, name in enumerate(_HEAD) if name not in LESS[:count]]
        words = sum(_HEAD[at] in _WORDS for at in kept)
        lines = aligned([tuple(row[at] for at in kept) for row in rows], words=words)
        if width is None or all(cells(((line, ""),)) <= width for line in lines):
            break
    return lines


def run_lines(
    row: RunRow, instances: Sequence[InstanceRecord], marks: Marks, *, is_running: bool
) -> Iterator[Line]:
    """Yield the lines of one run: its facts, then a line for each of its instances."""
    yield from headed(row, is_running=is_running)
    if not instances:
        return
    yield ()
    yield from instance_rows(in_order(row, instances), marks)


def instance_rows(
    instances: Sequence[InstanceRecord], marks: Marks, *, with_text: bool = False
) -> Iterator[Line]:
    """Yield a line for each instance, and why it is not as it should be.

    `with_text` also what it does not meet at lower levels, and how its text begins.
    """
    table = aligned([_instance(one) for one in instances], words=3)
    for one, line in zip(instances, table, strict=True):
        mark, style = marks.of(_work(one))
        yield ((f"{mark} ", style), (marks.shown(line), ""))
        if one.reason:
            yield ((f"    {marks.shown(one.reason)}", "red" if one.status == "failed" else "dim"),)
        elif one.unread:
            yield ((f"    its default stands in: {marks.shown(one.unread)}", "yellow"),)
        if with_text and one.status == "ok":
            yield from (
                ((f"    {marks.shown(miss)}", "yellow"),) for miss in unmet_in(one.verdicts)
            )
        if with_text and one.text:
            yield (
                (
                    f"    {_beginning(marks.shown(one.text[: 2 * MAX_TEXT], with_joiners=True))}",
                    "dim",
                ),
            )


def _beginning(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def instance_lines(one: InstanceRecord, requests: Sequence[RequestRow]) -> Iterator[Line]:
    """Yield everything that the history knows of an instance."""
    yield ((visible(_ended(one)), "bold"),)
    if one.reason:
        yield ((visible(one.reason), "red" if one.status == "failed" else "dim"),)
    yield from _request(request_body(one.request))
    if one.reasoning:
        yield from _section("reasoning", one.reasoning, style="dim")
    is_answer = "messages" in request_body(one.request)
    if one.answer is not None:
        yield from _section("answer" if is_answer else "output", one.answer)
        yield ((visible(f"not usable: {one.unread}"), "yellow"),)
    if one.text is not None:
        title = "answer" if is_answer else "text"
        yield from _section(title if one.answer is None else "default in its place", one.text)
    for row in requests:
        yield ()
        style = "dim" if row.answer and row.answer.answer else "red"
        yield ((visible(_sent(row, one.id)), style),)
        text = answer_text(row)
        if text.strip() and text not in (one.text, one.answer):
            yield from (((visible(line, with_joiners=True), ""),) for line in text.splitlines())
    for verdict in one.verdicts:
        mark = "as expected" if verdict.get("passed") else "not as expected"
        found = graded(verdict)
        said = f"{mark}: {verdict.get('message') or verdict.get('kind')}"
        yield ((visible(f"{said} ({found})" if found else said), ""),)
    if score := scored(one.verdicts):
        yield ((f"score {score}", ""),)
    for path, digest in one.files.items():
        yield ((visible(f"wrote {path[2:]} ({_begun(digest)})"), "dim"),)


def graded(verdict: Mapping[str, Json]) -> str:
    """Return the score and the weight of a verdict in words, empty if it has none of its own."""
    score, weight = _number(verdict.get("score")), _number(verdict.get("weight"))
    parts = [] if score is None else [f"score {_shown(score)}"]
    parts += [] if weight in (None, 1) else [f"weight {_shown(weight or 0)}"]
    return ", ".join(parts)


def scored(verdicts: Sequence[Mapping[str, Json]]) -> str:
    """Return the score of a result in words, empty if nothing is scored."""
    score = score_in(verdicts)
    return "" if score is None else _shown(score)


def score_in(verdicts: Sequence[Mapping[str, Json]]) -> float | None:
    """Return the score of a result by the weights of its verdicts, None if nothing is scored."""
    if not any(graded(one) or one.get("level") == "score" for one in verdicts):
        return None
    weights = [_number(one.get("weight", 1)) or 0 for one in verdicts]
    scores = [_number(one.get("score")) for one in verdicts]
    grades = [
        float(bool(one.get("passed"))) if score is None else score
        for one, score in zip(verdicts, scores, strict=True)
    ]
    whole = sum(weights)
    return sum(map(mul, weights, grades)) / whole if whole else None


def unmet_in(verdicts: Iterable[Mapping[str, Json]]) -> list[str]:
    """Return what each verdict that is not met says."""
    return [
        str(one.get("message") or one.get("kind") or "")
        for one in verdicts
        if not one.get("passed")
    ]


def mean_score(results: Iterable[Sequence[Mapping[str, Json]]]) -> str:
    """Return the mean score of several results by their verdicts, empty if none is scored."""
    scores = [score for score in map(score_in, results) if score is not None]
    return _shown(sum(scores) / len(scores)) if scores else ""


def passed_of(instances: Iterable[InstanceRecord]) -> str:
    """Say how many instances passed: met all that was expected of them, at every level.

    Those that were skipped or current count in neither number; empty if nothing is expected of the
    others, and none failed.
    """
    judged = [one for one in instances if one.status == "failed" or one.source is not None]
    if not any(one.verdicts or one.status == "failed" for one in judged):
        return ""
    passed = sum(one.status == "ok" and not unmet_in(one.verdicts) for one in judged)
    return f"{passed:,} of {len(judged):,} passed"


def _begun(digest: str) -> str:
    """Return the beginning of a hash, also of one in its short form."""
    with contextlib.suppress(ValueError):
        return (hash_prefix(digest) if len(digest) == SHORT else digest)[:12]
    return digest[:12]


def _number(value: Json) -> float | None:
    """Return a number that can be added to others, None for any other value."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    with contextlib.suppress(OverflowError):
        return float(value) if isfinite(value) else None
    return None


def _shown(number: float) -> str:
    return f"{round(number, 2):g}"


def request_lines(status: InstanceStatus) -> Iterator[Line]:
    """Yield the request that a planned instance would send."""
    yield ((visible(f"{status.id}: {'; '.join((status.state, *status.reasons))}"), "bold"),)
    if status.request is None:
        is_unknown = status.state == "unknown"
        yield ((UNKNOWN_REQUEST if is_unknown else NO_REQUEST, "dim"),)
        return
    yield from _request(request_body(status.request))


def headed(row: RunRow, *, is_running: bool) -> Iterator[Line]:
    """Yield the facts of a run: flow, time, commit, inputs, usage."""
    record, result = row.record, result_of(row, is_running=is_running)
    name = visible(f"run {row.id}: {_flow_of(row)} ")
    yield ((name, "bold"), (result, _style_of(result)))
    commit = f", commit {_commit(row)}" if record.commit else ""
    yield ((f"{when(record.started)}{commit}, poeflow {visible(record.version)}", "dim"),)
    if row.end is None and not is_running:
        yield (("it was killed: it has no end", "dim"),)
    if row.end is not None and row.end.reason:
        yield ((visible(row.end.reason), "red"),)
    yield ((_spent(row, is_running=is_running), "dim"),)
    how = "" if is_running else how_to_go_on(row)
    if how:
        yield ((how, "dim"),)
    if record.inputs:
        yield ((visible(f"inputs {encode_json(record.inputs).decode('utf-8', 'replace')}"), "dim"),)


def _flow_of(row: RunRow) -> str:
    """Return the path of a run's flow, and what sets the run apart."""
    notes = ", ".join(row.record.notes)
    return row.record.flow[2:] + (f" ({notes})" if notes else "")


def in_order(row: RunRow, instances: Iterable[InstanceRecord]) -> list[InstanceRecord]:
    """Return the instances of a run in the order of its steps; those of one step as they ended."""
    position = {step: index for index, step in enumerate(row.record.steps)}
    last = len(position)
    return sorted(instances, key=lambda one: position.get(outer_step(one.id), last))


def run_before(records: Records, row: RunRow, *, within: int) -> RunRow | None:
    """Return the run of the same flow before this one, real or simulated as this one is.

    Only the newest runs of the flow are looked at, so many as `within`.
    """
    alike = RunFilter(flow=row.record.flow, simulated=row.record.simulated, limit=within)
    return next((one for one in records.runs(alike) if one.id < row.id), None)


def when(seconds: float) -> str:
    """Return a time as the user's clock shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class ServedNames(msgspec.Struct, frozen=True):
    """The names that a server gave an answer and the model that gave it, None for none."""

    model: str | None
    id: str | None


def response_of(row: RequestRow) -> ServedNames:
    """Return the names in the answer to a request."""
    answer = row.answer.answer if row.answer is not None else None
    model, name = (answer or {}).get("model"), (answer or {}).get("id")
    return ServedNames(
        model=model if isinstance(model, str) else None, id=name if isinstance(name, str) else None
    )


def answer_text(row: RequestRow) -> str:
    """Return the text of the answer to a request, empty if there is none."""
    answer = row.answer.answer if row.answer is not None else None
    choices = (answer or {}).get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def result_of(row: RunRow, *, is_running: bool) -> str:
    """Return how a run ended, or that it is running, and how many failures it passed over."""
    result = "running" if row.end is None and is_running else row.result
    passed_over = row.counts.tolerated
    return f"{result}, {passed_over:,} passed over" if passed_over else result


def _style_of(result: str) -> str:
    word, _, passed_over = result.partition(", ")
    return "yellow" if passed_over and word == "ok" else _STYLES.get(word, "red")


def reported_tokens(one: InstanceRecord) -> str:
    """Return the tokens that an instance used, as reported by the server."""
    counts = (one.prompt_tokens, one.completion_tokens)
    return "" if None in counts else f"{counts[0]:,}+{counts[1]:,} tokens"


def request_body(request: Mapping[str, Json] | None) -> Mapping[str, Json]:
    """Return the body of a request in the history, empty if there is none."""
    body = (request or {}).get("body")
    return body if isinstance(body, dict) else {}


def message_texts(body: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Yield role and text of each message of a request; other parts appear as JSON."""
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        content, calls = message.get("content"), message.get("tool_calls")
        text = "\n".join(_part(part) for part in content) if isinstance(content, list) else content
        texts = [text if isinstance(text, str) else "", _json(calls) if calls else ""]
        yield str(message.get("role")), "\n".join(filter(None, texts))


def _row(row: RunRow, result: str) -> tuple[str, ...]:
    end, counts = row.end, row.counts
    return (
        str(row.id),
        when(row.record.started),
        visible(_flow_of(row)),
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


def _instance(one: InstanceRecord) -> tuple[str, ...]:
    return (
        visible(one.id).replace("\n", " "),
        one.status if one.status != "ok" else one.source or "current",
        visible(one.answered_by or one.model or "").replace("\n", " "),
        reported_tokens(one),
        spoken(one.seconds) if one.seconds else "",
        f"score {score}" if (score := scored(one.verdicts)) else "",
    )


def _work(one: InstanceRecord) -> Work:
    if one.status != "ok":
        return "tolerated" if one.is_tolerated else one.status
    return "done" if one.source is not None else "current"


def _spent(row: RunRow, *, is_running: bool) -> str:
    found = row.counts
    parts = [f"{count:,} {word}" for word, count in found.endings.items()]
    parts += [f"{found.requests:,} request{'' if found.requests == 1 else 's'}"]
    parts += [f"{found.tokens:,} tokens"]
    parts += [] if row.end is None else [f"took {spoken(row.end.seconds)}"]
    parts += [] if found.cost_usd is None else [f"about {found.cost_usd:.4f} USD"]
    parts += [unknown_outcome(found.unknown)] if found.unknown and not is_running else []
    return ", ".join(parts)


def _request(body: Mapping[str, Json]) -> Iterator[Line]:
    settings = {key: value for key, value in body.items() if key != "messages"}
    if settings:
        yield ((visible(_json(settings)), "dim"),)
    for role, text in message_texts(body):
        yield from _section(role, text)


def _part(part: Json) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else _json(part)


def _section(title: str, text: str, *, style: str = "") -> Iterator[Line]:
    yield ()
    yield ((f"-- {visible(title)} --", "cyan"),)
    for line in text.splitlines() or [""]:
        yield ((visible(line, with_joiners=True), style),)


def _ended(one: InstanceRecord) -> str:
    how = one.source or ("current, nothing was done" if one.status == "ok" else one.status)
    parts = [how if one.status == "ok" or not one.source else f"{one.status}, {one.source}"]
    parts += [f"took {spoken(one.seconds)}"] if one.seconds else []
    parts += [reported_tokens(one)] if reported_tokens(one) else []
    parts += [one.model] if one.model else []
    parts += [f"answered by {one.answered_by}"] if one.answered_by else []
    parts += [f"response {one.response_id}"] if one.response_id else []
    return f"{one.id}: {', '.join(parts)}"


def _sent(row: RequestRow, instance: str) -> str:
    record, answer = row.record, row.answer
    kind = "" if record.purpose == "answer" else f" ({record.purpose})"
    whose = "" if record.instance == instance else f" for {record.instance}"
    head = f"request {row.id} to {record.model}{kind}{whose}, {record.began:.1f} s into the run: "
    if answer is None:
        return head + UNKNOWN
    retries = f" after {len(answer.retries)} failed: {'; '.join(answer.retries)}"
    took = f"in {spoken(answer.ended - record.began)}"
    end = f"answered {took}" if answer.error is None else f"failed {took}: {answer.error}"
    if answer.error is None:
        served = response_of(row)
        end += f" by {served.model}" if other_name(record.model, served.model) else ""
        end += f", response {served.id}" if served.id else ""
    return head + end + (retries if answer.retries else "")


def _json(value: object) -> str:
    return encode_json(value).decode("utf-8", "replace")
