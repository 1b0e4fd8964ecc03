"""The filters of texts: patterns, words, margins."""

import time

import pytest

from poeflow.templates.render import TemplateError, evaluate
from poeflow.templates.work_budget import Allowance

TEXT = "call 020-7946 or 0161-496, not x"


def value(house, expression, text=TEXT):
    origin = house.origin(expression)
    return evaluate(house.environment, expression, origin, {"inputs": {"text": text}})


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("regex_find('[0-9]+')", "020"),
        ("regex_find('([0-9]+)-([0-9]+)')", ["020", "7946"]),
        ("regex_find('-([0-9]+)')", "7946"),
        ("regex_find('(or)( and)?')", ["or", None]),
        ("regex_find('[A-Z]')", None),
        ("regex_find('(?i)CALL')", "call"),
        ("regex_find('[A-Z]') or 'none'", "none"),
        ("regex_findall('[0-9]{4}')", ["7946", "0161"]),
        ("regex_findall('([0-9]+)-([0-9]+)')", [["020", "7946"], ["0161", "496"]]),
        ("regex_findall('^call|x$')", ["call", "x"]),
        ("regex_findall('[A-Z]')", []),
        ("regex_replace('[0-9]', '#')", "call ###-#### or ####-###, not x"),
        ("regex_replace('[0-9]', '#', 2)", "call ##0-7946 or 0161-496, not x"),
        (
            r"regex_replace('([0-9]+)-([0-9]+)', '\\2/\\1\\\\')",
            r"call 7946/020\ or 496/0161\, not x",
        ),
        (r"regex_replace('(or)( and)?', '<\\0\\2>')", "call 020-7946 <or> 0161-496, not x"),
        ("regex_replace('[A-Z]', '')", TEXT),
        (r"regex_replace(', .*$', '')", "call 020-7946 or 0161-496"),
        (r"regex_find('\\bor\\b')", "or"),
        ("truncate_words(3)", "call 020-7946 or..."),
        ("truncate_words(3, ' [more]')", "call 020-7946 or [more]"),
        ("truncate_words(6)", TEXT),
    ],
)
def test_a_text_is_searched_cut_and_changed(house, filters, expected):
    assert value(house, f"inputs.text | {filters}") == expected


@pytest.mark.parametrize(
    ("text", "filters", "expected"),
    [
        ("aéb", "regex_replace('x*', '-')", "-a-é-b-"),
        ("abxd", "regex_replace('x*', '-')", "-a-b-d-"),
        ("", "regex_findall('x*')", [""]),
        ("日本", "regex_findall('.')", ["日", "本"]),
        ("  a\n\n    b\n  ", "dedent", "a\n\n  b\n"),
        ("a\n  b", "dedent", "a\n  b"),
        (" one  two\nthree ", "truncate_words(2)", " one  two..."),
        ("a b", "regex_replace(' ', inputs.text)", "aa bb"),
    ],
)
def test_characters_stay_whole(house, text, filters, expected):
    assert value(house, f"inputs.text | {filters}", text) == expected


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        (
            "regex_find('(?=a)')",
            "the pattern is not valid: invalid perl operator: (?=; write it in RE2 syntax",
        ),
        (
            r"regex_findall('\bx')",
            r"the pattern holds a control character; write \\b, two backslashes",
        ),
        (
            r"regex_replace('(a)', '\1')",
            r"the replacement holds a control character; write \\1, two backslashes",
        ),
        (r"regex_replace('(a)', '\\2')", "the pattern has no group 2, only 1"),
        ("map('regex_find', '(') | list", "the pattern is not valid: missing ): ("),
        ("regex_search('a')", 'unknown filter "regex_search"; did you mean "regex_find"?'),
    ],
)
def test_check_reads_patterns(house, filters, problem):
    [found] = house.problems(f"{{{{ inputs.topic | {filters} }}}}")
    assert found.partition(": ")[2].startswith(problem)


def test_check_says_where_a_pattern_is(house):
    assert house.problems("a\n{{ inputs.topic | regex_replace('a', '\\\\1') }}") == [
        "2:38: the pattern has no group 1, only 0"
    ]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("'a' | regex_find(inputs.text)", "the pattern is not valid: missing ): ("),
        ("'a' | regex_replace('a', inputs.text ~ '\\\\1')", "the pattern has no group 1, only 0"),
        ("'a' | truncate_words(0)", "truncate_words needs a length of 1 or more"),
        ("'a' | regex_find(3.5)", None),
    ],
)
def test_a_pattern_from_data_is_checked_as_it_is_used(house, expression, message):
    if message is None:
        assert value(house, expression, "(") is None
        return
    with pytest.raises(TemplateError) as caught:
        value(house, expression, "(")
    assert caught.value.reason.startswith(message)


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("a" * 400_000, "regex_findall('a(.*b)?')"),
        ("a" * 400_000, "regex_replace('a(.*b)?', 'x')"),
        ("abcd" * 100_000, "regex_find('(a[a-d]{300}b[a-d]{300})+z')"),
        ("x", "regex_find('(.{900}){900}')"),
        ("ab" * 4_000, "regex_replace('', inputs.text)"),
    ],
)
def test_a_search_that_would_take_long_is_stopped(house, text, filters):
    started = time.process_time()
    with pytest.raises(TemplateError):
        value(house, f"inputs.text | {filters}", text)
    assert time.process_time() - started < 5


def test_a_pattern_that_is_too_large_costs_the_check_its_time(house):
    def took(numbers):
        text = "".join(f"{{{{ 'a' | regex_find('[{i}\\\\pL]{{1000}}') }}}}" for i in numbers)
        house.share(Allowance())
        started = time.process_time()
        house.check(text)
        return time.process_time() - started

    assert took(range(80)) < min(5, 40 * took([80])), "most are not compiled"
