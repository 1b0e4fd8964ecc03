"""A comparison of two revisions as lines of text, and the words it is told in."""

from collections.abc import Iterator
from typing import Final, TypedDict, Unpack

from poeflow.report.difference import rewritten
from poeflow.report.terminal.text import Line, Marks
from poeflow.store.revisions.comparisons import (
    Cause,
    Comparison,
    FlowComparison,
    InstanceCounts,
    OutputComparison,
    Spending,
    StepComparison,
)

SHORT: Final = 80
"""Characters of a value that is shown in one line with what it was before."""
_NARROWEST: Final = 20
_MOST_NAMES: Final = 3
"""How many pairs of names that answered are shown of a step."""
_NESTED: Final = "      "
_EDITS: Final = {
    "edit": "edited by hand and accepted",
    "dropped": "an edit by hand is not accepted any more",
}
NO_TEXT: Final = "no text, or too long to compare"


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
        yield ((f"{came}{marks.shown(flow.path)}", "bold"), (f": {flow_words(flow)}", ""))
        for revision, problem in problems_of(flow, found):
            yield ((f"  in {marks.shown(revision)}: {marks.shown(problem)}", "red"),)
        for step in flow.steps:
            yield ((f"  {marks.shown(step.id)}", "cyan"), (f": {step_words(step)}", ""))
            yield from (((f"    {marks.shown(one)}", ""),) for one in answer_words(step))
            for cause in step.causes:
                yield (("    ", ""), (marks.shown(cause_words(cause)), ""))
                if not is_short(cause):
                    yield from _block(cause.old, cause.new, **looks)
        for output in flow.outputs:
            yield ((f"  {marks.shown(output.path)}", "cyan"), (f": {output_words(output)}", ""))
            if has_text(output):
                yield from _block(output.old, output.new, **looks)


def _block(old: str | None, new: str | None, **looks: Unpack[Looks]) -> Iterator[Line]:
    if old == new:
        yield ((_NESTED, ""), (f"({NO_TEXT})", "dim"))
        return
    width = max(looks["width"] - len(_NESTED), _NARROWEST)
    lines, more = rewritten(
        old, new or "", width=width, is_colored=looks["is_colored"], marks=looks["marks"]
    )
    yield from (((_NESTED, ""), *line) for line in lines)
    if more:
        yield ((_NESTED, ""), (f"... ({more:,} more lines)", "dim"))


def problems_of(flow: FlowComparison, found: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the revisions in which a flow cannot be used as it is, each with the reason."""
    if flow.old_problem:
        yield found.old.name, flow.old_problem
    if flow.problem:
        yield found.new.name, flow.problem


def answer_words(step: StepComparison) -> Iterator[str]:
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


def flow_words(flow: FlowComparison) -> str:
    """Return what became of a flow: its instances, and what they cost."""
    words: list[str] = [] if flow.fate == "changed" else [flow.fate]
    counts = counts_words(flow.instances)
    words += [f"instances {counts}"] if counts else []
    if flow.spent is not None:
        words.append(f"the new answers were {spending_words(flow.spent)}")
    if flow.to_spend is not None:
        words.append(f"a run would send at least {spending_words(flow.to_spend)}")
    return "; ".join(words) or "no instance has another result"


def counts_words(counts: InstanceCounts) -> str:
    """Return counts of instances in words, empty if all are zero."""
    named = {
        "changed": counts.changed,
        "added": counts.added,
        "removed": counts.removed,
        "not run yet": counts.pending,
    }
    return ", ".join(f"{count:,} {name}" for name, count in named.items() if count)


def spending_words(spending: Spending) -> str:
    """Return requests, tokens and cost in words."""
    many = "s" * (spending.requests != 1)
    words = [f"{spending.requests:,} request{many}", f"{spending.tokens:,} tokens"]
    cost = spending.cost_usd
    return ", ".join([*words, "cost unknown" if cost is None else f"${cost:.4f}"])


def step_words(step: StepComparison) -> str:
    """Return what became of a step: its instances, and whether it only follows others."""
    words: list[str] = [] if step.fate == "changed" else [step.fate]
    if step.follows:
        only = "only " * (not step.causes and step.fate == "changed")
        words.append(f"{only}follows {', '.join(step.follows)}")
    counts = counts_words(step.instances)
    words += [counts] if counts else []
    return "; ".join(words) or "no instance has another result"


def cause_words(cause: Cause) -> str:
    """Return a cause in words: its kind, name and place, and short values."""
    if cause.kind == "answer":
        return "answered again: the request is the same"
    if cause.kind == "edit":
        return _EDITS.get(cause.name, _EDITS["edit"])
    is_named = cause.name != cause.kind
    name = f"{cause.kind} {cause.name}" if is_named else cause.kind
    place = f" ({cause.place})" if cause.place else ""
    if is_short(cause):
        return f"{name}{place}: {_value(cause.old)} -> {_value(cause.new)}"
    fate = "is new" if cause.old is None else "is gone" if cause.new is None else ""
    return f"{name}{place}{f' {fate}' if fate and cause.old != cause.new else ''}:"


def _value(text: str | None) -> str:
    return "none" if text is None else text


def is_short(cause: Cause) -> bool:
    """Return whether both values of a cause fit into one line."""
    values = [text for text in (cause.old, cause.new) if text is not None]
    is_prose = cause.kind in ("prompt", "file")
    return cause.kind in ("answer", "edit") or (
        bool(values)
        and not is_prose
        and all(len(text) <= SHORT and "\n" not in text for text in values)
    )


def output_words(output: OutputComparison) -> str:
    """Return what became of an output file."""
    by = f" by {output.step}" if output.step else ""
    if output.old_size is None and output.new_size is None:
        return f"written{by}, in neither revision"
    if has_text(output) or output.fate == "removed":
        return f"{output.fate}, written{by}" if by else output.fate
    sizes = (output.old_size, output.new_size)
    before, after = ("nothing" if size is None else f"{size:,} bytes" for size in sizes)
    return f"{output.fate}, written{by}: {before} -> {after}"


def has_text(output: OutputComparison) -> bool:
    """Return whether the texts of an output can be compared."""
    is_cut = output.old is None and output.old_size is not None
    return output.new is not None and not is_cut


def total_words(found: Comparison) -> str:
    """Return a sentence about a whole comparison."""
    if not found.flows:
        return "no flow differs in what it reads, asks or writes"
    many = len(found.flows)
    counts = counts_words(InstanceCounts.total(flow.instances for flow in found.flows))
    differ = f"{many:,} flow{'s differ' if many > 1 else ' differs'}"
    broken = sum(flow.fate == "broken" for flow in found.flows)
    differ += f", {broken:,} broken" if broken else ""
    return f"{differ}; instances {counts}" if counts else differ
