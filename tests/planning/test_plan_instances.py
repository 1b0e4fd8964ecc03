"""The instances of a plan: made as they are asked for, prepared once where they are alike."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.errors import InvalidFlowError
from poeflow.operations.check import checkup
from poeflow.operations.plan import planned
from poeflow.operations.run_options import RunOptions
from poeflow.planning.instances import StepInstance
from poeflow.project.lazy_items import PackedTexts
from poeflow.project.project import Project

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
LOOP = "for_each: {file: rows.csv, key: item.id}"


@pytest.fixture
def plan(tmp_path):
    """Return a function that plans steps over the rows of a table."""

    def made(steps: str, rows: str = "id,word\n1,cat\n2,dog\n3,owl\n", **options):
        (tmp_path / "poeflow.toml").touch()
        (tmp_path / "rows.csv").write_text(rows)
        (tmp_path / "a.yaml").write_text(f"{HEAD}{steps}")
        found = checkup(Project.find(tmp_path), "//a.yaml", "a.yaml")
        return planned(found, RunOptions(**options), most=1_000_000)[0]

    return made


def test_an_instance_has_its_own_row_and_place(plan):
    instances = plan(f'  say: {{{LOOP}, prompt: "{{{{ item.word }}}}"}}\n').instances["say"]
    assert [one.id for one in instances] == ["say[1]", "say[2]", "say[3]"]
    assert [one.names["item"]["word"] for one in reversed(instances)] == ["owl", "dog", "cat"]
    assert dict(instances[-1].names) == {
        "item": {"id": "3", "word": "owl"},
        "key": "3",
        "loop": {"index": 3, "index0": 2, "first": False, "last": True, "length": 3},
    }
    assert [one.key for one in instances[1:]] == ["2", "3"]
    with pytest.raises(IndexError):
        instances[3]


def test_a_step_that_runs_over_another_has_its_rows(plan):
    steps = f"  draw: {{{LOOP}, prompt: x}}\n  tell: {{for_each: steps.draw, prompt: x}}\n"
    drawn, told = plan(steps).instances.values()
    assert told.keys is drawn.keys
    assert [dict(one.names) for one in told] == [dict(one.names) for one in drawn]


def test_what_does_not_differ_is_prepared_once(plan):
    instances = plan(f"  say: {{{LOOP}, prompt: x, attachments: [rows.csv]}}\n").instances["say"]
    first, *others = instances
    assert first.is_ready
    assert [found.path for found in first.attached["steps", "say", "attachments"]] == ["//rows.csv"]
    for other in others:
        assert (other.is_ready, other.settings) == (True, first.settings)
        assert other.settings is first.settings
        assert other.attached is first.attached


def test_what_differs_is_prepared_for_each(plan):
    steps = (
        f"  say:\n    {LOOP}\n    model: '{{{{ item.word }}}}'\n    if: item.id != '2'\n"
        "    prompt: x\n    output: {save: 'out/{{ key }}.md'}\n"
    )
    made = plan(steps)
    assert [
        (one.settings and one.settings.model, one.save, one.skip) for one in made.instances["say"]
    ] == [
        ("cat", "//out/1.md", ""),
        (None, None, "item.id != '2' does not hold"),
        ("owl", "//out/3.md", ""),
    ]
    assert made.models() == {"cat", "owl"}
    assert made.targets() == {"//out/1.md", "//out/3.md"}


def test_a_file_that_an_include_names_may_tell_instances_apart(plan, tmp_path):
    (tmp_path / "which.txt").write_text("{{ item.word }}")
    steps = f"  say: {{{LOOP}, model: '{{% include inputs.file %}}', prompt: x}}\n"
    inputs = "inputs: {file: {default: which.txt}}\n"
    found = plan(steps + inputs).instances["say"]
    assert [one.settings and one.settings.model for one in found] == ["cat", "dog", "owl"]


@pytest.mark.parametrize("chosen", [{"first": 1}, {"key": "1"}])
def test_only_the_instances_that_are_chosen_are_prepared(plan, chosen):
    steps = f"  say: {{{LOOP}, prompt: x, output: {{save: 'out/{{{{ item.word }}}}.md'}}}}\n"
    rows = "id,word\n1,cat\n2,\n3,..\n"
    with pytest.raises(InvalidFlowError) as caught:
        plan(steps, rows)
    assert [problem.message for problem in caught.value.problems] == [
        f'"{word}" is not one safe part of a path; use | slug' for word in ("", "..")
    ]
    found = plan(steps, rows, **chosen).instances["say"]
    assert [(one.is_ready, one.save) for one in found] == [
        (True, "//out/cat.md"),
        (False, None),
        (False, None),
    ]


def test_a_key_beside_ascii_is_found_like_any_other(plan):
    rows = 'id,word\nä,cat\n"a ""b"", c",dog\n'
    found = plan(f"  say: {{{LOOP}, prompt: x}}\n", rows).instances["say"]
    assert list(found.keys) == ["ä", 'a "b", c']


@pytest.mark.parametrize("key", ["item.id", "item.id | trim"])
def test_two_rows_with_one_key_are_told(plan, key):
    steps = f"  say: {{for_each: {{file: rows.csv, key: {key}}}, prompt: x}}\n"
    with pytest.raises(InvalidFlowError) as caught:
        plan(steps, "id,word\n1,cat\n2,dog\n1,owl\n2,elk\n")
    [problem] = caught.value.problems
    assert problem.message == 'items 1 and 3 have the key "1"'


def test_a_row_more_takes_little_memory(plan):
    """So that a million of them can be planned: the text of a row, that of its key, its place."""
    steps = f"  say: {{{LOOP}, prompt: '{{{{ item.word }}}}'}}\n"
    many = 20_000
    rows = "id,word\n" + "".join(f"{number},some word\n" for number in range(many))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = plan(steps, rows)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(made.instances["say"]) == many
    assert isinstance(made.instances["say"][many - 1], StepInstance)
    assert held / many < 100


@given(st.lists(st.text(max_size=3), max_size=9), st.integers(-12, 12), st.integers(-12, 12))
def test_packed_texts_are_read_as_a_list_is(texts, first, last):
    packed = PackedTexts(iter(texts))
    assert [*packed] == texts
    assert len(packed) == len(texts)
    assert packed[first:last] == texts[first:last]
    if -len(texts) <= first < len(texts):
        assert packed[first] == texts[first]
    else:
        with pytest.raises(IndexError):
            packed[first]


@pytest.mark.timeout(180)  # each allocation is traced
def test_items_of_a_large_table_are_chosen_and_not_stored(plan, tmp_path):
    rows = "id,word,lang\n" + "".join(f"{n},{'x' * 200},{n % 9}\n" for n in range(100_000))
    steps = """\
  some: {for_each: {file: rows.csv, key: item.id, sample: 5}, prompt: "{{ item.word }}"}
  many:
    for_each: {file: rows.csv, key: item.id, where: item.lang == '3'}
    prompt: "{{ item.word }}"
  groups: {for_each: {file: rows.csv, group_by: item.lang}, prompt: "{{ item | length }}"}
"""
    tracemalloc.start()
    made = plan(steps, rows)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sizes = {step: len(instances) for step, instances in made.instances.items()}
    assert sizes == {"some": 5, "many": 11_111, "groups": 9}
    assert made.instances["many"][1].names["item"] == {"id": "12", "word": "x" * 200, "lang": "3"}
    assert len(made.instances["groups"][8].names["item"]) == 11_111
    assert most < 100 * 2**20
