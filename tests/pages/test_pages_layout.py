"""Where things lie: grids, the picture of steps, timings, the order of instances."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from view_runs import asked, run_record

from poeflow.records import InstanceRecord, RunRow
from poeflow.report.pages.drawings import HEIGHT, WIDTH, Bar, Box, Tick, drawing_of, timings_of
from poeflow.report.pages.groups import NumberedInstance, StepGroup, grouped, natural, numbered
from poeflow.report.pages.run_page import GridColumn, Section, grid_of, run_view, step_view


def group_of(*keys: str, step: str = "tone") -> StepGroup:
    return StepGroup(1, step, numbered(asked(f"{step}[{key}]", key) for key in keys))


def row_of(**more) -> RunRow:
    return RunRow(id=1, record=run_record(**more))


def cells(grid) -> dict[str, list[list[tuple[int, str]]]]:
    return {
        row.value: [[(cell.one.number, cell.rest) for cell in found] for found in row.cells]
        for row in grid.rows
    }


def test_a_matrix_is_rows_and_columns():
    grid = grid_of(group_of("m=b,t=10", "m=a,t=9", "m=a,t=10"))
    assert (grid.axes, grid.down, grid.across) == (("m", "t"), "m", "t")
    assert grid.columns == (GridColumn("9", ""), GridColumn("10", ""))
    assert cells(grid) == {"a": [[(2, "")], [(3, "")]], "b": [[], [(1, "")]]}


@pytest.mark.parametrize(
    ("down", "across", "expected"),
    [
        ("", "", ("a", "c")),
        ("b", "", ("b", "a")),
        ("", "a", ("b", "a")),
        ("c", "b", ("c", "b")),
        ("b", "b", ("b", "a")),
        ("x", "y", ("a", "c")),
    ],
)
def test_axes_are_chosen(down, across, expected):
    grid = grid_of(group_of("a=1,b=2,c=3"), down=down, across=across)
    assert (grid.down, grid.across) == expected


def test_rows_and_columns_have_the_mean_of_their_scores():
    judged = {"a=1,b=1": 0.5, "a=1,b=2": 1, "a=2,b=1": 0}
    records = [
        asked(f"tone[{key}]", key, verdicts=({"kind": "judge", "passed": True, "score": score},))
        for key, score in judged.items()
    ]
    unscored = ({"kind": "contains", "passed": False},)
    records.append(asked("tone[a=2,b=2]", "a=2,b=2", verdicts=unscored))
    grid = grid_of(StepGroup(1, "tone", numbered(records)))
    assert [(one.value, one.score) for one in grid.rows] == [("1", "0.75"), ("2", "0")]
    assert grid.columns == (
        GridColumn("1", "0.25", "2 of 2 passed"),
        GridColumn("2", "1", "1 of 2 passed"),
    )
    assert [one.passed for one in grid.rows] == ["2 of 2 passed", "1 of 2 passed"]


def test_what_failed_counts_among_those_that_did_not_pass():
    lost = InstanceRecord(id="tone[m=a,t=2]", step="tone", key="m=a,t=2", status="failed")
    skipped = InstanceRecord(id="tone[m=a,t=3]", step="tone", key="m=a,t=3", status="skipped")
    current = InstanceRecord(id="tone[m=a,t=4]", step="tone", key="m=a,t=4", status="ok")
    group = StepGroup(
        1, "tone", numbered([asked("tone[m=a,t=1]", "m=a,t=1"), lost, skipped, current])
    )
    (row,) = grid_of(group).rows
    assert (row.passed, group.passed, row.score) == ("1 of 2 passed", "1 of 2 passed", "")
    assert group_of("m=a,t=1").passed == ""


def test_what_failed_stands_together_by_its_cause():
    failures = {
        "draft[a]": "expected b, found c",
        "draft[b]": "gone",
        "draft[c]": "expected b, found d",
    }
    records = [
        InstanceRecord(id=name, step="draft", status="failed", reason=reason)
        for name, reason in failures.items()
    ]
    tolerated = InstanceRecord(id="x", step="x", status="failed", reason="no", is_tolerated=True)
    view = run_view(row_of(steps={"draft": (), "x": ()}), [*records, tolerated])
    assert [(one.said, [each.number for each in one.named]) for one in view.causes] == [
        ("the first: expected b, found c", [1, 3]),
        ("gone", [2]),
    ]


def test_further_axes_are_told_in_the_cell():
    grid = grid_of(group_of("a=1,b=2,c=3", "a=1,b=x,c=3"))
    assert cells(grid) == {"1": [[(1, "2"), (2, "x")]]}


@pytest.mark.parametrize(
    "keys",
    [(), ("de",), ("a=1",), ("a=1,b=2", "a=1"), ("a=1,b=2", "b=2,a=1"), ("x,a=1,b=2",)],
)
def test_other_keys_make_no_grid(keys):
    assert grid_of(group_of(*keys)) is None


def test_a_value_may_hold_commas_and_signs():
    grid = grid_of(group_of("a=x, y=,b==2"))
    assert (grid.axes, grid.columns[0].value, grid.rows[0].value) == (("a", "b"), "=2", "x, y=")


def test_a_grid_that_is_too_large_is_a_table():
    keys = [f"a={n},b={n}" for n in range(51)]
    assert grid_of(group_of(*keys)) is None
    assert grid_of(group_of(*keys[:50])) is not None


def test_numbers_in_texts_count():
    assert sorted(["row 10", "row 9", "10", "9", "b"], key=natural) == [
        "9", "10", "b", "row 9", "row 10",
    ]  # fmt: skip


def test_steps_come_in_the_flows_order_and_failures_first():
    failed = InstanceRecord(id="draft[c]", step="draft", key="c", status="failed")
    inner = InstanceRecord(id="use/inner", step="use/inner", status="ok", source="asked")
    records = (asked("draft[b]", ""), inner, asked("draft[a]", ""), failed)
    groups = grouped(row_of(steps={"use": (), "draft": ("use",)}), numbered(records))
    assert [(one.number, one.step, [each.number for each in one.instances]) for one in groups] == [
        (1, "use", []), (2, "draft", [4, 3, 1]), (3, "use/inner", [2]),
    ]  # fmt: skip
    assert [one.state for one in groups] == ["waiting", "failed", "asked"]
    assert groups[1].counts == {"asked": 2, "failed": 1}


def test_an_instance_is_called_by_what_tells_it_apart():
    records = (
        asked("draft[a]", ""),
        InstanceRecord(id="draft#2", step="draft", status="ok"),
        InstanceRecord(id="draft", step="draft", status="ok"),
    )
    assert [one.label for one in numbered(records)] == ["a", "#2", "draft"]


def test_steps_are_drawn_from_left_to_right():
    picture = drawing_of({"a": (), "b": ("a", "gone"), "c": ("b", "a")})
    across = 3 + WIDTH + 62
    assert picture.boxes == (
        Box("a", 3, 17), Box("b", across, 3), Box("c", 2 * (WIDTH + 62) + 3, 17),
    )  # fmt: skip
    assert picture.width == 3 * WIDTH + 2 * 62 + 6
    assert len(picture.lines) == 3
    assert picture.lines[0] == f"M{3 + WIDTH} 40C{3 + WIDTH + 31} 40 {across - 31} 26 {across} 26"


def test_a_circle_is_drawn_all_the_same():
    picture = drawing_of({"a": ("b",), "b": ("a",)})
    assert [box.step for box in picture.boxes] == ["a", "b"]


STEPS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefgh"), max_size=4), max_size=8
)


@given(STEPS)
def test_no_two_steps_overlap_and_all_are_in_the_picture(steps):
    picture = drawing_of(steps)
    assert [box.step for box in picture.boxes] == list(steps)
    for box in picture.boxes:
        assert 0 <= box.x <= picture.width - WIDTH
        assert 0 <= box.y <= picture.height - HEIGHT
    for one in picture.boxes:
        for other in picture.boxes:
            is_apart = abs(one.x - other.x) > WIDTH or abs(one.y - other.y) > HEIGHT
            assert one == other or is_apart


def test_instances_are_lanes_in_time():
    group = StepGroup(1, "a", numbered((
        asked("a[x]", "", began=2.0, seconds=2.0), asked("a[y]", "", began=0.0, seconds=1.0),
        asked("a[z]", "", seconds=0.0),
    )))  # fmt: skip
    timings = timings_of([group], 4.0)
    assert [(lane.one.record.key, lane.bar, lane.seconds) for lane in timings.lanes] == [
        ("y", Bar(0, 25.0), 1.0), ("x", Bar(50.0, 50.0), 2.0),
    ]  # fmt: skip
    assert timings.ticks == tuple(Tick(25.0 * at, float(at)) for at in range(5))


def test_a_run_that_took_no_time_has_no_timings():
    group = StepGroup(1, "a", numbered((asked("a", "", seconds=0.0),)))
    assert timings_of([group], 1.0) is None


def test_many_instances_are_one_lane_as_high_as_they_are_many():
    records = [asked(f"a[{n}]", "", began=n // 2 * 1.0, seconds=1.0) for n in range(100)]
    timings = timings_of([StepGroup(1, "a", numbered(records))], None)
    (lane,) = timings.lanes
    assert (lane.one, lane.bar, lane.seconds) == (None, Bar(0.0, 100.0), 50.0)
    assert lane.most == 4  # two that end and two that begin in the same stretch
    assert lane.area.startswith("M0,100L0,")


def test_a_page_shows_few_of_many_and_says_so():
    records = [asked(f"tone[{n}]", "") for n in range(60)]
    view = run_view(row_of(steps={"tone": (), "late": ("tone",)}), records)
    (section,) = view.sections
    assert (len(section.rows), section.left_out, section.grid) == (50, 10, None)
    assert [group.step for group in view.single] == ["late"]
    assert [(node.group.step, node.state, node.total) for node in view.nodes] == [
        ("tone", "asked", 60), ("late", "waiting", 0),
    ]  # fmt: skip


def test_steps_of_used_flows_colour_the_step_that_uses_them():
    inner = InstanceRecord(id="use[a]/inner", step="use[a]/inner", status="failed")
    outer = InstanceRecord(id="use[a]", step="use", key="a", status="skipped")
    view = run_view(row_of(steps={"use": ()}), [inner, outer])
    assert [(node.state, node.total, node.failed) for node in view.nodes] == [("failed", 2, 1)]


@pytest.mark.parametrize(
    ("asked_for", "expected"),
    [
        ({}, (200, 250, 1, 2)),
        ({"page": "2"}, (50, 250, 2, 2)),
        ({"page": "99"}, (50, 250, 2, 2)),
        ({"page": "x"}, (200, 250, 1, 2)),
        ({"state": "asked"}, (200, 250, 1, 2)),
        ({"state": "failed"}, (0, 0, 1, 1)),
    ],
)
def test_a_steps_page_is_filtered_and_paged(asked_for, expected):
    group = group_of(*(f"row {n}" for n in range(250)))
    view = step_view(row_of(), group, asked_for)
    assert (len(view.rows), view.found, view.page, view.pages) == expected


def test_a_steps_page_is_a_grid_unless_it_is_asked_for_rows():
    group = group_of("a=1,b=2")
    assert step_view(row_of(), group, {"rows": "b"}).grid.down == "b"
    assert step_view(row_of(), group, {"as": "table"}).grid is None
    assert step_view(row_of(), group, {"state": "asked"}).grid is None


def test_a_section_left_nothing_out_where_it_is_a_grid():
    one = NumberedInstance(1, asked("tone[a=1,b=2]", ""))
    group = StepGroup(1, "tone", (one,))
    assert Section(group, grid_of(group), ()).left_out == 0
