"""Finds and formats differences: of two runs, of two texts, of a request and the stored one."""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Literal

import msgspec
from rich.cells import cell_len

from poeflow.digest import Json, encode_json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.records import InstanceRecord, InstanceStatus
from poeflow.redact import visible
from poeflow.report.history import message_texts, request_body, scored, unmet_in
from poeflow.report.terminal.text import Line, Marks, Piece, chopped
from poeflow.report.word_diff import Piece as Part
from poeflow.report.word_diff import word_diff

MAX_LINES: Final = 40
MAX_GONE: Final = 20
CONTEXT: Final = 8
"""How many words stay on either side of a change if a long stretch is the same."""
APART: Final = 3
"""So many equal words between two changes keep them apart."""
_WORDS: Final = lazy_pattern(r"\s*\S+(?:\s+\Z)?")
_PARTS: Final = lazy_pattern(r"\n| +|[^ \n]+")
_STYLES: Final = {"same": "", "removed": "red strike", "added": "green"}
_BRACKETS: Final = {"removed": ("[-", "-]"), "added": ("{+", "+}")}
_INDENT: Final = ("    ", "")
_SHORT: Final = frozenset({"parameter", "status", "response", "score"})
"""What is shown on one line."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs. `old` or `new` is None if there is none."""

    what: Literal["prompt", "parameter", "answer", "status", "response", "score", "not met"]
    name: str = ""
    old: str | None
    new: str | None


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """An instance that differs, is new, or is gone."""

    id: str
    kind: Literal["changed", "new", "gone"]
    changes: tuple[Change, ...] = ()


def changed(
    old: Sequence[InstanceRecord],
    new: Sequence[InstanceRecord],
    *,
    old_lacks: Callable[[str], bool],
    new_lacks: Callable[[str], bool],
) -> Iterator[Changed]:
    """Yield the instances that differ, in the order of the new run, those that are gone last.

    What a run may lack is not gone, and only new if it was asked, or its command ran.
    """
    before = {one.id: one for one in old}
    after = {one.id: one for one in new}
    for name, one in after.items():
        earlier = before.get(name)
        if earlier is None:
            if old_lacks(name) and not is_made(one):
                continue
            yield Changed(id=name, kind="new", changes=tuple(changes(None, one)))
        elif found := tuple(changes(earlier, one)):
            whole = (*found, *_response(earlier, one))
            yield Changed(id=name, kind="changed", changes=whole)
    for name in before:
        if name not in after and not new_lacks(name):
            yield Changed(id=name, kind="gone")


def is_made(one: InstanceRecord) -> bool:
    """Whether a run made a result anew, and did not find it."""
    return one.source in ("asked", "ran")


def changes(old: InstanceRecord | None, new: InstanceRecord) -> Iterator[Change]:
    """Yield the differences between two results of an instance.

    A result that is not stored, because the instance was current, counts as unchanged.
    """
    if old is not None and old.status != new.status:
        yield Change(what="status", old=old.status, new=new.status)
    if old is not None and None in (old.text, new.text) and old.status == new.status == "ok":
        return
    before: Mapping[str, Json] = {} if old is None else request_body(old.request)
    after = request_body(new.request)
    old_prompt, new_prompt = _prompt(before), _prompt(after)
    if old_prompt != new_prompt:
        yield Change(what="prompt", old=None if old is None else old_prompt, new=new_prompt)
    if old is not None:
        for name in sorted({*before, *after} - {"messages"}):
            if before.get(name) != after.get(name):
                spelled = {"old": _spelled(before, name), "new": _spelled(after, name)}
                yield Change(what="parameter", name=name, **spelled)
        served = (old.answered_by or old.model, new.answered_by or new.model)
        if None not in served and served[0] != served[1]:
            yield Change(what="response", name="answered by", old=served[0], new=served[1])
    if (None if old is None else old.text) != new.text:
        yield Change(what="answer", old=None if old is None else old.text, new=new.text)
    if old is not None:
        yield from _judged(old, new)


def _judged(old: InstanceRecord, new: InstanceRecord) -> Iterator[Change]:
    """Yield the differences between what was said of two results."""
    scores = scored(old.verdicts) or None, scored(new.verdicts) or None
    if scores[0] != scores[1]:
        yield Change(what="score", old=scores[0], new=scores[1])
    unmet = "; ".join(unmet_in(old.verdicts)), "; ".join(unmet_in(new.verdicts))
    if unmet[0] != unmet[1]:
        yield Change(what="not met", old=unmet[0] or None, new=unmet[1] or None)


def change_lines(
    found: Sequence[Changed], *, width: int, is_colored: bool, marks: Marks
) -> Iterator[Line]:
    """Yield the lines of all differences, word by word; of many that are gone the first."""
    gone = [one for one in found if one.kind == "gone"]
    for one in (*(one for one in found if one.kind != "gone"), *gone[:MAX_GONE]):
        note = "" if one.kind == "changed" else f" is {one.kind}"
        yield ((marks.shown(one.id), "bold"), (note, "dim"))
        for change in one.changes:
            if change.what in _SHORT:
                name = change.name or change.what
                text = f"{name}: {change.old or 'none'} -> {change.new or 'none'}"
                yield (("  ", ""), (marks.shown(text), ""))
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
    if len(gone) > MAX_GONE:
        yield ((f"{len(gone) - MAX_GONE:,} more", "bold"), (" are gone", "dim"))


