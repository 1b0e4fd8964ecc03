"""What an instance is called, and what it is of."""

import pytest

from poeflow.facts import step_of


@pytest.mark.parametrize(
    ("instance", "step"),
    [
        ("draft", "draft"),
        ("draft#2", "draft"),
        ("draft[a/b]", "draft"),
        ("draft[a[0]]#2", "draft"),
        ("used/draft", "used/draft"),
        ("used[de]/draft[x]", "used[de]/draft"),
    ],
)
def test_the_step_of_an_instance(instance, step):
    assert step_of(instance) == step
