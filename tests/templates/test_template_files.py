"""Files in templates: found by the project's rules, checked with places of their own."""

import pytest

from poeflow.templates.render import TemplateError
from poeflow.templates.scopes import Scope


def test_included_file_is_checked_at_its_own_place(make_house):
    house = make_house({"prompts/part.md": "ok\n{{ inputs.nope }}"})
    (problem,) = house.check("{% include 'part.md' %}").problems
    assert str(problem) == 'prompts/part.md:2:11: unknown input "nope"; known: rows, topic'


def test_files_are_listed_once_with_canonical_paths(make_house):
    house = make_house({"prompts/a.md": "{% include '../b.md' %}", "b.md": "", "data/c.csv": "1"})
    text = (
        "{% include 'a.md' %}{% include '//b.md' %}{{ read('../data/c.csv') }}{{ glob('*.md')[0] }}"
    )
    checked = house.check(text)
    assert checked.problems == ()
    assert checked.files == ("//prompts/a.md", "//b.md", "//data/c.csv")
    assert checked.globs == ("*.md",)


def test_missing_file_is_a_problem_at_its_name(make_house):
    house = make_house({"prompts/style.md": ""})
    found = house.problems("x {% include 'styl.md' %}{{ read('nope/x.md') }}")
    assert found == [
        '1:14: //prompts/styl.md does not exist; did you mean "style.md"?',
        "1:34: //prompts/nope/x.md does not exist; its folder does not exist either",
    ]


def test_missing_file_may_be_ignored(house):
    text = "a{% include 'nope.md' ignore missing %}b"
    assert house.problems(text) == []
    assert house.render(text) == "ab"


def test_files_outside_the_project_are_refused(house):
    for text in ("{% include '../../x.md' %}", "{{ read('/etc/passwd') }}"):
        (problem,) = house.check(text).problems
        assert "the project" in str(problem)
        with pytest.raises(TemplateError, match="the project"):
            house.render(text)


def test_files_that_include_each_other_are_a_problem(make_house):
    house = make_house(
        {"prompts/a.md": "{% include 'b.md' %}", "prompts/b.md": "\n{% include 'a.md' %}"}
    )
    (problem,) = house.check("{% include 'a.md' %}").problems
    assert str(problem) == (
        "prompts/b.md:2:12: these files include each other: "
        "//prompts/a.md -> //prompts/b.md -> //prompts/a.md; remove one of them"
    )
    with pytest.raises(TemplateError, match="calls itself without end"):
        house.render("{% include 'a.md' %}")


def test_includes_cannot_multiply(make_house):
    files = {
        f"prompts/{n}.md": f"{{% set x{n} = 1 %}}".join([f"{{% include '{n + 1}.md' %}}"] * 2)
        for n in range(18)
    }
    house = make_house(files | {"prompts/18.md": ""})
    messages = {problem.message for problem in house.check("{% include '0.md' %}").problems}
    assert messages == {"too many files are included before this one"}


def test_included_file_sees_what_its_includer_sets(make_house):
    house = make_house({"prompts/row.md": "{{ row.name }} by {{ by }} {{ inputs.topic }};"})
    text = "{% set by = 'me' %}{% for row in inputs.rows %}{% include 'row.md' %}{% endfor %}"
    assert house.problems(text) == []
    assert house.render(text) == "Ada by me cats;Bo by me cats;"


def test_macros_are_imported_by_name_or_as_a_module(make_house):
    house = make_house({"prompts/m.md": "{% macro hi(n) %}hi {{ n }}{% endmacro %}"})
    assert house.render("{% from 'm.md' import hi as h %}{{ h('x') }}") == "hi x"
    assert house.render("{% import 'm.md' as m %}{{ m.hi('x') }}") == "hi x"
    assert house.problems("{% from 'm.md' import hi as h %}{{ h('x') }}") == []


