"""Templates that extend others: which blocks are filled, and what each sees."""

import re

import pytest

from poeflow.templates.render import TemplateError

FILES = {
    "prompts/base.md": """You are {% block who %}a helper{% endblock %}.
{% block task required %}{% endblock %}

{% for row in inputs.rows %}
{% block row scoped %}- {{ row.name }}
{% endblock %}
{% endfor %}
End {{ title | default('none') }}.
""",
    "prompts/mid.md": """{# a reason #}
{% extends 'base.md' %}
{% block who %}{{ super() }}, {% block mood %}kind{% endblock %}{% endblock %}
""",
    "prompts/call.md": "{% extends 'called.md' %}{% block c %}{{ m(inputs.topic) }}{% endblock %}",
    "prompts/called.md": "{% block c %}{% endblock %}",
    "prompts/data.md": "own",
    "parts/data.md": "other",
    "parts/reading.md": (
        "{% set word = 'set' %}{% block x %}{{ read('data.md') }}{% endblock %} "
        "{{ read('data.md') }} {{ glob('*.md') | length }} {% block y %}{% endblock %}"
    ),
    "parts/plain.md": "a\n{% block b %}b\n{% endblock %}\nc\n",
    "prompts/again.md": "{% extends 'again.md' %}",
}
READING = """{% block y %}{{ word }}{% endblock %}
{% block x %}{{ super() }} {{ read('data.md') }} {{ glob('*.md') | length }}{% endblock %}
"""
TASK = "{% block task %}Sort.{% endblock %}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{% extends 'base.md' %}\n{% block task %}Sort {{ inputs.topic }}.{% endblock %}\n",
            "You are a helper.\nSort cats.\n- Ada\n- Bo\nEnd none.",
        ),
        (
            "{% extends 'mid.md' %}{% set title = 'T' %}" + TASK,
            "You are a helper, kind.\nSort.\n- Ada\n- Bo\nEnd T.",
        ),
        (
            "{% extends 'mid.md' %}{% block mood %}mean{% endblock %}" + TASK,
            "You are a helper, mean.\nSort.\n- Ada\n- Bo\nEnd none.",
        ),
        (
            "{% extends 'base.md' %}{% block row %}{{ row.age }}: {{ super() }}{% endblock %}"
            + TASK,
            "You are a helper.\nSort.\n36: - Ada\n7: - Bo\nEnd none.",
        ),
        (
            "\n{% macro m(x) %}<{{ x }}>{% endmacro %}\n{% extends 'call.md' %}",
            "<cats>",
        ),
        (
            "{% extends '../parts/reading.md' %}" + READING,
            "other own 6 other 3 set",
        ),
        ("{% extends '../parts/plain.md' %}", "a\nb\nc"),
        ("{% extends '../parts/plain.md' %}{% block b %}{% endblock %}\n", "a\nc"),
        ("x {% include '../parts/plain.md' %} y", "x a\nb\nc y"),
        ("{% block a %}{{ inputs.topic }}{% endblock %}!", "cats!"),
    ],
)
def test_blocks_fill_those_of_the_file_that_is_extended(make_house, text, expected):
    house = make_house(FILES)
    assert house.problems(text) == []
    assert house.render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{% extends 'mid.md' %}{% block mod %}{% endblock %}" + TASK,
            ['1:26: what this extends has no block "mod"; did you mean "mood"?'],
        ),
        (
            "{% extends 'mid.md' %}",
            [
                (
                    '1:1: nothing fills the required block "task"; '
                    "write {% block task %} ... {% endblock %} in a file that extends it"
                ),
            ],
        ),
        (
            "x{% include 'base.md' %}",
            [
                (
                    '1:13: nothing fills the required block "task"; '
                    "write {% block task %} ... {% endblock %} in a file that extends it"
                ),
            ],
        ),
        (
            "{% extends 'base.md' %}\nHello.\n" + TASK + "{{ inputs.topic }}",
            [
                (
                    "2:1: warning: this is left out, as it is not in a block of the file that is "
                    "extended; write it into a block, or use include"
                ),
                (
                    "3:45: warning: this is left out, as it is not in a block of the file that is "
                    "extended; write it into a block, or use include"
                ),
            ],
        ),
        (
            "{% extends inputs.topic %}",
            ["1:4: extends takes one literal path; use include for one that varies"],
        ),
        (
            "{% if true %}{% extends 'mid.md' %}{% endif %}",
            ["1:17: extends stands once in a file, outside of other tags"],
        ),
        (
            "{% extends 'mid.md' %}{% extends 'mid.md' %}" + TASK,
            ["1:26: extends stands once in a file, outside of other tags"],
        ),
        (
            "{% extends 'nowhere.md' %}{% block a %}{{ nix }}{% endblock %}",
            [
                (
                    '1:43: unknown variable "nix"; known: flow, inputs, steps; '
                    "to show braces as they are, write {% raw %} ... {% endraw %}"
                ),
                "1:12: //prompts/nowhere.md does not exist; check the path",
            ],
        ),
        (
            "{% extends 'again.md' %}",
            [
                (
                    "prompts/again.md:1:12: these files include each other: "
                    "//prompts/again.md -> //prompts/again.md; remove one of them"
                ),
            ],
        ),
        (
            "{% block a %}{% endblock %}{% block a %}{% endblock %}",
            ["1:31: block 'a' defined twice"],
        ),
        (
            "{% for x in [1] %}{% block a %}{{ x }}{% endblock %}{% endfor %}",
            [
                (
                    '1:35: unknown variable "x"; known: flow, inputs, steps; '
                    "to show braces as they are, write {% raw %} ... {% endraw %}"
                ),
            ],
        ),
        ("{% for x in [1] %}{% block a scoped %}{{ x }}{% endblock %}{% endfor %}", []),
        (
            "{% block a %}{{ super() }}{% endblock %}",
            [
                (
                    '1:17: unknown function "super"; '
                    "only a block that fills one of the file that is extended has it"
                ),
            ],
        ),
        (
            "{% block a %}{% endblock %}{{ self.a() }}",
            ['1:31: unknown variable "self"; a block is not called by its name: write a macro'],
        ),
        (
            "{% extends 'mid.md' %}{% block task %}{% include steps.draft.text %}{% endblock %}",
            [
                (
                    "1:61: include cannot take a path that may come from a step; "
                    "use a literal, an input or an item, not a macro's argument or a namespace; "
                    "to choose among files, let a loop read each, and choose among its texts"
                ),
            ],
        ),
        (
            "{% set q = 1 %}{% block a %}{% set q = 2 %}{% endblock %}{{ q }}",
            [
                (
                    '1:36: warning: what "q" is set to here is lost at the end of the block; '
                    "write {% set ns = namespace(q=...) %} before, {% set ns.q = ... %} here, "
                    "and read ns.q"
                ),
            ],
        ),
        (
            "{% block a %}x",
            ["1:14: the template ends, and its block is not closed; add {% endblock %}"],
        ),
    ],
)
def test_check_finds_blocks_that_do_not_fit(make_house, text, expected):
    assert make_house(FILES).problems(text) == expected


