"""A comparison of two revisions: as lines of text, and as a comment in Markdown of bounded length.

In a comment all that comes from files is in code: there GitHub makes no links, no mentions and no
references.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypedDict, Unpack

import msgspec

from poeflow.redact import visible
from poeflow.report.difference import rewritten
from poeflow.report.job_summary import code_block, escaped
from poeflow.report.terminal.text import UNICODE, Line, Marks, paired, unstyled
from poeflow.store.revisions.comparisons import (
    Cause,
    Comparison,
    FlowComparison,
    InstanceCounts,
    OutputComparison,
    Spending,
    StepComparison,
)

_SHORT: Final = 80
"""Characters of a value that is shown in one line with what it was before."""
_NARROWEST: Final = 20
_MOST_NAMES: Final = 3
"""How many pairs of names that answered are shown of a step."""
_NESTED: Final = "      "
_EDITS: Final = {
    "edit": "edited by hand and accepted",
    "dropped": "an edit by hand is not accepted any more",
}
_NO_TEXT: Final = "no text, or too long to compare"


class Looks(TypedDict):
    """How lines look: their width in cells, and whether with colours."""

    width: int
    is_colored: bool
    marks: Marks


def comparison_lines(found: Comparison, **looks: Unpack[Looks]) -> Iterator[Line]:
    """Yield the lines of a comparison, texts word by word."""
    marks = looks["marks"]
    for flow in found.flows:
        came = f"{marks.shown(flow.old_path)} -> " if flow.old_path is not None else ""
        yield ((f"{came}{marks.shown(flow.path)}", "bold"), (f": {_flow_words(flow)}", ""))
        for revision, problem in _problems_of(flow, found):
            yield ((f"  in {marks.shown(revision)}: {marks.shown(problem)}", "red"),)
        for step in flow.steps:
            yield ((f"  {marks.shown(step.id)}", "cyan"), (f": {_step_words(step)}", ""))
            yield from (((f"    {marks.shown(one)}", ""),) for one in _answer_words(step))
            for cause in step.causes:
                yield (("    ", ""), (marks.shown(_cause_words(cause)), ""))
                if not _is_short(cause):
                    yield from _block(cause.old, cause.new, **looks)
        for output in flow.outputs:
            yield ((f"  {marks.shown(output.path)}", "cyan"), (f": {_output_words(output)}", ""))
            if _has_text(output):
                yield from _block(output.old, output.new, **looks)


def _block(old: str | None, new: str | None, **looks: Unpack[Looks]) -> Iterator[Line]:
    if old == new:
        yield ((_NESTED, ""), (f"({_NO_TEXT})", "dim"))
        return
    width = max(looks["width"] - len(_NESTED), _NARROWEST)
    lines, more = rewritten(
        old, new or "", width=width, is_colored=looks["is_colored"], marks=looks["marks"]
    )
    yield from (((_NESTED, ""), *line) for line in lines)
    if more:
        yield ((_NESTED, ""), (f"... ({more:,} more lines)", "dim"))


def _problems_of(flow: FlowComparison, found: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the revisions in which a flow cannot be used as it is, each with the reason."""
    if flow.old_problem:
        yield found.old.name, flow.old_problem
    if flow.problem:
        yield found.new.name, flow.problem


def _answer_words(step: StepComparison) -> Iterator[str]:
    """Yield which other names answered, each with the count of instances, at most `_MOST_NAMES`."""
    for one in step.answered[:_MOST_NAMES]:
        if one.before is None:
            words = f"asked {one.model}, answered by {one.by}"
        else:
            words = f"{one.model} answered as {one.by}, before as {one.before}"
        yield f"{words} ({one.instances:,} instance{'s' * (one.instances != 1)})"
    more = len(step.answered) - _MOST_NAMES
    if more > 0:
        yield f"and {more:,} more name{'s' * (more != 1)}"


def _flow_words(flow: FlowComparison) -> str:
    """Return what became of a flow: its instances, and what they cost."""
    words: list[str] = [] if flow.fate == "changed" else [flow.fate]
    counts = _counts_words(flow.instances)
    words += [f"instances {counts}"] if counts else []
    if flow.spent is not None:
        words.append(f"the new answers were {_spending_words(flow.spent)}")
    if flow.to_spend is not None:
        words.append(f"a run would send at least {_spending_words(flow.to_spend)}")
    return "; ".join(words) or "no instance has another result"


def _counts_words(counts: InstanceCounts) -> str:
    """Return counts of instances in words, empty if all are zero."""
    named = {
        "changed": counts.changed,
        "added": counts.added,
        "removed": counts.removed,
        "not run yet": counts.pending,
    }
    return ", ".join(f"{count:,} {name}" for name, count in named.items() if count)


