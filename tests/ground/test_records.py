"""What an instance is called, and what it is of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.records import (
    InstanceRecord,
    as_written,
    instance_id,
    key_of,
    named,
    path_of,
    run_counts,
    step_of,
    wholes_of,
)


@pytest.mark.parametrize(
    ("instance", "step", "key"),
    [
        ("draft", "draft", None),
        ("draft#2", "draft", None),
        ("draft[a/b]", "draft", "a/b"),
        ("draft[a[0]]#2", "draft", "a[0]"),
        ("used/draft", "used/draft", None),
        ("used[de]/draft[x]", "used[de]/draft", "x"),
        ("used[//docs[1]/a.md]", "used", "//docs[1]/a.md"),
        ("draft[1]/b]", "draft", "1]/b"),
        ("used[x]/draft[y]/z]", "used[x]/draft", "y]/z"),
        ("draft[x]#2]", "draft", "x]#2"),
        ("draft[two\nlines]", "draft", "two\nlines"),
        ("draft[]", "draft", ""),
        ("used#2/draft[x]", "used#2/draft", "x"),
        ("used[de]#2/draft", "used[de]#2/draft", None),
        ("used[de]#2/draft[x]#3", "used[de]#2/draft", "x"),
        ("used[de]#2/a]", "used", "de]#2/a"),
        ("//odd", "//odd", None),
    ],
)
def test_the_step_and_the_key_of_an_instance(instance, step, key):
    assert (step_of(instance), key_of(instance)) == (step, key)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("draft", "draft"),
        ("draft@x", "draft[x]"),
        ("draft[x]", "draft[x]"),
        ("draft#2", "draft#2"),
        ("draft[me@home]", "draft[me@home]"),
        ("draft@me@home", "draft[me@home]"),
        ("draft@model=m:free", "draft[model=m:free]"),
        ("draft@a[0]", "draft[a[0]]"),
        ("draft@a/b#3", "draft[a/b#3]"),
        ("used/draft@x", "used/draft[x]"),
        ("used[de]/draft@x", "used[de]/draft[x]"),
        ("used[a@b]/draft[x]", "used[a@b]/draft[x]"),
    ],
)
def test_an_instance_as_it_is_written_or_printed(written, name):
    assert instance_id(written) == name


def test_what_an_instance_is_part_of():
    assert list(wholes_of("a[x/y]/b[z]#2")) == [
        "a[x/y]/b[z]#2",
        "a[x/y]/b[z]",
        "a[x/y]/b",
        "a[x/y]",
        "a",
    ]
    assert path_of("a[x/y]/b[z]#2") == ("a", "b")
    assert list(wholes_of("a[b]/c]")) == ["a[b]/c]", "a"]
    assert list(wholes_of("a/b#2")) == ["a/b#2", "a/b", "a"]
    assert list(wholes_of("a[x]#2/b")) == ["a[x]#2/b", "a[x]#2", "a[x]", "a"]
    assert list(wholes_of("a#2/b#3/c")) == ["a#2/b#3/c", "a#2/b#3", "a#2/b", "a#2", "a"]
    assert path_of("a#2/b[x]#3/c") == ("a", "b", "c")


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_key_is_found_as_it_is_printed_and_as_it_is_written(one, other):
    known = [f"step[{one}]", f"step[{other}]"]
    assert [named(name, known) for name in known] == known
    assert [named(as_written(name), known) for name in known] == known


def test_a_rendered_text_that_fails_counts_once_while_its_run_is_at_work():
    ended = [
        InstanceRecord(id="a", step="a", status="ok", source="rendered"),
        InstanceRecord(id="b", step="b", status="failed", source="rendered"),
    ]
    counts = run_counts(ended, ())
    assert (counts.rendered, counts.failed, counts.done) == (1, 1, 1)
