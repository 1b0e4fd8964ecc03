"""A comparison of two revisions as a comment in Markdown, of bounded length.

All that comes from files is in code: there GitHub makes no links, no mentions and no references.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from poeflow.redact import visible
from poeflow.report.difference import rewritten
from poeflow.report.github import code_block, escaped
from poeflow.report.revisions.comparison_text import (
    answer_words,
    cause_words,
    flow_words,
    has_text,
    is_short,
    output_words,
    problems_of,
    step_words,
    total_words,
)
from poeflow.report.terminal.text import UNICODE, paired, unstyled
from poeflow.store.revisions.comparisons import Comparison, FlowComparison, StepComparison

MAX_BYTES: Final = 60_000
"""Bytes of a comment: GitHub takes 65,536 characters."""
MARK: Final = "<!-- poeflow diff -->"
"""The first line of a comment, by which a program finds it again."""
_RESERVE: Final = 400
_MAX_DETAIL: Final = 6000
_MAX_LINE: Final = 200
_MOST_CAUSES: Final = 20
_WIDTH: Final = 100
_MOST_LINES: Final = 100
"""How many steps, and how many files, of a flow are listed."""


class _Section(msgspec.Struct, frozen=True):
    """A flow: its list of steps and files, and the texts that changed, each by itself."""

    summary: str
    details: tuple[str, ...]


def comparison_comment(found: Comparison) -> str:
    """Return a comparison as Markdown of at most `MAX_BYTES` bytes of UTF-8.

    What is cut is said: first the texts of later changes, then whole flows.
    """
    head = f"{MARK}\n### poeflow: {_code(_span(found))}\n\n{escaped(total_words(found))}\n"
    left = MAX_BYTES - _size(head) - _RESERVE
    sections: list[_Section] = []
    for flow in found.flows:
        section = _section(flow, found)
        left -= _size(section.summary)
        if left < 0:
            break
        sections.append(section)
    parts, cut = [head], 0
    for section in sections:
        parts.append(section.summary)
        for detail in section.details:
            if _size(detail) > left:
                cut += 1
                continue
            left -= _size(detail)
            parts.append(detail)
    parts += _cut_words(len(found.flows) - len(sections), cut, _span(found))
    return "\n".join(parts)


def _span(found: Comparison) -> str:
    if found.new.commit is None:
        return f"since {found.old.name}"
    dots = found.old.name if "..." in found.old.name else f"{found.old.name}..{found.new.name}"
    return dots[:_MAX_LINE]


def _cut_words(flows: int, texts: int, span: str) -> Iterator[str]:
    parts = [
        f"{count:,} {name}{'s' * (count != 1)}"
        for name, count in (("flow", flows), ("text", texts))
        if count
    ]
    if parts:
        command = f"--{span}" if span.startswith("since ") else span
        yield (
            f"\n{' and '.join(parts)} left out, as a comment has a limit; all of it: "
            f"{_code(f'poeflow diff {command}')}\n"
        )


def _section(flow: FlowComparison, found: Comparison) -> _Section:
    came = f"{_code(flow.old_path)} {escaped('->')} " if flow.old_path is not None else ""
    lines = [f"\n#### {came}{_code(flow.path)}\n\n{escaped(flow_words(flow))}\n"]
    for revision, problem in problems_of(flow, found):
        lines.append(f"- {UNICODE.failed} in {_code(revision)}: {_code(problem)}")
    lines += _listed([f"**{_code(step.id)}**: {_step(step)}" for step in flow.steps], "steps")
    lines += _listed(
        [f"{_code(one.path)}: {escaped(output_words(one))}" for one in flow.outputs], "files"
    )
    return _Section("\n".join(lines) + "\n", tuple(_details(flow)))


def _listed(lines: Sequence[str], what: str) -> Iterator[str]:
    yield from (f"- {line}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"- and {len(lines) - _MOST_LINES:,} more {what}"


def _step(step: StepComparison) -> str:
    """Return a step in one line: what became of it, which other names answered, each cause."""
    causes = [cause_words(cause).removesuffix(":") for cause in step.causes[:_MOST_CAUSES]]
    more = len(step.causes) - len(causes)
    causes += [f"and {more:,} more"] if more else []
    shown = "; ".join(map(_code, (*answer_words(step), *causes)))
    return f"{escaped(step_words(step))}{f'; {shown}' if shown else ''}"


def _details(flow: FlowComparison) -> Iterator[str]:
    """Yield the texts that changed, each folded and by itself."""
    for step in flow.steps:
        for cause in step.causes:
            if not is_short(cause) and cause.old != cause.new:
                title = f"{step.id}: {cause_words(cause).removesuffix(':')}"
                yield _detail(title, cause.old, cause.new)
    for output in flow.outputs:
        if has_text(output):
            yield _detail(output.path, output.old, output.new)


def _detail(title: str, old: str | None, new: str | None) -> str:
    lines, more = rewritten(old, new or "", width=_WIDTH, is_colored=False, marks=UNICODE)
    text = "\n".join(unstyled(line) for line in lines)
    if len(text) > _MAX_DETAIL:
        text, more = f"{text[:_MAX_DETAIL]} {UNICODE.more}", more + 1
    block = code_block(visible(paired(text)))
    note = f"\n\nand {more:,} more lines" if more else ""
    return f"<details><summary>{_code(title)}</summary>\n\n{block}{note}\n\n</details>\n"


def _code(text: str) -> str:
    """Return a text in one line as code, in which nothing is markup."""
    shown = text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]} {UNICODE.more}"
    return f"<code>{escaped(shown)}</code>"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace")) + 1