def test_unknown_macro_is_a_problem_at_its_name(make_house):
    house = make_house({"prompts/m.md": "{% macro greet() %}{% endmacro %}"})
    text = "{% from 'm.md' import greet, gret %}\n{% import 'm.md' as m %}{{ m.gret() }}"
    assert house.problems(text) == [
        '1:30: //prompts/m.md does not define "gret"; did you mean "greet"?',
        '2:30: //prompts/m.md does not define "gret"; did you mean "greet"?',
    ]


def test_imported_file_does_not_see_inputs(make_house):
    house = make_house({"prompts/m.md": "{% macro hi() %}{{ inputs.topic }}{% endmacro %}"})
    (problem,) = house.check("{% from 'm.md' import hi %}{{ hi() }}").problems
    assert str(problem) == (
        'prompts/m.md:1:20: "inputs" is not known in a file imported without context; '
        'pass it to the macro, or write "import ... with context"'
    )
    text = "{% from 'm.md' import hi with context %}{{ hi() }}"
    assert (house.problems(text), house.render(text)) == ([], "cats")


def test_error_in_an_included_file_has_its_place_there(make_house):
    house = make_house({"prompts/part.md": "one\n  {{ inputs.rows }}"})
    with pytest.raises(TemplateError) as caught:
        house.render("{% include 'part.md' %}")
    assert str(caught.value.place) == "prompts/part.md:2:12"


def test_syntax_error_in_an_included_file_has_its_place_there(make_house):
    house = make_house({"prompts/part.md": "one\n  {{ a b }}"})
    with pytest.raises(TemplateError) as caught:
        house.render("{% include 'part.md' %}")
    assert str(caught.value.place) == "prompts/part.md:2:8"


def test_read_gives_text_and_never_renders_it(make_house):
    house = make_house({"data/x.md": "{{ 7 * 7 }}\r\n"})
    assert house.render("{{ read('../data/x.md') }}") == "{{ 7 * 7 }}\n"


@pytest.mark.parametrize(
    "text",
    [
        "{{ read(steps.draft.text) }}",
        "{{ read('a' ~ steps.draft.text) }}",
        "{% set p = steps.draft.text %}{{ read(p) }}",
        "{% set p %}{{ steps.draft.text }}{% endset %}{{ glob(p) }}",
        "{% for p in steps.draft.data %}{{ read(p) }}{% endfor %}",
        "{% for p in steps.draft.data %}{{ read('x' ~ loop.index) }}{% endfor %}",
        "{% with p = steps.draft.text %}{% include p %}{% endwith %}",
        "{% macro m(p) %}{{ read(p) }}{% endmacro %}{{ m(steps.draft.text) }}",
        "{% macro m() %}{{ steps.draft.text }}{% endmacro %}{{ read(m()) }}",
        "{% set ns = namespace(p='') %}{% set ns.p = steps.draft.text %}{{ read(ns.p) }}",
        (
            "{% set ns = namespace(p='') %}{% for i in [1, 2] %}{{ read(ns.p) }}"
            "{% set ns.p = steps.draft.text %}{% endfor %}"
        ),
        "{% import steps.draft.text as m %}",
        "{{ read(item) }}",
    ],
)
def test_path_never_comes_from_a_step(house, text):
    scope = Scope(
        inputs=frozenset(),
        steps=frozenset({"draft"}),
        extra=frozenset({"item"}),
        derived=frozenset({"item"}),
    )
    assert any("may come from a step" in problem for problem in house.problems(text, scope))


def test_derived_name_stays_derived_in_an_included_file(make_house):
    house = make_house({"prompts/part.md": "{{ read(p) }}"})
    (problem,) = house.check("{% set p = steps.draft.text %}{% include 'part.md' %}").problems
    assert problem.message == "read cannot take a path that may come from a step"


@pytest.mark.parametrize(
    "text",
    [
        "{{ read(inputs.topic) }}",
        "{% for row in inputs.rows %}{{ read('x/' ~ row.name) }}{% endfor %}",
        "{% for p in glob('*.md') %}{{ read(p) }}{% endfor %}",
        "{% set steps = ['a'] %}{{ read(steps[0]) }}",
    ],
)
def test_path_may_come_from_an_input(house, text):
    assert house.problems(text) == []