def test_a_file_that_is_extended_is_used_with_all_it_names(make_house):
    checked = make_house(FILES).check("{% extends '../parts/reading.md' %}")
    assert checked.files == ("//parts/reading.md", "//parts/data.md")
    named = make_house(FILES).check("{% extends 'mid.md' %}" + TASK).references
    assert {(reference.kind, reference.name) for reference in named} == {("input", "rows")}


def test_an_error_in_a_block_is_at_its_place(make_house):
    blocks = "{% block b %}{{ 1 // 0 }}{% endblock %}{% block c %}{% endblock %}"
    house = make_house({"prompts/base.md": f"a\n{blocks}"})
    with pytest.raises(TemplateError, match=r"^prompts/base.md:2:17: integer division"):
        house.render("{% extends 'base.md' %}")
    with pytest.raises(TemplateError, match=r"^prompts/main.md:1:40: integer division"):
        house.render("{% extends 'base.md' %}" + blocks)


def test_the_work_in_blocks_counts(make_house):
    loops = "{% for i in range(1000) %}" * 2 + "{{ i }}" + "{% endfor %}" * 2
    house = make_house({"prompts/base.md": "{% block b %}" + loops + "{% endblock %}"})
    for filled in ("", "{% block b %}{{ super() }}{% endblock %}"):
        with pytest.raises(TemplateError, match="over 1,000,000 steps"):
            house.render("{% extends 'base.md' %}" + filled)


def test_a_block_counts_as_often_as_it_is_rendered(make_house):
    loop = "{% for i in range(990) %}{% block b %}{% endblock %}{% endfor %}"
    house = make_house({"prompts/base.md": loop})
    tests = "{% if inputs.topic %}{% endif %}" * 2_000
    with pytest.raises(TemplateError, match="over 1,000,000 steps"):
        house.render("{% extends 'base.md' %}{% block b %}" + tests + "{% endblock %}")


def test_what_blocks_print_twice_counts_twice(make_house):
    twice = "{% block b %}{{ super() ~ super() }}{% endblock %}"
    files = {"prompts/0.md": "{% block b %}0123456789{% endblock %}"}
    files |= {f"prompts/{i}.md": f"{{% extends '{i - 1}.md' %}}{twice}" for i in range(1, 17)}
    house = make_house(files)
    assert len(house.render("{% include '9.md' %}")) == 5_120
    with pytest.raises(TemplateError, match=r"too much text|over 1,000,000 steps"):
        house.render("{% for i in range(20) %}{% include '16.md' %}{% endfor %}")


def test_a_path_extends_nothing(make_house):
    house = make_house(FILES)
    [problem] = house.check("{% extends 'mid.md' %}", is_path=True).problems[:1]
    assert problem.message == "a path cannot include, import or extend"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("super", "a function is not text; call it with ()"),
        ("super._context", 'this value has no "_context"'),
        ("super['_stack']", 'this value has no "_stack"'),
        ("super.__call__.__globals__", 'this value has no "__call__"'),
        ("super.super()", 'this value has no "super"'),
        ("[super] | tojson", "a function is not text; call it with ()"),
    ],
)
def test_super_gives_its_text_and_nothing_more(make_house, expression, message):
    house = make_house(FILES)
    block = "{% block who %}{{ " + expression + " }}{% endblock %}"
    with pytest.raises(TemplateError, match=f"{re.escape(message)}$"):
        house.render("{% extends 'base.md' %}" + block + TASK)
