"""What comes out: text, typed values, paths; and what fails, where."""

import pytest

from poeflow.problems import Place
from poeflow.templates.reader import Origin
from poeflow.templates.render import TemplateError, render
from poeflow.templates.template_errors import type_error_in_words

TO_NUMBER = "cells of csv and answers are text: write | int or | float"
OF_A_LIST = "write | map('int') or | map('float') before it"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi {{ inputs.topic }}!", "Hi cats!"),
        ("{% for row in inputs.rows %}\n- {{ row.name }}\n{% endfor %}\nend\n", "- Ada\n- Bo\nend"),
        ("  {% if true %}\nx\n  {% endif %}", "x\n"),
        ("{{ 1 + 2 }} {{ 7 // 2 }} {{ 2 ** 10 }} {{ 1.5 }}", "3 3 1024 1.5"),
        ("{{ 'a' ~ 1 ~ inputs.topic }}", "a1cats"),
        ("{{ 'a' + 'b' }} {{ ([1] + [2])|tojson }}", "ab [1, 2]"),
        ("{{ steps.draft.data.items | length }}", "2"),
        ("{{ steps.draft.data | items | first | tojson }}", '["items", [1, 2]]'),
        ("{{ inputs.rows | map(attribute='name') | join(', ') }}", "Ada, Bo"),
        ("{{ inputs.rows | selectattr('age', 'gt', 10) | map(attribute='name') | first }}", "Ada"),
        (
            "{% for g in inputs.rows|groupby('age') %}{{ g.grouper ~ g.list|tojson }}{% endfor %}",
            '7[{"name": "Bo", "age": 7}]36[{"name": "Ada", "age": 36}]',
        ),
        ("{{ inputs.topic[1:3] }} {{ inputs.topic[0] }} {{ inputs.rows[-1].name }}", "at c Bo"),
        ("{{ inputs.zz | default('none given') }}", "none given"),
        ("{{ 'x' if false }}", ""),
        (
            "{% macro m(obj, args) %}{{ obj }}{{ args }}{% endmacro %}{{ m(obj='o', args=2) }}",
            "o2",
        ),
        ("<{{ '<&>' }}>", "<<&>>"),
        ("{% for i in range(3) %}{{ loop.index }}{{ ',' if not loop.last }}{% endfor %}", "1,2,3"),
        (
            "{{ 'a b'.split() | join('-') }} {{ 'aXb'.lower().startswith('ax') | tojson }}",
            "a-b true",
        ),
    ],
)
def test_text_is_rendered(house, text, expected):
    assert house.problems(text.replace("inputs.zz", "inputs.topic")) == []
    assert house.render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n {{ inputs.nope }}", '2:11: there is no "nope" here, only topic, rows'),
        (
            "{{ steps.draft.data.none }}",
            "1:20: none has no text of its own; use | tojson, or test it with if",
        ),
        (
            "{{ steps.draft.data.ok }}",
            "1:20: true has no text of its own; use | tojson, or test it with if",
        ),
        (
            "{{ inputs.rows }}",
            "1:10: a list has no text of its own; use | tojson, | join(', ') or a loop",
        ),
        (
            "{{ inputs.rows[0] }}",
            "1:15: a mapping has no text of its own; use | tojson or name one of its keys",
        ),
        (
            "{{ ['a', none] | join }}",
            "1:18: none has no text of its own; use | tojson, or test it with if",
        ),
        ("{{ 'a' ~ none }}", "1:4: none has no text of its own; use | tojson, or test it with if"),
        ("{{ inputs.topic.upper }}", "1:16: a function is not text; call it with ()"),
        ("{{ inputs.topic.name }}", '1:16: a text has no "name"'),
        ("{{ inputs.rows[5] }}", "1:15: there is no item 5, only 2 items"),
        (
            "{{ steps.draft.data.keys() }}",
            '1:25: there is no "keys" here, only items, ok, none; use | items',
        ),
        ("{{ nope }}", '1:4: "nope" is not there'),
        ("{{ 'a' * 3 }}", f"1:4: * works on numbers only, not on a text; {TO_NUMBER}"),
        (
            "{{ 'a' + 3 }}",
            f"1:4: + cannot add a text and a number; join texts with ~; {TO_NUMBER}",
        ),
        ("{{ 'x' if '9' > 3 }}", f"1:4: > cannot compare a text with a number; {TO_NUMBER}"),
        (
            "{{ 'x' if none < 3 }}",
            "1:4: < cannot compare none with a number; test it before with: is not none",
        ),
        ("{{ [3, {}] | max }}", "1:14: > cannot compare a mapping with a number"),
        (
            "{{ none + 1 }}",
            "1:4: + cannot take none and a number; test it before with: is not none",
        ),
        ("{{ [1] + 'a' }}", "1:4: + cannot add a list and a text"),
        ("{{ range(3) - true }}", "1:4: - cannot take a list and true or false"),
        ("{{ -inputs.topic }}", f"1:4: - works on numbers only, not on a text; {TO_NUMBER}"),
        ("{{ '2' | round }}", f"1:10: round works on numbers only, not on a text; {TO_NUMBER}"),
        (
            "{{ ['1'] | sum }}",
            f"1:12: sum works on numbers only, not on a text; {OF_A_LIST}",
        ),
        ("{{ 'x' if 'x' is even }}", "1:4: this test is for numbers only"),
        ("{{ 3 | length }}", "1:8: a number has no length"),
        ("{{ 'x' if 3 in 'abc' }}", "1:4: in a text there can be a text, not a number"),
        ("{{ 'x' if 3 in 4 }}", "1:4: nothing can be in a number"),
        ("{{ 3 | join }}", "1:8: a number is not a list"),
        ("{{ range('3') | join }}", "1:17: a text is not a whole number"),
        ("{{ 'abc'[:'1'] }}", "1:9: the ends of a slice must be whole numbers"),
        ("{{ '3,5' | float }}", '1:12: "3,5" is not a number; write float(0) to take 0 for it'),
        ("{{ '8/10' | int }}", '1:13: "8/10" is not a number; write int(0) to take 0 for it'),
        ("{{ none | int }}", "1:11: none is not a number; write int(0) to take 0 for it"),
        ("{{ [1] | float }}", "1:10: this value is not a number; write float(0) to take 0 for it"),
        (
            "{{ 'é%s' | int }}" % ("1" * 40),
            f'1:50: "é{"1" * 39}" is not a number; write int(0) to take 0 for it',
        ),
        ("{{ 1 / 0 }}", "1:4: division by zero"),
        ("{{ range(100001) }}", "1:9: a number or a range is too large"),
        ("{% for x in 5 %}{% endfor %}", "1:4: a loop needs a list or a mapping, not 5"),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "1:4: the template calls itself without end, or is nested too deep",
        ),
        ("{{ '\\ud800' }}", "1:1: the text holds half a character (\\ud800)"),
        ("{{ a b }}", '1:6: "b" is not expected here; close it with }}'),
    ],
)
def test_failure_says_where_and_what(house, text, expected):
    with pytest.raises(TemplateError) as caught:
        house.render(text)
    assert str(caught.value) == f"prompts/main.md:{expected}"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "bad operand type for sum: 'InstanceValue'",
            "sum works on numbers only, not on a mapping",
        ),
        (
            "'<' not supported between instances of 'Instances' and 'int'",
            "< cannot compare a mapping with a number",
        ),
        ("argument of type 'int' is not a container or iterable", "nothing can be in a number"),
        ("any other message of 'int'", "any other message of 'int'"),
    ],
)
def test_types_are_in_words_whichever_python_names_them(message, told):
    assert type_error_in_words(message) == (told, "")


