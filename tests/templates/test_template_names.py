"""What checking finds without rendering, each at its own line and column."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateSyntaxError, nodes

from poeflow.problems import Place
from poeflow.templates.environment import Environment
from poeflow.templates.sandbox import always_compiles, check_shape, rewrite
from poeflow.templates.scopes import Reference, Scope
from poeflow.templates.work_budget import Allowance

RAW = "to show braces as they are, write {% raw %} ... {% endraw %}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ inputs.topik }}", '1:11: unknown input "topik"; did you mean "topic"?'),
        ("{{ inputs['topik'] }}", '1:11: unknown input "topik"; did you mean "topic"?'),
        ("a\n  {{ steps.drft.text }}", '2:12: unknown step "drft"; did you mean "draft"?'),
        ("{{ steps.draft.txt }}", '1:16: a step has no "txt"; did you mean "text"?'),
        ("{{ topic }}", '1:4: unknown variable "topic"; write inputs.topic'),
        ("{{ draft }}", '1:4: unknown variable "draft"; write steps.draft.text'),
        ("{{ input.topic }}", '1:4: unknown variable "input"; did you mean "inputs"?'),
        ("{{ zzz }}", f'1:4: unknown variable "zzz"; known: flow, inputs, steps; {RAW}'),
        ("{{ null }}", '1:4: unknown variable "null"; write none'),
        (
            "{{ env.HOME }}",
            (
                '1:4: unknown variable "env"; flows cannot read the environment; '
                "declare an input and pass --input"
            ),
        ),
        ("{{ inputs.topic|uper }}", '1:17: unknown filter "uper"; did you mean "upper"?'),
        ("{{ inputs.topic|to_json }}", '1:17: unknown filter "to_json"; did you mean "tojson"?'),
        ("{{ 'a'|attr('b') }}", '1:8: unknown filter "attr"; write value.name'),
        (
            "{{ inputs.rows|map('uper')|join }}",
            '1:20: unknown filter "uper"; did you mean "upper"?',
        ),
        (
            "{{ inputs.rows|select('od')|list|tojson }}",
            '1:23: unknown test "od"; did you mean "odd"?',
        ),
        ("{% if 1 is od %}{% endif %}", '1:9: unknown test "od"; did you mean "odd"?'),
        ("{{ rang(3) }}", '1:4: unknown function "rang"; did you mean "range"?'),
        (
            "{{ upper(inputs.topic) }}",
            '1:4: unknown function "upper"; it is a filter: write value | upper',
        ),
        (
            "{{ now() }}",
            '1:4: unknown function "now"; templates know no time: add an input with the date',
        ),
        ("{{ always() }}", '1:4: unknown function "always"; test steps.ID.status'),
        (
            "{{ inputs.rows[0].items() }}",
            "1:18: .items() is not a method here; use | items",
        ),
        (
            "{{ steps.draft.data.get('a') }}",
            '1:20: .get() is not a method here; write value["key"], or value.key | default(...)',
        ),
        ("{{ steps }}", "1:4: steps needs the id of a step; write steps.ID.text"),
        ("{{ steps[inputs.topic].text }}", "1:9: a step must be named literally; write steps.ID"),
        ("{{ steps.draft }}", "1:9: a step is not a text; write steps.draft.text"),
        ("{{ inputs }}", "1:4: inputs is not a text; write inputs.NAME"),
        ('{{"a": 1}}', f"1:6: expected token 'end of print statement', got ':'; {RAW}"),
        ("{{ [1] }}", f"1:4: this is a value, not a text; add | tojson; {RAW}"),
        ("{{ a && b }}", '1:6: && is not an operator here; write "and"'),
        ("{{ a || b }}", '1:7: || is not an operator here; write "or"'),
        ("{{ !a }}", '1:4: ! is not an operator here; write "not", or "!=" between two values'),
        ("{% if a = 1 %}{% endif %}", '1:9: = does not compare; write "=="'),
        ("{{ }}", f"1:4: an expression is missing here; {RAW}"),
        ("{{ inputs.topic }", "1:17: unexpected '}'; close it with }}"),
        (
            "x {% if inputs.topic %}",
            ("1:22: the template ends, and its if is not closed; add {% endif %}"),
        ),
        (
            "{% autoescape 1 %}{% endautoescape %}",
            "1:4: autoescape is not available in flows",
        ),
        (
            "{% for i in [1] recursive %}{% endfor %}",
            "1:4: recursive loops are not available in flows; use a macro",
        ),
        ("{% set loop = 1 %}", "1:8: loop is defined by for; choose another name"),
        ("{{ 1e999 }}", "1:4: the number 1e999 is too large"),
        ("{{ read() }}", '1:4: read takes one path; for example read("data/x.md")'),
        ("{{ glob('a', 'b') }}", '1:4: glob takes one path; for example glob("data/x.md")'),
    ],
)
def test_problem_has_place_and_hint(house, text, expected):
    assert house.problems(text) == [expected]


def test_all_problems_are_found_at_once(house):
    text = "{{ inputs.a }}\n{{ steps.b.text }}\n{{ c|d2 }}"
    assert [problem[:4] for problem in house.problems(text)] == ["1:11", "2:10", "3:6:", "3:4:"]


@pytest.mark.parametrize(
    "text",
    [
        "no template at all, only { and }",
        "{{ inputs.topic }} {{ steps.draft.text }} {{ steps.draft['key'].text }} {{ flow.name }}",
        "{% for row in inputs.rows if row.age > 1 %}{{ loop.index }} {{ row.name }}{% endfor %}",
        "{% for key, value in steps.draft.data | items %}{{ key }}{{ value }}{% endfor %}",
        "{% set x = 1 %}{% if x %}{% set y = x %}{% endif %}{{ y }}",
        "{% set block %}{{ inputs.topic }}{% endset %}{{ block }}",
        (
            "{% macro m(a, b=a) %}{{ a }}{{ b }}{{ caller() }}{{ varargs|length }}{% endmacro %}"
            "{% call(z) m(1) %}{{ z }}{% endcall %}"
        ),
        "{% with a = 1, b = inputs.topic %}{{ a }}{{ b }}{% endwith %}",
        (
            "{% set ns = namespace(n=0) %}{% for i in [1] %}{% set ns.n = ns.n + i %}{% endfor %}"
            "{{ ns.n }}"
        ),
        "{% filter upper %}{{ inputs.topic }}{% endfilter %}",
        "{% set inputs = 1 %}{{ inputs }}",
        "{{ inputs.topic.upper().replace('A', 'b') }}",
        "{{ steps.draft.data.anything.goes[0] }}",
        "{% raw %}{{ nope }} && ${{ x }}{% endraw %}",
        "{{ 'a && b || ${{' }}",
        "{{ inputs['rows'][0]['name'] }} {{ dict(a=1)|tojson }}",
        "{# one line #}",
    ],
)
def test_correct_template_has_no_problem(house, text):
    assert house.problems(text) == []


@pytest.mark.parametrize(
    ("text", "name", "place"),
    [
        ("{% for i in [1] %}{% endfor %}{{ i }}", "i", "1:34"),
        ("{{ x }}{% set x = 1 %}", "x", "1:4"),
        ("{% macro m(a) %}{% endmacro %}{{ a }}", "a", "1:34"),
        ("{% with a = 1 %}{% endwith %}{{ a }}", "a", "1:33"),
        ("{% for i in i %}{% endfor %}", "i", "1:13"),
        ("{% for i in [1] %}{% else %}{{ loop }}{% endfor %}", "loop", "1:32"),
    ],
)
def test_names_end_with_their_scope(house, text, name, place):
    (problem,) = house.problems(text)
    assert problem.startswith(f'{place}: unknown variable "{name}"')


def test_references_name_what_is_read(house):
    text = "{{ inputs.topic }}{{ steps.draft.text }}{{ steps.outline['k'].text }}"
    found = house.check(text).references
    assert found == (
        Reference(kind="input", name="topic", place=Place("prompts/main.md", 1, 11)),
        Reference(
            kind="step", name="draft", attribute="text", place=Place("prompts/main.md", 1, 28)
        ),
        Reference(kind="step", name="outline", place=Place("prompts/main.md", 1, 50)),
    )


def test_all_inputs_are_read_where_inputs_is_handed_on(house):
    found = house.check("{{ inputs | tojson }}").references
    assert [reference.name for reference in found] == ["rows", "topic"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "costs ${{ inputs.topic }}",
            (
                "1:7: warning: the $ before {{ stays in the text; "
                "write {{ ... }} alone, or {{ '$' }} before it if you mean the sign"
            ),
        ),
        (
            "a\n{# b\n c #}",
            (
                "2:1: warning: a {# comment #} over several lines is left out of the text; "
                "check that nothing you need is in it"
            ),
        ),
    ],
)
def test_habits_are_warnings(house, text, expected):
    assert house.problems(text) == [expected]


def test_expression_is_bare_or_in_braces(house):
    for text in ("inputs.topic == 'x'", "{{ inputs.topic == 'x' }}", " not steps.draft.data.ok "):
        assert house.check_expression(text).problems == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inputs.topik", '1:8: unknown input "topik"; did you mean "topic"?'),
        ("  {{ inputs.topik }}", '1:13: unknown input "topik"; did you mean "topic"?'),
        (
            "{{ inputs.topic }} and {{ inputs.topic }}",
            "1:1: this must be one expression; write it bare: steps.draft.status == 'ok'",
        ),
        (
            "inputs.topic }} and {{ inputs.topic",
            "1:1: this must be one expression; write it bare: steps.draft.status == 'ok'",
        ),
        (
            "inputs.topic ==",
            "1:16: an expression is missing here; write the value that is meant",
        ),
        ("inputs.topic contains 'x'", "1:14: \"contains\" is not expected here; write 'x' in text"),
        ("1 'x'", "1:3: a text is not expected here; write an operator before it"),
        ("a && b", '1:3: && is not an operator here; write "and"'),
    ],
)
def test_expression_problem_has_its_place(house, text, expected):
    found = [str(problem) for problem in house.check_expression(text).problems]
    assert found == [f"prompts/main.md:{expected}"]


def test_path_takes_no_include(make_house):
    house = make_house({"prompts/a.md": "x"})
    (problem,) = house.check("out/{% include 'a.md' %}", is_path=True).problems
    assert problem.message == "a path cannot include, import or extend"


def test_extra_names_are_known_and_free(house):
    scope = Scope(inputs=frozenset(), steps=frozenset(), extra=frozenset({"item", "flow"}))
    assert house.problems("{{ item.anything }}{{ flow.name }}", scope) == []


TEMPLATES = st.recursive(
    st.sampled_from(["x", "{{ inputs.topic }}", "{{ loop }}", "{% set a = 1 %}", "{{ [1][0:1] }}"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        inner.map("{{% for i in [1] %}}{}{{% endfor %}}".format),
        inner.map("{{% for i in [1] if i %}}{}{{% else %}}{{{{ i }}}}{{% endfor %}}".format),
        inner.map("{{% if 1 %}}{}{{% elif 2 %}}b{{% else %}}c{{% endif %}}".format),
        inner.map("{{% include 'a.md' ignore missing %}}{}".format),
    ),
    max_leaves=60,
)


@settings(max_examples=60, deadline=None)
@given(text=TEMPLATES)
def test_what_is_said_to_compile_compiles(text):
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(optimized=False)
    parsed = environment.parse(text)
    try:
        check_shape(parsed)
    except TemplateSyntaxError:
        return
    if always_compiles(parsed):
        compile(environment.compile(parsed, raw=True), "t", "exec")


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("{% if 1 %}", "{% endif %}"), ("{% for i in [1] %}", "{% endfor %}")],
)
def test_deepest_allowed_nesting_compiles(house, opening, closing):
    """The limits of our own are below those of the compiler."""
    deepest = 0
    for depth in range(1, 61):
        if not house.problems(opening * depth + "x" + closing * depth):
            deepest = depth
            assert house.render(opening * depth + "x" + closing * depth) == "x"
    assert deepest >= 10


def test_rewriting_keeps_a_template():
    rewritten = rewrite(nodes.Template([], lineno=1), ends={})
    assert rewritten.body == []


# Names that need not be there.

PARTIALS = {
    "prompts/default.md": "Write for {{ audience | default('everyone') }}.",
    "prompts/if.md": "{% if audience is defined %}For {{ audience }}.{% else %}All.{% endif %}",
    "prompts/and.md": "{{ 'x' if audience is defined and audience == 'me' else 'y' }}",
    "prompts/or.md": "{{ 'y' if audience is undefined or audience != 'me' else 'x' }}",
    "prompts/not.md": "{% if not audience is defined %}no{% elif true %}{{ audience }}{% endif %}",
    "prompts/set.md": "{% set audience = audience | default('us') %}\n{{ audience }}",
    "prompts/nested.md": "{% if audience is defined %}{% include 'bare.md' %}{% endif %}",
    "prompts/bare.md": "<{{ audience }}>",
    "prompts/else.md": "{% if audience is defined %}a{% else %}{{ audience }}{% endif %}",
    "prompts/deep.md": "{{ audience.name | default('x') }}",
}


@pytest.mark.parametrize(
    ("name", "without", "with_it"),
    [
        ("default", "Write for everyone.", "Write for me."),
        ("if", "All.", "For me."),
        ("and", "y", "x"),
        ("or", "y", "x"),
        ("not", "no", "me"),
        ("set", "us", "me"),
        ("nested", "", "<me>"),
    ],
)
def test_a_name_an_includer_may_set_need_not_be_there(make_house, name, without, with_it):
    house = make_house(PARTIALS)
    alone = f"{{% include '{name}.md' %}}"
    given = f"{{% set audience = 'me' %}}{alone}"
    assert (house.problems(alone), house.problems(given)) == ([], [])
    assert (house.render(alone), house.render(given)) == (without, with_it)


@pytest.mark.parametrize(
    ("name", "place"), [("bare", "1:5"), ("else", "1:43"), ("deep", "1:4")], ids=str
)
def test_an_unguarded_name_in_an_included_file_is_told_with_how_to_set_it(make_house, name, place):
    house = make_house(PARTIALS)
    hint = "write {% set audience = ... %} before the include, or audience | default(...)"
    assert [str(p) for p in house.check(f"{{% include '{name}.md' %}}").problems] == [
        f'prompts/{name}.md:{place}: unknown variable "audience"; {hint}'
    ]


def test_a_default_for_what_nobody_can_set_is_a_warning_in_a_flow(house):
    assert house.problems("{{ nobody | default('x') }}{% if nobody is defined %}y{% endif %}") == [
        f'1:4: warning: unknown variable "nobody"; known: flow, inputs, steps; {RAW}',
        f'1:34: warning: unknown variable "nobody"; known: flow, inputs, steps; {RAW}',
    ]
    assert house.problems("{{ topic | default('x') }}") == [
        '1:4: unknown variable "topic"; write inputs.topic'
    ]
    assert house.problems("{{ draft | default('x') }}") == [
        '1:4: unknown variable "draft"; write steps.draft.text'
    ]


@pytest.mark.parametrize(
    ("method", "hint"),
    [
        ("includes('x')", "write 'x' in text"),
        ("length", "write text | length"),
        ("upcase()", "write text | upper"),
        ("strp()", 'did you mean "strip"?'),
    ],
)
def test_a_text_has_a_few_methods(house, method, hint):
    name = method.partition("(")[0]
    assert house.problems(f"{{{{ steps.draft.text.{method} }}}}") == [
        f'1:21: a text has no "{name}"; {hint}'
    ]


@pytest.mark.parametrize(
    "text",
    [
        "{{ inputs.topic }}",
        "{{ steps.drft.text }}{{ nothing }}",
        "{{ inputs.topic | nothing }}",
        "{% for a in [1] %}{% set b = a %}{% endfor %}{{ b }}",
        "{{ inputs.topic",
    ],
)
def test_a_text_that_several_flows_have_is_checked_in_each(house, text):
    alone = house.problems(text)
    allowance = house.share(Allowance())
    for _ in range(3):
        house.environment = Environment(house.environment.reader, allowance)
        assert house.problems(text) == alone
        if not alone:
            assert [house.render(text), house.path(text), house.value(text)] == ["cats"] * 3
    assert bool(alone) == (text != "{{ inputs.topic }}")


def test_equal_texts_share_a_tree_that_stays_as_it_is(house):
    house.share(Allowance())
    text = "{{ inputs.topic }}"
    tree = house.environment.parsed(text, house.origin(text))
    other = Environment(house.environment.reader, house.environment.allowance)
    assert other.parsed(text, house.origin(text)) is tree
    written = str(tree)
    assert house.problems(text) == []
    assert [house.value(text), house.render(text), house.path(text)] == ["cats"] * 3
    assert other.parsed(text, house.origin(text)) is tree
    assert str(tree) == written
    long = text + "x" * 1_000
    assert other.parsed(long, house.origin(long)) is not other.parsed(long, house.origin(long))
