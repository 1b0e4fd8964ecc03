"""What differs between two runs, instance by instance and word by word."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from view_runs import asked, body, run_record

from poeflow.records import InstanceRecord, RunEnd, RunRow
from poeflow.report.pages.compare_page import Difference, comparison_view, difference_of

ENDED = RunEnd(exit_code=0, seconds=1.0)


def compare(old, new, *, first=(ENDED, {}), second=(ENDED, {}), **asked_for):
    rows = [
        RunRow(id=number, record=run_record(**more), end=end)
        for number, (end, more) in enumerate((first, second), start=1)
    ]
    return comparison_view((rows[0], old), (rows[1], new), asked_for)


def test_instances_are_found_by_their_names():
    old = [asked("draft", "a"), asked("tone[x]", "b"), asked("tone[y]", "c")]
    new = [asked("tone[z]", "d"), asked("draft", "a"), asked("tone[x]", "B")]
    view = compare(old, new)
    assert [(one.id, one.kind) for one in view.changed] == [
        ("tone[z]", "new"), ("tone[x]", "changed"), ("tone[y]", "gone"),
    ]  # fmt: skip
    assert [one.id for one in view.same] == ["draft"]
    assert view.changed[1].differences == (
        Difference("answer", (("removed", "b"),), (("added", "B"),)),
    )
    assert view.changed[2].differences == ()


@pytest.mark.parametrize(
    "part", [(ENDED, {"is_part": True}), (None, {}), (RunEnd(exit_code=130, seconds=1.0), {})]
)
def test_what_a_part_of_a_run_left_out_is_neither_gone_nor_new(part):
    whole = [
        asked("draft", "a"), asked("tone[x]", "b", source="cached"), asked("tone[y]", "c"),
        asked("other", "d"),
    ]  # fmt: skip
    view = compare(whole, whole[:1], second=part)
    assert [(one.id, one.kind) for one in view.changed] == [("other", "gone")]
    view = compare(whole[:1], whole[:-1], first=part)
    assert [(one.id, one.kind) for one in view.changed] == [("tone[y]", "new")]


def test_all_that_was_asked_is_compared():
    old = asked("draft", "a", request=body("one two", temperature=0.3, stop=["x"]))
    new = asked("draft", "a", request=body("one three", model="B", temperature=0.4))
    (one,) = compare([old], [new]).changed
    assert one.differences == (
        Difference("model", (("removed", "GPT-5.2"),), (("added", "B"),)),
        Difference(
            "message 2, user", (("same", "one "), ("removed", "two")),
            (("same", "one "), ("added", "three")),
        ),
        Difference("temperature", (("removed", "0.3"),), (("added", "0.4"),)),
        Difference("stop", (("removed", '[\n  "x"\n]'),), None),
    )  # fmt: skip


def test_scores_and_what_is_not_met_are_compared():
    old = asked("draft", "a", verdicts=({"kind": "judge", "passed": True, "score": 0.9},))
    unmet = {"kind": "judge", "passed": False, "score": 0.25, "message": "too dry"}
    (one,) = compare([old], [asked("draft", "a", verdicts=(unmet,))]).changed
    assert one.differences == (
        Difference("score", (("removed", "0.9"),), (("added", "0.25"),)),
        Difference("not met", None, (("added", "too dry"),)),
    )


def test_attachments_are_compared_by_their_hash():
    def picture(digit: str) -> dict:
        return {"type": "image_url", "image_url": {"url": f"data:image/png;sha256,{digit * 64}"}}

    old = asked("draft", "a", request=body("see", picture("1")))
    new = asked("draft", "a", request=body("see", picture("2")))
    (one,) = compare([old], [new]).changed
    assert one.differences == (
        Difference(
            "message 2, user",
            (("same", "see\nattached image/png "), ("removed", "1" * 12)),
            (("same", "see\nattached image/png "), ("added", "2" * 12)),
        ),
    )


def test_what_was_current_is_as_it_was():
    made = asked("draft", "a")
    current = InstanceRecord(id="draft", step="draft", status="ok")
    assert compare([made], [current]).changed == compare([current], [made]).changed == ()


def test_a_failure_is_a_difference():
    failed = InstanceRecord(id="draft", step="draft", status="failed", reason="no")
    (one,) = compare([InstanceRecord(id="draft", step="draft", status="ok")], [failed]).changed
    assert one.differences == (
        Difference("state", (("removed", "ok"),), (("added", "failed"),)),
        Difference("reason", None, (("added", "no"),)),
    )


def test_inputs_are_compared():
    rows = [
        RunRow(id=number, record=run_record(inputs=inputs))
        for number, inputs in ((1, {"a": 1, "b": "x", "c": 0}), (2, {"a": 1, "b": "y"}))
    ]
    view = comparison_view((rows[0], ()), (rows[1], ()), {})
    assert view.inputs == (
        Difference("b", (("removed", "x"),), (("added", "y"),)),
        Difference("c", (("removed", "0"),), None),
    )


@pytest.mark.parametrize(("page", "count"), [("1", 25), ("3", 10), ("9", 10), ("x", 25)])
def test_what_differs_is_paged(page, count):
    new = [asked(f"draft[{n}]", "a") for n in range(60)]
    view = compare([], new, page=page)
    assert (view.differing, len(view.changed), view.pages) == (60, count, 3)


def test_of_what_is_the_same_the_lines_near_a_change_are_shown():
    lines = [f"{n}\n" for n in range(30)]
    found = difference_of("answer", "".join(lines), "".join([*lines[:15], "new\n", *lines[15:]]))
    before = (("cut", "12 lines are the same"), ("same", "12\n13\n14\n"))
    after = (("same", "15\n16\n17\n"), ("cut", "12 lines are the same"), ("same", ""))
    assert found.old == (("same", ""), *before, *after)
    assert found.new == (("same", ""), *before, ("added", "new\n"), *after)


def test_texts_that_would_take_minutes_are_shown_whole():
    old, new = "a\nb\n" * 10_000, "b\nb\na\n" * 10_000
    assert difference_of("answer", old, new) == Difference(
        "answer", (("removed", old),), (("added", new),)
    )


TEXTS = st.lists(st.sampled_from(["a", "b", " ", "\n", "word", "é"]), max_size=60).map("".join)


@given(TEXTS, TEXTS)
def test_a_side_holds_its_own_text_and_nothing_else(old, new):
    found = difference_of("answer", old, new)
    for side, text, kind in ((found.old, old, "removed"), (found.new, new, "added")):
        assert {piece for piece, _ in side} <= {"same", "cut", kind}
        if not any(piece == "cut" for piece, _ in side):
            assert "".join(said for _, said in side) == text


def test_a_record_that_is_damaged_is_compared_all_the_same():
    odd_message = {"role": 1, "content": {"a": [1]}, "tool_calls": [{}]}
    odd = [
        None,
        {},
        {"body": 3},
        {"body": {"messages": "x"}},
        {"body": {"messages": [3, {}, odd_message]}},
    ]
    for request in odd:
        one = msgspec.structs.replace(asked("draft", "a"), request=request)
        assert compare([one], [one]).changed == ()
