"""How included texts meet the lines they are included in."""

import pytest

FILES = {
    "prompts/one.md": "part one.\n",
    "prompts/bare.md": "no line end",
    "prompts/blank.md": "with a blank line below\n\n",
    "prompts/crlf.md": "a\r\nb\r\n",
    "prompts/list.md": "{% for row in [1, 2] %}\n- {{ row }}\n{% endfor %}\n",
    "prompts/if.md": "{% if yes is defined %}\nyes\n{% endif %}\n",
    "prompts/sets.md": "{% set x = 1 %}\n{% set y = 2 %}\n",
    "prompts/empty.md": "",
    "prompts/nested.md": "Above.\n{% include 'one.md' %}\n",
    "prompts/row.md": "- {{ row }}\n",
    "prompts/macros.md": "{% macro m() %}\n<{% include 'one.md' %}>\n{% endmacro %}\n",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{% include 'one.md' %}\nSecond.", "part one.\nSecond."),
        ("{% include 'one.md' %}\nSecond.\n", "part one.\nSecond."),
        ("First.\n{% include 'one.md' %}\nSecond.", "First.\npart one.\nSecond."),
        ("First.\n  {% include 'one.md' %}  \nSecond.", "First.\npart one.  \nSecond."),
        ("{% include 'one.md' %}\n\nSecond.", "part one.\n\nSecond."),
        ("{% include 'one.md' %}\n{% include 'bare.md' %}\nx", "part one.\nno line end\nx"),
        ("{% include 'bare.md' %}\nSecond.", "no line end\nSecond."),
        ("{% include 'blank.md' %}\nSecond.", "with a blank line below\n\nSecond."),
        ("{% include 'crlf.md' %}\r\nSecond.\r\n", "a\nb\nSecond."),
        ("{% include 'list.md' %}\nSecond.", "- 1\n- 2\nSecond."),
        ("{% include 'if.md' %}\nSecond.", "Second."),
        ("{% include 'sets.md' %}\nSecond.", "Second."),
        ("{% include 'empty.md' %}\nSecond.", "Second."),
        ("{% include 'no.md' ignore missing %}\nSecond.", "Second."),
        ("{% include 'nested.md' %}\nSecond.", "Above.\npart one.\nSecond."),
        ("{% include 'nested.md' %}\n", "Above.\npart one."),
        ("{# why #}{% include 'one.md' %}{# why #}\nSecond.", "part one.\nSecond."),
    ],
)
def test_an_include_alone_in_its_line_stands_for_the_lines_of_its_file(make_house, text, expected):
    assert make_house(FILES).render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Say {% include 'one.md' %} Go.", "Say part one. Go."),
        ("Say {% include 'one.md' %}, go.\nx", "Say part one., go.\nx"),
        ("- {% include 'one.md' %}\n- {% include 'bare.md' %}\n", "- part one.\n- no line end"),
        ("- {% include 'empty.md' %}\nx", "- \nx"),
        ("{% include 'one.md' %}{% include 'bare.md' %}\nx", "part one.no line end\nx"),
        ("{% include 'one.md' %}{% include 'empty.md' %}\nx", "part one.\nx"),
        ("{{ 1 }}{% include 'one.md' %}\nx", "1part one.\nx"),
        ("{% include 'one.md' %}{{ 1 }}\nx", "part one.1\nx"),
        ("{% include 'one.md' -%}\nx", "part one.x"),
        ("{% include 'one.md' +%}\nx", "part one.\nx"),
        ("{% include 'one.md' %}\n{{- 1 }}", "part one.1"),
        ("{% include 'one.md' %}\n{%- if true %} x{% endif %}", "part one. x"),
        ("{% include 'one.md' %}", "part one."),
        ("{% include 'one.md' %}\n", "part one."),
        ("{% filter upper %}{% include 'one.md' %}{% endfilter %}!", "PART ONE.!"),
        ("{% set p %}{% include 'one.md' %}{% endset %}<{{ p }}>", "<part one.>"),
        ("{% from 'macros.md' import m %}\n{{ m() }}x", "<part one.>\nx"),
    ],
)
def test_an_include_inside_a_line_stands_for_the_text_of_its_file(make_house, text, expected):
    assert make_house(FILES).render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{% for row in [1, 2] %}\n{% include 'row.md' %}\n{% endfor %}\nx", "- 1\n- 2\nx"),
        ("{% for row in [1, 2] %}{% include 'row.md' %}{% endfor %}\nx", "- 1\n- 2\nx"),
        ("{% if true %}\n{% include 'one.md' %}\n{% endif %}\nx", "part one.\nx"),
        ("{% if true %}{% include 'one.md' %}{% endif %}\nx", "part one.\nx"),
        ("{% if false %}{% include 'one.md' %}{% endif %}\nx", "x"),
        (
            "{% if false %}{% include 'one.md' %}{% else %}{% include 'bare.md' %}{% endif %}\nx",
            "no line end\nx",
        ),
        (
            "{% if true %}{% include 'one.md' %}{% else %}{% include 'bare.md' %}{% endif %}\nx",
            "part one.\nx",
        ),
        ("{% set a = 1 %}\n{% if a %}\nyes\n{% endif %}\nx", "yes\nx"),
        ("{% raw %}{% include 'one.md' %}{% endraw %}\nx", "{% include 'one.md' %}x"),
        ("{% set include = 'one.md' %}\n{% include include %}\nx", "part one.\nx"),
    ],
)
def test_other_tags_in_the_line_leave_it_alone(make_house, text, expected):
    assert make_house(FILES).render(text) == expected
