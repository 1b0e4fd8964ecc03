"""The data of the page that compares two runs: instances, requests and answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from poeflow.digest import Json
from poeflow.records import InstanceRecord, RunRow
from poeflow.report.difference import is_made
from poeflow.report.history import request_body, scored, unmet_in
from poeflow.report.pages.groups import NumberedInstance, numbered
from poeflow.report.pages.instance_page import ChatMessagePart, messages_of, parameters_of
from poeflow.report.pages.run_page import page_number
from poeflow.report.pages.words import MOST_TEXT, pretty
from poeflow.report.word_diff import Piece, word_diff

_MOST: Final = 40_000
_MOST_LINES: Final = 1000
"""Longer texts are shown whole: comparing many equal words would take minutes."""
_SHORT: Final = 60
"""Parameters up to this length are shown whole, since half a number says nothing."""
_KEPT: Final = 3
"""How many equal lines are shown on either side of a change."""
SidePieces = tuple[tuple[str, str], ...]
"""One of two texts, in pieces of kind and text; kind `cut` says how many lines are left out."""
_A_PAGE: Final = 25


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. A side is None if there is nothing on it."""

    title: str
    old: SidePieces | None
    new: SidePieces | None


@dataclass(frozen=True, slots=True)
class InstancePair:
    """An instance that is in both runs, or in one of them."""

    old: NumberedInstance | None
    new: NumberedInstance | None

    @property
    def id(self) -> str:
        one = self.new or self.old
        return "" if one is None else one.record.id

    @property
    def kind(self) -> Literal["changed", "new", "gone"]:
        if self.old is None:
            return "new"
        return "changed" if self.new is not None else "gone"

    @property
    def is_same(self) -> bool:
        return next(self._texts(), None) is None

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The differences of the instance; none if it is gone."""
        if self.new is None:
            return ()
        return tuple(difference_of(*texts) for texts in self._texts())

    def _texts(self) -> Iterator[tuple[str, str | None, str | None]]:
        old = None if self.old is None else self.old.record
        return differing_texts(old, None if self.new is None else self.new.record)


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """The data of the page: some of the instances that differ, and all that are the same."""

    old: RunRow
    new: RunRow
    differing: int
    changed: tuple[InstancePair, ...]
    same: tuple[InstancePair, ...]
    inputs: tuple[Difference, ...]
    page: int
    pages: int


def comparison_view(
    old: tuple[RunRow, Sequence[InstanceRecord]],
    new: tuple[RunRow, Sequence[InstanceRecord]],
    asked: Mapping[str, str],
) -> ComparisonView:
    """Return the differences of two runs with their instances, on page `page` of `asked`."""
    pairs = _pairs(old, new)
    differing = [pair for pair in pairs if not pair.is_same]
    pages = max(-(-len(differing) // _A_PAGE), 1)
    page = min(page_number(asked), pages)
    values = compared_values(old[0].record.inputs, new[0].record.inputs)
    return ComparisonView(
        old=old[0],
        new=new[0],
        differing=len(differing),
        changed=tuple(differing[(page - 1) * _A_PAGE : page * _A_PAGE]),
        same=tuple(pair for pair in pairs if pair.is_same),
        inputs=tuple(difference_of(*texts) for texts in values),
        page=page,
        pages=pages,
    )


def differing_texts(
    old: InstanceRecord | None, new: InstanceRecord | None
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield the title and both texts of everything that differs.

    A result that is not stored, because the instance was current, counts as unchanged.
    """
    before, after = _texts(old), _texts(new)
    are_good = old is not None and new is not None and old.status == new.status == "ok"
    if are_good and (before["answer"] is None or after["answer"] is None):
        return
    for title in dict.fromkeys([*before, *after]):
        was, now = before.get(title), after.get(title)
        if was != now:
            yield title, was, now


