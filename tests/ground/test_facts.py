"""What an instance is called, and what it is of."""

import pytest

from poeflow.facts import key_of, step_of


@pytest.mark.parametrize(
    ("instance", "step", "key"),
    [
        ("draft", "draft", None),
        ("draft#2", "draft", None),
        ("draft[a/b]", "draft", "a/b"),
        ("draft[a[0]]#2", "draft", "a[0]"),
        ("used/draft", "used/draft", None),
        ("used[de]/draft[x]", "used[de]/draft", "x"),
    ],
)
def test_the_step_and_the_key_of_an_instance(instance, step, key):
    assert (step_of(instance), key_of(instance)) == (step, key)