def _spending_words(spending: Spending) -> str:
    """Return requests, tokens and cost in words."""
    many = "s" * (spending.requests != 1)
    words = [f"{spending.requests:,} request{many}", f"{spending.tokens:,} tokens"]
    cost = spending.cost_usd
    return ", ".join([*words, "cost unknown" if cost is None else f"${cost:.4f}"])


def _step_words(step: StepComparison) -> str:
    """Return what became of a step: its instances, and whether it only follows others."""
    words: list[str] = [] if step.fate == "changed" else [step.fate]
    if step.follows:
        only = "only " * (not step.causes and step.fate == "changed")
        words.append(f"{only}follows {', '.join(step.follows)}")
    counts = _counts_words(step.instances)
    words += [counts] if counts else []
    return "; ".join(words) or "no instance has another result"


def _cause_words(cause: Cause) -> str:
    """Return a cause in words: its kind, name and place, and short values."""
    if cause.kind == "answer":
        return "answered again: the request is the same"
    if cause.kind == "edit":
        return _EDITS.get(cause.name, _EDITS["edit"])
    is_named = cause.name != cause.kind
    name = f"{cause.kind} {cause.name}" if is_named else cause.kind
    place = f" ({cause.place})" if cause.place else ""
    if _is_short(cause):
        return f"{name}{place}: {_value(cause.old)} -> {_value(cause.new)}"
    fate = "is new" if cause.old is None else "is gone" if cause.new is None else ""
    return f"{name}{place}{f' {fate}' if fate and cause.old != cause.new else ''}:"


def _value(text: str | None) -> str:
    return "none" if text is None else text


def _is_short(cause: Cause) -> bool:
    """Return whether both values of a cause fit into one line."""
    values = [text for text in (cause.old, cause.new) if text is not None]
    is_prose = cause.kind in ("prompt", "file")
    return cause.kind in ("answer", "edit") or (
        bool(values)
        and not is_prose
        and all(len(text) <= _SHORT and "\n" not in text for text in values)
    )


def _output_words(output: OutputComparison) -> str:
    """Return what became of an output file."""
    by = f" by {output.step}" if output.step else ""
    if output.old_size is None and output.new_size is None:
        return f"written{by}, in neither revision"
    if _has_text(output) or output.fate == "removed":
        return f"{output.fate}, written{by}" if by else output.fate
    sizes = (output.old_size, output.new_size)
    before, after = ("nothing" if size is None else f"{size:,} bytes" for size in sizes)
    return f"{output.fate}, written{by}: {before} -> {after}"


def _has_text(output: OutputComparison) -> bool:
    """Return whether the texts of an output can be compared."""
    is_cut = output.old is None and output.old_size is not None
    return output.new is not None and not is_cut


def total_words(found: Comparison) -> str:
    """Return a sentence about a whole comparison."""
    if not found.flows:
        return "no flow differs in what it reads, asks or writes"
    many = len(found.flows)
    counts = _counts_words(InstanceCounts.total(flow.instances for flow in found.flows))
    differ = f"{many:,} flow{'s differ' if many > 1 else ' differs'}"
    broken = sum(flow.fate == "broken" for flow in found.flows)
    differ += f", {broken:,} broken" if broken else ""
    return f"{differ}; instances {counts}" if counts else differ


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
    lines = [f"\n#### {came}{_code(flow.path)}\n\n{escaped(_flow_words(flow))}\n"]
    for revision, problem in _problems_of(flow, found):
        lines.append(f"- {UNICODE.failed} in {_code(revision)}: {_code(problem)}")
    lines += _listed([f"**{_code(step.id)}**: {_step(step)}" for step in flow.steps], "steps")
    lines += _listed(
        [f"{_code(one.path)}: {escaped(_output_words(one))}" for one in flow.outputs], "files"
    )
    return _Section("\n".join(lines) + "\n", tuple(_details(flow)))


def _listed(lines: Sequence[str], what: str) -> Iterator[str]:
    yield from (f"- {line}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"- and {len(lines) - _MOST_LINES:,} more {what}"


def _step(step: StepComparison) -> str:
    """Return a step in one line: what became of it, which other names answered, each cause."""
    causes = [_cause_words(cause).removesuffix(":") for cause in step.causes[:_MOST_CAUSES]]
    more = len(step.causes) - len(causes)
    causes += [f"and {more:,} more"] if more else []
    shown = "; ".join(map(_code, (*_answer_words(step), *causes)))
    return f"{escaped(_step_words(step))}{f'; {shown}' if shown else ''}"


def _details(flow: FlowComparison) -> Iterator[str]:
    """Yield the texts that changed, each folded and by itself."""
    for step in flow.steps:
        for cause in step.causes:
            if not _is_short(cause) and cause.old != cause.new:
                title = f"{step.id}: {_cause_words(cause).removesuffix(':')}"
                yield _detail(title, cause.old, cause.new)
    for output in flow.outputs:
        if _has_text(output):
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
