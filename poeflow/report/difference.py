"""What differs between two runs: by instance the prompt, the parameters and the answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.records import InstanceRecord
from poeflow.report.rewritten import rewritten
from poeflow.report.shown_instance import body_of, messages_of
from poeflow.report.terminal.marks import Marks
from poeflow.report.terminal.text import Line

_INDENT: Final = ("    ", "")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs. An answer or prompt that is not there is None."""

    what: Literal["prompt", "parameter", "answer", "status"]
    name: str = ""
    old: str | None
    new: str | None


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """An instance that differs, is new, or is gone."""

    id: str
    kind: Literal["changed", "new", "gone"]
    changes: tuple[Change, ...] = ()


def changed(old: Sequence[InstanceRecord], new: Sequence[InstanceRecord]) -> Iterator[Changed]:
    """Yield the instances that differ, in the order of the new run, those that are gone last."""
    before = {one.id: one for one in old}
    after = {one.id: one for one in new}
    for name, one in after.items():
        earlier = before.get(name)
        if earlier is None:
            yield Changed(id=name, kind="new", changes=tuple(changes(None, one)))
        elif found := tuple(changes(earlier, one)):
            yield Changed(id=name, kind="changed", changes=found)
    yield from (Changed(id=name, kind="gone") for name in before if name not in after)


def changes(old: InstanceRecord | None, new: InstanceRecord) -> Iterator[Change]:
    """Yield what differs between two results of an instance.

    One of which nothing is known but that it was current is as it was.
    """
    if old is not None and old.status != new.status:
        yield Change(what="status", old=old.status, new=new.status)
    if old is not None and None in (old.text, new.text) and old.status == new.status == "ok":
        return
    before = {} if old is None else body_of(old)
    after = body_of(new)
    said, says = _prompt(before), _prompt(after)
    if said != says:
        yield Change(what="prompt", old=None if old is None else said, new=says)
    if old is not None:
        for name in sorted({*before, *after} - {"messages"}):
            if before.get(name) != after.get(name):
                spelled = {"old": _spelled(before, name), "new": _spelled(after, name)}
                yield Change(what="parameter", name=name, **spelled)
    if (None if old is None else old.text) != new.text:
        yield Change(what="answer", old=None if old is None else old.text, new=new.text)


def change_lines(
    found: Sequence[Changed], *, width: int, is_colored: bool, marks: Marks
) -> Iterator[Line]:
    """Yield what differs, word by word."""
    for one in found:
        note = "" if one.kind == "changed" else f" is {one.kind}"
        yield ((marks.shown(one.id), "bold"), (note, "dim"))
        for change in one.changes:
            if change.what in ("parameter", "status"):
                name = change.name or change.what
                told = f"{name}: {change.old or 'none'} -> {change.new or 'none'}"
                yield (("  ", ""), (marks.shown(told), ""))
                continue
            yield ((f"  {change.what}:", "cyan"),)
            lines, more = rewritten(
                change.old,
                change.new or "",
                width=max(width - 4, 20),
                is_colored=is_colored,
                marks=marks,
            )
            yield from ((_INDENT, *line) for line in lines)
            if more:
                yield (_INDENT, (f"... ({more:,} more lines)", "dim"))


def _prompt(body: Mapping[str, Json]) -> str:
    said = list(messages_of(body))
    if len(said) == 1:
        return said[0][1]
    return "\n".join(f"{role}: {text}" for role, text in said)


def _spelled(body: Mapping[str, Json], name: str) -> str | None:
    return encode_json(body[name]).decode("utf-8", "replace") if name in body else None
