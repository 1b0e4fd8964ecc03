"""Plain scalars mean what YAML 1.2's core schema says, and what their writer sees."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.flowfile.yaml_messages import core_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("", "~", "null", "Null", "NULL")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        *[
            ("0", 0),
            ("7", 7),
            ("-7", -7),
            ("+7", 7),
            ("12345678901234567890", 12345678901234567890),
        ],
        *[("0x1F", 31), ("0o17", 15), ("0.5", 0.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0)],
        *[("-1.5E-2", -0.015), ("+.5e1", 5.0), ("1.10", 1.1)],
        *[(".inf", math.inf), ("-.INF", -math.inf), ("+.Inf", math.inf)],
    ],
)
def test_values(text, value):
    found = core_value(text)
    assert (found, type(found)) == (value, type(value))


def test_not_a_number():
    assert math.isnan(core_value(".nan"))


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "no", "on", "off", "y", "n", "Yes", "NO", "tRUE", "nULL", "none"),
        *("012", "-012", "00", "007.5", "12:30", "1:2:3", "2024-01-01", "1_000", "1,000"),
        *("0b101", "0X1F", "0xG", "0o8", "1e", "e3", ".", "-", "+", "--1", "1.2.3", "inf", "NaN"),
        *("+.nan", "0x", "١٢", "１", "1 ", "1\n", "<<", "="),
    ],
)
def test_everything_else_is_text(text):
    assert core_value(text) == text


def test_a_number_of_absurd_length_costs_nothing():
    assert core_value("9" * 100_000) == math.inf  # which the parser refuses
    assert core_value("0x" + "f" * 100_000) == "0x" + "f" * 100_000


@given(st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False))
def test_what_json_writes_is_read_back(value):
    written = str(value).lower()
    assert core_value(written) == value


@given(st.text())
def test_any_text_has_a_value(text):
    value = core_value(text)
    assert value is None or isinstance(value, bool | int | float | str)
