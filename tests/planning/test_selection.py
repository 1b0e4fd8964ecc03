"""Which instances a selection means, also below loops whose keys it does not name."""

import pytest

from poeflow.planning.selection import Selection


@pytest.mark.parametrize(
    ("selected", "name", "is_meant"),
    [
        ("a/b", "a[x]/b", True),
        ("a/b", "a[x]/b[y]", True),
        ("a/b", "a[x]/b[y]#2", True),
        ("a[x]/b", "a[x]/b[y]", True),
        ("a[x]/b", "a[z]/b[y]", False),
        ("a/b", "a[x]/c", False),
        ("a/b", "a[x]", False),
        ("a/b[y]", "a[x]/b[y]", True),
        ("a/b[y]", "a[x]/b[z]", False),
        ("a#2/b", "a#1/b", False),
    ],
)
def test_a_step_in_a_loop_is_meant_in_each_instance(selected, name, is_meant):
    assert Selection(refreshed=frozenset({selected})).refreshes(name) is is_meant


@pytest.mark.parametrize(
    ("selected", "name", "is_touched"),
    [("a/b", "a[x]", True), ("a[z]/b", "a[x]", False), ("a/b/c", "a[x]/b[y]", True)],
)
def test_what_a_meant_step_is_in_is_touched(selected, name, is_touched):
    assert Selection(only=frozenset({selected})).touches(name) is is_touched