def compared_values(
    old: Mapping[str, Json], new: Mapping[str, Json]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield the name and both spellings of each value that differs."""
    for name in sorted({*old, *new}):
        if name not in old or name not in new or old[name] != new[name]:
            yield name, _spelled(old, name), _spelled(new, name)


def difference_of(title: str, old: str | None, new: str | None) -> Difference:
    """Return two texts with the words that differ marked, and equal stretches cut."""
    pieces = _pieces(old or "", new or "")
    return Difference(
        title,
        None if old is None else tuple(_side(pieces, "removed")),
        None if new is None else tuple(_side(pieces, "added")),
    )


def _pairs(
    old: tuple[RunRow, Sequence[InstanceRecord]], new: tuple[RunRow, Sequence[InstanceRecord]]
) -> list[InstancePair]:
    """Return the instances by id, in the order of the new run, those gone last.

    What one of the runs may have left out is neither gone nor new.
    """
    before = {one.record.id: one for one in numbered(old[1])}
    after = {one.record.id: one for one in numbered(new[1])}
    return [
        *(
            InstancePair(before.get(name), one)
            for name, one in after.items()
            if name in before or is_made(one.record) or not old[0].may_lack(name)
        ),
        *(
            InstancePair(one, None)
            for name, one in before.items()
            if name not in after and not new[0].may_lack(name)
        ),
    ]


def _texts(record: InstanceRecord | None) -> dict[str, str | None]:
    """Return the texts of a result that are compared, by title, in the order shown."""
    if record is None:
        return {}
    body = request_body(record.request)
    texts: dict[str, str | None] = {"state": record.status}
    if record.model or body.get("model"):
        texts["model"] = record.answered_by or record.model or str(body.get("model"))
    for number, message in enumerate(messages_of(body), start=1):
        text = "\n".join(map(_part_text, message.parts))
        texts[f"message {number}, {message.role}"] = text
    texts |= parameters_of(body)
    if record.reason:
        texts["reason"] = record.reason
    if score := scored(record.verdicts):
        texts["score"] = score
    if unmet := unmet_in(record.verdicts):
        texts["not met"] = "\n".join(unmet)
    if record.answer is None:
        return {**texts, "answer": record.text}
    texts |= {"answer": record.answer, "default in its place": record.text}
    return texts


def _part_text(part: ChatMessagePart) -> str:
    if part.kind != "attachment":
        return part.text
    return " ".join(filter(None, ("attached", part.text, part.media_type, part.digest[:12])))


def _spelled(values: Mapping[str, Json], name: str) -> str | None:
    if name not in values:
        return None
    value = values[name]
    return value if isinstance(value, str) else pretty(value)


def _pieces(old: str, new: str) -> tuple[Piece, ...]:
    most, lines = max(len(old), len(new)), max(old.count("\n"), new.count("\n"))
    is_value = most <= _SHORT and " " not in old and " " not in new
    if is_value or most > _MOST or lines > _MOST_LINES:
        return (Piece("removed", old[:MOST_TEXT]), Piece("added", new[:MOST_TEXT]))
    return word_diff(old, new)


def _side(pieces: Sequence[Piece], kind: str) -> Iterator[tuple[str, str]]:
    for at, piece in enumerate(pieces):
        if piece.kind == "same":
            yield from _cut(piece.text, is_first=at == 0, is_last=at == len(pieces) - 1)
        elif piece.kind == kind and piece.text:
            yield piece.kind, piece.text


def _cut(text: str, *, is_first: bool, is_last: bool) -> Iterator[tuple[str, str]]:
    """Yield the lines near a change, and how many lines between are left out."""
    lines = text.splitlines(keepends=True)
    head, tail = 0 if is_first else _KEPT, 0 if is_last else _KEPT
    left_out = len(lines) - head - tail
    if left_out <= _KEPT:
        yield "same", text
        return
    yield "same", "".join(lines[:head])
    yield "cut", f"{left_out:,} lines are the same"
    yield "same", "".join(lines[len(lines) - tail :])