def test_values_are_never_templates(house):
    values = {"inputs": {"x": "{{ 7 * 7 }}{% include 'a' %}{# b #}"}, "steps": {}, "flow": {}}
    text = "{{ inputs.x }}|{{ inputs.x ~ '' }}|{% set y %}{{ inputs.x }}{% endset %}{{ y }}"
    one = "{{ 7 * 7 }}{% include 'a' %}{# b #}"
    rendered = render(house.environment, text, house.origin(text), values)
    assert rendered == "|".join([one] * 3)


def test_two_places_with_one_text_keep_their_own_places(house):
    text = "{{ inputs.nope }}"
    places = []
    for line in (4, 9):
        here = Place("flow.yaml", line, 1)
        origin = Origin(path="//flow.yaml", locate=lambda _offset, here=here: here)
        with pytest.raises(TemplateError) as caught:
            render(house.environment, text, origin, {"inputs": {}})
        places.append(caught.value.place)
    assert places == [Place("flow.yaml", 4, 1), Place("flow.yaml", 9, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ inputs.rows[1] }}", {"name": "Bo", "age": 7}),
        ("  {{ steps.draft.data.ok }}\n", True),
        ("{{ none }}", None),
        ("{{ 2 ** 3 }}", 8),
        ("{{ 1.5 }}", 1.5),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ (1, 'a') }}", [1, "a"]),
        ("{{ {1: 'a'} }}", {"1": "a"}),
        ("{{ inputs.topic | list }}", ["c", "a", "t", "s"]),
        ("n: {{ 3 }}", "n: 3"),
        ("{{ 1 }}{{ 2 }}", "12"),
        ("{% if true %}{{ 1 }}{% endif %}", "1"),
        ("plain", "plain"),
        ("  spaced ", "  spaced "),
    ],
)
def test_one_expression_keeps_its_type(house, text, expected):
    for _ in range(2):  # the second time it is known
        assert house.value(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ 2 ** 64 }}", "the result is a number over 64 bits"),
        ("{{ 1e308 * 10 }}", "the result is not a finite number"),
        ("{{ inputs.nope }}", 'there is no "nope" here, only topic, rows'),
        ("{{ range }}", "a function is not text; call it with ()"),
        ("{{ {true: 1} }}", "the key True of a mapping is not text"),
    ],
)
def test_value_must_be_plain(house, text, message):
    with pytest.raises(TemplateError) as caught:
        house.value(text)
    assert caught.value.message.split(": ", 1)[1] == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inputs.rows | length == 2", True),
        ("{{ inputs.topic }}", "cats"),
        ("-1", -1),
        ("{'a': {'b': 1}}", {"a": {"b": 1}}),
        ("'}}'", "}}"),
        ("steps.draft.status == 'ok' and steps.draft.data.ok", True),
    ],
)
def test_expression_has_its_value(house, text, expected):
    assert house.evaluate(text) == expected


def test_expression_fails_at_its_place(house):
    with pytest.raises(TemplateError) as caught:
        house.evaluate("  1 + inputs.nope")
    assert str(caught.value.place) == "prompts/main.md:1:3"
    with pytest.raises(TemplateError, match="one expression"):
        house.evaluate("1 }}{{ 2")


def test_path_takes_safe_segments(house):
    assert house.path("out/{{ inputs.topic }}.{{ 1 }}.md") == "out/cats.1.md"


@pytest.mark.parametrize("value", ["a/b", "..", ".git", "", "a\\b", "a\nb", "a\0b"])
def test_path_refuses_what_leaves_its_segment(house, value):
    text = "{% set x = v %}out/{{ x }}"
    origin = house.origin(text)
    from poeflow.templates.render import render_path

    with pytest.raises(TemplateError, match="not one safe part of a path"):
        render_path(house.environment, text, origin, {"v": value})


def test_path_and_text_of_the_same_words_are_apart(house):
    text = "{{ 'a/b' }}"
    assert house.render(text) == "a/b"
    with pytest.raises(TemplateError):
        house.path(text)
    assert house.render(text) == "a/b"