def rewritten(
    old: str | None, new: str, *, width: int, is_colored: bool, marks: Marks
) -> tuple[list[Line], int]:
    """Return lines of at most `width` cells that show the changes of a text, and how many are left.

    A text without an old one is shown as it is.
    """
    pieces: Sequence[Part] = (Part("same", _harmless(new)),)
    if old is not None:
        changes = word_diff(_harmless(old), _harmless(new))
        pieces = tuple(_folded(tuple(_gathered(changes)), marks.more))
    lines = _flowed(tuple(_styled(pieces, is_colored=is_colored)), width, marks)
    shown = list(islice(lines, MAX_LINES))
    return shown, sum(1 for _ in lines)


def explained(status: InstanceStatus, before: Json) -> str:
    """Say why an instance is asked or not. `before` is its request in the last run, if known.

    It is compared line by line with the request that would be sent now.
    """
    lines = [f"{status.id}: {status.state}", *(f"  {reason}" for reason in status.reasons)]
    if status.request is None:
        hit = "it is not asked" if status.state == "unknown" else "its stored answer is used"
        return "\n".join([*lines, f"  {hit}"])
    if before is None:
        return "\n".join([*lines, "  nothing like it was sent before, so it is asked"])
    old, new = _shown(before), _shown(status.request)
    if old == new:
        return "\n".join([*lines, "  its request is the same; what follows on it may be asked"])
    difference = difflib.unified_diff(old, new, "the last request", "the next request", lineterm="")
    return "\n".join([*lines, "  its request is another, so it is asked:", "", *difference])


def _response(old: InstanceRecord | None, new: InstanceRecord) -> Iterator[Change]:
    """Yield the change of the response's id, which says nothing alone: each one has its own."""
    before = None if old is None else old.response_id
    if None not in (before, new.response_id) and before != new.response_id:
        yield Change(what="response", name="response", old=before, new=new.response_id)


def _prompt(body: Mapping[str, Json]) -> str:
    messages = list(message_texts(body))
    if len(messages) == 1:
        return messages[0][1]
    return "\n".join(f"{role}: {text}" for role, text in messages)


def _spelled(body: Mapping[str, Json], name: str) -> str | None:
    return encode_json(body[name]).decode("utf-8", "replace") if name in body else None


def _harmless(text: str) -> str:
    return visible(text.replace("\r\n", "\n"), with_joiners=True).expandtabs(4)


def _gathered(pieces: Sequence[Part]) -> Iterator[Part]:
    """Yield the pieces, with changes joined if only a word or two is between them."""
    removed, added, between = "", "", ""
    for piece in pieces:
        if piece.kind == "same":
            between += piece.text
            continue
        if len(between.split()) >= APART or not (removed or added):
            yield from _change(removed, added, between)
            removed, added, between = "", "", ""
        removed += between
        added += between
        if piece.kind == "removed":
            removed += piece.text
        else:
            added += piece.text
        between = ""
    yield from _change(removed, added, between)


def _change(removed: str, added: str, after: str) -> Iterator[Part]:
    """Yield a change and the text after it that is the same, without empty parts."""
    if removed:
        yield Part("removed", removed)
    if added:
        yield Part("added", added)
    if after:
        yield Part("same", after)


def _folded(pieces: Sequence[Part], more: str) -> Iterator[Part]:
    """Yield the pieces, with long stretches that are the same shortened."""
    for index, piece in enumerate(pieces):
        words = _WORDS.findall(piece.text) if piece.kind == "same" else []
        head = CONTEXT if index > 0 else 0
        tail = CONTEXT if index < len(pieces) - 1 else 0
        if len(words) <= head + tail + CONTEXT:
            yield piece
            continue
        before, after = "".join(words[:head]), "".join(words[len(words) - tail :])
        shown = f"{before} {more} {after.lstrip()}"
        yield Part("same", shown if head else shown.lstrip())


def _styled(pieces: Sequence[Part], *, is_colored: bool) -> Iterator[Piece]:
    last = ""
    for piece in pieces:
        begin, end = ("", "") if is_colored else _BRACKETS.get(piece.kind, ("", ""))
        if is_colored and piece.kind == "added" and last and not last[-1].isspace():
            yield " ", ""
        yield f"{begin}{piece.text}{end}", _STYLES[piece.kind]
        last = piece.text if piece.kind == "removed" else ""


def _flowed(pieces: Sequence[Piece], width: int, marks: Marks) -> Iterator[Line]:
    """Yield the text in lines, broken between words if possible."""
    line: list[Piece] = []
    room = width
    for text, style in pieces:
        for part in _PARTS.findall(text):
            if part == "\n" or (line and cell_len(part) > room):
                yield tuple(line)
                line, room = [], width
            if part == "\n" or (part.isspace() and not line and room < width):
                continue
            *full, last = chopped(marks.shown(part, with_joiners=True), width)
            yield from (((chunk, style),) for chunk in full)
            line.append((last, style))
            room -= cell_len(last)
    if line:
        yield tuple(line)


def _shown(request: Json) -> list[str]:
    """Return a request as lines, with texts broken at their line breaks."""
    text = json.dumps(request, ensure_ascii=False, indent=2, sort_keys=True)
    return text.replace("\\n", "\n      ").splitlines()
