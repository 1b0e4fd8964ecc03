"""Where things stand: offsets through the lexer, and places made of them."""

from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateSyntaxError
from jinja2.lexer import newline_re
from jinja2.sandbox import ImmutableSandboxedEnvironment

from poeflow.problems import Place
from poeflow.templates.environment import OffsetLexer
from poeflow.templates.reader import Origin

PIECES = st.sampled_from(
    [
        *(
            "{{ a.b }}",
            "{{- x -}}",
            "{% if a -%}",
            "{% endif %}",
            "{%- set q = 'a\"b' %}",
            "{# c #}",
        ),
        *("{#- d\n -#}", "{% raw %}{{ no }}{% endraw %}", " ", "\n", "\r\n", "\r", "    ", "word"),
        *("é😀", "}}", "{", "$", "{{ 1.5e3 ~ [1, 'x'] }}", "{%+ if b %}", "{{ {'a': {}} }}"),
    ]
)


def lexer() -> OffsetLexer:
    return OffsetLexer(ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True))


@given(st.lists(PIECES).map("".join))
def test_every_token_stands_where_its_offset_says(text):
    last = 0
    for number, value in tokens_of(text):
        assert newline_re.sub("\n", text[number - 1 :]).startswith(value)
        assert number > last or not value
        last = number


def tokens_of(text: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    try:
        for number, _, value in lexer().tokeniter(text, None):
            found.append((number, value))
    except TemplateSyntaxError as error:
        found.append((error.lineno, ""))
    return found


def test_place_counts_lines_and_columns_from_one():
    text = "ab\nçd\n\nx"
    origin = Origin.for_file("//a.md", text, shown="../a.md")
    places = [origin.locate(offset) for offset in range(len(text) + 1)]
    lines = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (4, 2)]
    assert places == [Place("../a.md", line, column) for line, column in lines]


def test_place_beyond_the_text_is_its_end():
    assert Origin.for_file("//a.md", "ab", shown="a.md").locate(99) == Place("a.md", 1, 3)


def test_moved_origin_stays_inside_the_part():
    origin = Origin.for_file("//a.md", "0123456789", shown="a.md").moved(3, 6)
    columns = [origin.locate(offset).column for offset in (-5, 0, 2, 3, 50)]
    assert columns == [1, 4, 6, 7, 7]


def test_errors_behind_windows_line_ends_have_their_place(house):
    text = "one\r\ntwo\r\n  {{ nope }}\r\n"
    (problem,) = house.check(text).problems
    # `Origin` counts lines by \n, as an editor does.
    assert problem.place == Place("prompts/main.md", 3, 6)


def test_unclosed_comment_is_shown_where_it_begins(house):
    assert house.problems("a\n  {# b")[0].startswith("2:3: missing end of comment")
