"""The names by which models answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.bots import is_snapshot, other_name


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("gpt-5-2025-08-07", "GPT-5", True),
        ("claude-sonnet-4-5-20250929", "Claude-Sonnet-4.5", True),
        ("gpt-4-0613", "openai/gpt-4", True),
        ("gpt-5.2-2025-12-11", "gpt-5", False),
        ("gpt-5.2", "gpt-5", False),
        ("gpt-5-mini-2025-08-07", "gpt-5", False),
        ("gpt-5", "gpt-5", False),
    ],
)
def test_a_snapshot_is_the_asked_name_with_a_date(name, asked, expected):
    assert is_snapshot(name, asked) is expected


def test_another_name_is_not_the_asked_one():
    assert other_name("GPT-5", "gpt-5") == other_name("", "x") == other_name("x", None) == ""
    assert other_name("GPT-5", "gpt-5.2") == "gpt-5.2"


@given(st.text(st.characters()))
def test_a_name_from_a_server_is_short_and_harmless(served):
    name = other_name("asked", served * 50)
    assert len(name) <= 2_000
    assert "\x1b" not in name
    name.encode()
