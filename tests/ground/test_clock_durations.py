"""Durations are read as people write them, and the schema's pattern takes the same ones."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poeflow.clock import PATTERN, seconds, spoken

WRITTEN = st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h)?", fullmatch=True)


@given(WRITTEN | st.text("0123456789.msh -+e", max_size=8))
@example("1.5h")
@example(".5s")
@example("5.s")
@example("10 m")
def test_the_schema_takes_what_can_be_read(written):
    try:
        can_be_read = seconds(written) >= 0
    except ValueError:
        can_be_read = False
    assert can_be_read == bool(re.search(PATTERN, written.strip()))


@pytest.mark.parametrize(("written", "read"), [("1.5h", 5400.0), ("0", 0.0), (" 2s ", 2.0)])
def test_units_are_seconds(written, read):
    assert seconds(written) == read


def test_what_is_none_says_how_to_write_one():
    with pytest.raises(ValueError) as caught:
        seconds("1 day")
    assert str(caught.value) == "'1 day' is not a duration; write 90s, 10m or 1h"


@pytest.mark.parametrize(
    ("duration", "told"),
    [(0, "0.0 s"), (10, "10 s"), (59, "59 s"), (60, "1 min 00 s"), (3599.4, "59 min 59 s")],
)
def test_spoken(duration, told):
    assert spoken(duration) == told
