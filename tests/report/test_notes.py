"""Messages of one cause are told together, and those of two are not."""

import pytest

from poeflow.report.terminal.notes import Note, by_cause, without_finding

LOST = 'expected to contain "lost, found again", found "a"'


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('expected to contain "x", found "a, found b"', 'expected to contain "x"'),
        (LOST, 'expected to contain "lost, found again"'),
        ('expected to contain "", found "a"', 'expected to contain ""'),
        ('expected to contain "say "x", found", found "a"', 'expected to contain "say "x", found"'),
        ('expected to contain "5" wide", found "a"', 'expected to contain "5" wide"'),
        (
            'expected that output.text != "x, found y", found that "a" is it',
            'expected that output.text != "x, found y"',
        ),
        (
            'expected a score of at least 0.5, found 0.2: it says "lost, found',
            "expected a score of at least 0.5",
        ),
        ("no file data/lost, found in data/other", "no file data/lost, found in data/other"),
    ],
)
def test_what_was_expected_ends_where_what_was_found_begins(message, expected):
    assert without_finding(message) == expected


def test_two_expectations_that_begin_alike_are_two_causes():
    other = LOST.replace("again", "never")
    notes = [Note("a[x]", LOST), Note("a[y]", other), Note("a[z]", LOST.replace('"a"', '"b"'))]
    assert [one.steps for one in by_cause(notes)] == [("a[x]", "a[z]"), ("a[y]",)]
    assert [one.is_same for one in by_cause(notes)] == [False, True]
