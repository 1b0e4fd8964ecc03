"""Runs of the history as people read them: many as a table, one with its instances."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from poeflow.digest import encode_json
from poeflow.durations import spoken
from poeflow.errors import EXIT_CLASSES
from poeflow.facts import outer_step
from poeflow.records import InstanceRecord, RunRow, how_to_go_on
from poeflow.redact import visible
from poeflow.report.log import unknown_outcome
from poeflow.report.terminal.marks import Marks, Work
from poeflow.report.terminal.tables import aligned
from poeflow.report.terminal.text import Line

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
    """Return how a run ended: `ok`, a class of failure, or that it did not end."""
    if row.end is None:
        return "running" if is_running else "unfinished"
    return EXIT_CLASSES.get(row.end.exit_code, "failed")


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
