"""Parts of other tools' prompt files in the form of a flow."""

import pytest

from poeflow.operations.imports.dotprompt import Converter, json_schema
from poeflow.operations.imports.new_names import input_name, unused, word_of
from poeflow.operations.imports.template_names import dollars_as_braces, renamed


@pytest.mark.parametrize(
    ("template", "new"),
    [
        ("{{ a }} and {{a|upper}}", "{{ x.a }} and {{x.a|upper}}"),
        (
            "{% for b in a %}{{ b.a }}{{ a }}{% endfor %}",
            "{% for b in x.a %}{{ b.a }}{{ x.a }}{% endfor %}",
        ),
        ("{% if a is a %}{% endif %}", "{% if x.a is a %}{% endif %}"),
        ("{{ f(a=a) }} a {# a #}", "{{ f(a=x.a) }} a {# a #}"),
        ("{{ 'a' ~ a['a'] }}\n", "{{ 'a' ~ x.a['a'] }}\n"),
        ("{% set a = 1 %}{{ a }}", "{% set a = 1 %}{{ a }}"),
        ("{% raw %}{{ a }}{% endraw %}", "{% raw %}{{ a }}{% endraw %}"),
    ],
)
def test_only_variables_from_outside_are_renamed(template, new):
    assert renamed(template, {"a": "x.a"}) == new


def test_dollars_become_braces():
    assert dollars_as_braces("$a ${b}c $$d $ 5") == "{{ a }} {{ b }}c $d $ 5"


@pytest.mark.parametrize(
    ("handlebars", "jinja", "names", "notes"),
    [
        ("{{name}} {{{html}}}", "{{ inputs.name }} {{ inputs.html }}", {"name", "html"}, []),
        ("{{a.b}}{{this.c}}", "{{ inputs.a.b }}{{ inputs.c }}", {"a", "c"}, []),
        (
            "{{#unless x}}no{{^}}yes{{/unless}}",
            "{% if not inputs.x %}no{% else %}yes{% endif %}",
            {"x"},
            [],
        ),
        (
            "{{#each rows}}{{this}}{{#each cells}}{{.}}{{../id}}{{@root.id}}{{/each}}{{/each}}",
            (
                "{% for one in inputs.rows %}{{ one }}{% for one_2 in one.cells %}"
                "{{ one_2 }}{{ one.id }}{{ inputs.id }}{% endfor %}{% endfor %}"
            ),
            {"rows", "id"},
            [],
        ),
        ("{{json data}}{{!-- no --}}", "{{ inputs.data | tojson }}", {"data"}, []),
        ('{{role "model"}}', "\nmodel:\n", set(), []),
        (
            "{{#with a}}x{{/with}}{{history}}{{media url=a}}{{a/b}}{{/if}}",
            "{% with one = inputs.a %}x{% endwith %}",
            {"a"},
            [
                "{{history}} is left out",
                "{{media url=a}} is left out",
                "{{a/b}} is left out",
            ],
        ),
    ],
)
def test_handlebars_become_jinja(handlebars, jinja, names, notes):
    heard = []
    converter = Converter(heard.append, lambda _name: None)
    assert converter.jinja(handlebars) == jinja
    assert (converter.names, heard) == (names, notes)


def test_picoschema_becomes_json_schema():
    given = {
        "title": "string, what it is",
        "count?": "integer",
        "tags(array, its tags)": "string",
        "parent?(object)": {"id": "any"},
        "(*)": "number",
    }
    assert json_schema(given) == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "what it is"},
            "count": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}, "description": "its tags"},
            "parent": {
                "type": "object",
                "properties": {"id": {}},
                "required": ["id"],
                "additionalProperties": False,
            },
        },
        "required": ["title", "tags"],
        "additionalProperties": {"type": "number"},
    }
    whole = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert json_schema(whole) == whole
    assert json_schema("string") == {"type": "string"}


def test_names():
    assert [word_of(text) for text in ("GPT-5.2", "3 ways", "é!", "")] == [
        "gpt_5_2",
        "x_3_ways",
        "x",
        "x",
    ]
    assert [input_name(text) for text in ("firstName", "URL", "a-b")] == [
        "first_name",
        "url",
        "a_b",
    ]
    assert unused("a", {"a": 1, "a_2": 1}) == "a_3"
