"""Values as pages show them."""

from datetime import UTC, timedelta, timezone

import pytest

from poeflow.report.pages import words


def test_what_hides_or_turns_is_escaped_and_joiners_stay():
    family = "\U0001f469\u200d\U0001f467"
    assert words.harmless(f"a\r\nb\tc\x1b\u202e\u200b\ud800{family}") == (
        f"a\nb\tc\\x1b\\u202e\\u200b\\ud800{family}"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, ""), (" a\n\n b ", "a b"), ("x" * 200, "x" * 139 + "…"), ("x" * 140, "x" * 140)],
)
def test_a_beginning_is_one_short_line(text, expected):
    assert words.beginning(text) == expected


def test_json_is_indented_and_what_is_too_deep_is_said():
    assert words.pretty({"a": ["é", None, "\ud800"]}) == (
        '{\n  "a": [\n    "é",\n    null,\n    "\ud800"\n  ]\n}'
    )
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert words.pretty(deep) == "nested too deeply to be shown"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (words.count(None), "–"),
        (words.count(12345), "12,345"),
        (words.usd(None), "–"),
        (words.usd(0.0), "$0.00"),
        (words.usd(0.0213), "$0.0213"),
        (words.usd(12.345), "$12.35"),
        (words.took(None), "–"),
        (words.took(75.0), "1 min 15 s"),
        (words.took(0.02), "20 ms"),
        (words.took(0.0), "0.0 s"),
        (words.size(1), "1 character"),
        (words.size(1200), "1,200 characters"),
        (words.moment(1_790_000_000, UTC), "2026-09-21 14:13:20 UTC"),
        (words.moment(1_790_000_000, timezone(timedelta(hours=2))), "2026-09-21 16:13:20"),
        (words.moment(1e300, UTC), "–"),
        (words.iso(1_790_000_000), "2026-09-21T14:13:20+00:00"),
        (words.iso(1e300), ""),
        (words.query({}), ""),
        (words.query({"a": "", "b": None, "c": "d e&f", "g": 2}), "?c=d+e%26f&g=2"),
        (words.query({"a": "\ud800"}), "?a=%3F"),
    ],
)
def test_values_are_shown(shown, expected):
    assert shown == expected
