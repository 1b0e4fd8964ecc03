"""Plans and statuses as a terminal shows them: a mark, a name, a state, and why below it."""

import re

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from poeflow.records import InstanceStatus
from poeflow.report.plan import plan_table, status_table
from poeflow.report.terminal.text import ASCII, UNICODE, unstyled

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
UNKNOWN = ("unknown until draft has run",)
NEW = ("the lock does not have it",)
EDITED = ("out.md was edited", "prompt changed, and the model, and much more")
STATUSES = (
    InstanceStatus(
        id="draft",
        state="stale",
        reasons=("prompt changed",),
        calls=1,
        most_calls=3,
        model="GPT-5.2",
    ),
    InstanceStatus(id="old", state="fresh"),
    *(InstanceStatus(id=f"each[{n}]", state="unknown", reasons=UNKNOWN) for n in range(9)),
    InstanceStatus(
        id="each[x]", state="new", reasons=NEW, calls=2, most_calls=None, model="Grok-4"
    ),
    InstanceStatus(id="page", state="edited", reasons=EDITED),
)


def sheet(statuses=STATUSES, *, all_=False, marks=UNICODE, width=69) -> list[str]:
    return [unstyled(line) for line in plan_table(statuses, all_=all_, marks=marks, width=width)]


def test_a_plan_is_a_row_an_instance_with_its_reasons():
    assert sheet() == [
        "~ draft    stale   GPT-5.2, 1 to 3 calls  prompt changed",
        "? each[0]  unknown  unknown until draft has run",
        "  … 8 more like it",
        "+ each[x]  new     Grok-4, 2 or more calls  the lock does not have it",
        "! page     edited",
        "    out.md was edited; prompt changed, and the model, and much more",
    ]
    assert "✓ old      fresh" in sheet(all_=True)
    asked = InstanceStatus(id="news", state="fresh", reasons=("a run asks",), calls=1, most_calls=1)
    assert sheet((*STATUSES[1:2], asked)) == ["✓ news  fresh     a run asks"]
    assert sheet(()) == []


def test_reasons_are_wrapped_below_where_there_is_no_room():
    assert sheet(STATUSES[:1], width=30) == ["~ draft  stale   GPT-5.2, 1 t…", "    prompt changed"]
    assert sheet(STATUSES[-1:], width=30)[1:] == [
        "    out.md was edited; prompt",
        "    changed, and the model,",
        "    and much more",
    ]


def test_names_are_whole_where_there_is_room_and_else_keep_their_end():
    row = "row[product=SKU-0001,language=German]"
    statuses = [InstanceStatus(id=row, state="new", reasons=NEW, calls=1, model="GPT-5.2")]
    assert sheet(statuses)[0] == f"+ {row}  new     GPT-5.2"
    assert sheet(statuses, width=45)[0] == "+ row[product=S…uage=German]  new     GPT-5.2"


def test_steps_are_marked_by_what_is_most_serious():
    lines = [unstyled(line) for line in status_table({"a.yaml": STATUSES}, marks=UNICODE, width=79)]
    assert lines == [
        "a.yaml",
        "~ draft  stale  prompt changed",
        "✓ old    fresh",
        "+ each   9 unknown, 1 new",
        "    unknown until draft has run (9); the lock does not have it (1)",
        "! page   edited",
        "    out.md was edited; prompt changed, and the model, and much more",
    ]


@given(
    st.lists(
        st.builds(
            InstanceStatus,
            id=st.text(st.characters(), max_size=20),
            state=st.sampled_from(["new", "stale", "fresh", "edited"]),
            reasons=st.tuples(st.text(st.characters(), max_size=60)),
            calls=st.integers(0, 3),
            model=st.text(st.characters(), max_size=9),
        ),
        max_size=5,
    ),
    st.integers(20, 90),
)
def test_no_row_is_too_wide_and_none_steers(statuses, width):
    for marks in (UNICODE, ASCII):
        for line in (
            *sheet(statuses, all_=True, marks=marks, width=width),
            *(unstyled(one) for one in status_table({"f": statuses}, marks=marks, width=width)),
        ):
            assert cell_len(line) <= max(width, 8 + 4)
            assert not CONTROL.search(line)
            assert marks is UNICODE or line.isascii()
