"""Templates that try to get out of the sandbox or to eat the machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from poeflow.templates.render import TemplateError

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ().__class__.__bases__[0].__subclasses__() }}",
    "{{ inputs.__class__ }}",
    "{{ inputs['__class__'] }}",
    "{{ inputs.rows.append(1) }}",
    "{{ inputs.rows.clear() }}",
    "{{ inputs.update(a=1) }}",
    "{{ inputs.topic.encode() }}",
    "{{ [1]|map('attr', '__class__')|list }}",
    "{{ ['a']|map(attribute='__class__')|list|tojson }}",
    "{{ inputs.rows|groupby('__class__')|tojson }}",
    "{{ inputs.rows|sort(attribute='__class__')|tojson }}",
    "{{ inputs.rows|sum(attribute='__class__') }}",
    # CVE-2016-10745, CVE-2019-10906, CVE-2024-56326: str.format, direct and through a reference
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ '{0.__class__}'|format(1) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{{ ['{0.__class__}']|map('format', 1)|list }}",
    "{{ (['{0.__class__}']|map(attribute='format')|first)(1) }}",
    # CVE-2025-27516: format by way of attr
    "{{ ('{0.__class__.__init__.__globals__}'|attr('format'))(1) }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ namespace(a=1).__class__ }}",
    "{{ namespace(a=1)._Namespace__attrs }}",
    "{{ dict.__mro__ }}",
    "{{ dict.fromkeys('ab') }}",
    "{{ range.__class__ }}",
    "{{ range(3).__reduce__() }}",
    "{{ read.__globals__ }}",
    "{{ glob.__closure__ }}",
    "{{ read.__wrapped__ }}",
    "{{ self.__class__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ context }}",
    "{{ environment }}",
    "{{ resolve('x') }}",
    "{% macro m() %}{{ varargs.__class__ }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ caller.__init__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func }}",
    "{% macro m() %}{% endmacro %}{{ m._environment }}",
    "{% for i in [1] %}{{ loop._iterator }}{% endfor %}",
    "{% for i in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% for i in [1] %}{{ loop.cycle.__func__ }}{% endfor %}",
    "{% for g in inputs.rows|groupby('age') %}{{ g._replace(grouper=1) }}{% endfor %}",
    "{% for g in inputs.rows|groupby('age') %}{{ g.__class__ }}{% endfor %}",
    "{% import 'm.md' as m %}{{ m.__class__ }}",
    "{% import 'm.md' as m %}{{ m._body_stream }}",
    "{% import 'm.md' as m %}{{ m.hi._func.__globals__ }}",
    "{{ nope.__class__ }}",
    "{{ inputs.nope.__class__ }}",
    "{{ ('x' if false).__class__ }}",
    "{{ [].append }}",
    "{% do inputs.rows.append(1) %}",
    "{% set inputs.topic = 1 %}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_nothing_gets_out(make_house, text):
    house = make_house({"prompts/m.md": "{% macro hi() %}{% endmacro %}"})
    with pytest.raises(TemplateError):
        house.render(text)


def test_values_are_not_changed_by_a_rendering(house):
    before = json.dumps(house.values)
    house.render("{% set inputs = {'a': 1} %}{% set ns = namespace(x=steps) %}{% set ns.x = 1 %}")
    assert json.dumps(house.values) == before


def repeated(change: str, *, start: str, times: int = 60) -> str:
    """A template that changes `ns.x` again and again."""
    return (
        f"{{% set ns = namespace(x={start}) %}}{{% for i in range({times}) %}}"
        f"{{% set ns.x = {change} %}}{{% endfor %}}"
    )


def long_text(of: str = "a", doublings: int = 22) -> str:
    return repeated("ns.x ~ ns.x", start=f"'{of}'", times=doublings)


def each(body: str, times: int = 100_000) -> str:
    return f"{{% for i in range({times}) %}}{body}{{% endfor %}}"


BOMBS = {
    "at compile time": [
        "{{ 'a' * 300000000 }}",
        "{{ 9**(9**9) }}",
        "{{ 'x'|center(999999999) }}",
        "{{ '%0999999999d' % 1 }}",
        "{{ 'x'|indent(999999999) }}",
        "{% autoescape 'a'*9**9 %}{% endautoescape %}",
        "{% if 'a' * 300000000 %}{% endif %}",
        "{% set x = 'a' * 300000000 %}",
        "{{ 1" + "0" * 100_000 + " }}",
    ],
    "in the parser": [
        "{{ " + "(" * 10_000 + ")" * 10_000 + " }}",
        "{{ " + "[" * 10_000,
        "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
        "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
        "{% macro m() %}" * 500 + "{% endmacro %}" * 500,
        "{{ " + "1+" * 20_000 + "1 }}",
        "{{ " + "not " * 20_000 + "1 }}",
        "{{ " + "-" * 20_000 + "1 }}",
        "{{ " + "1 if 1 else " * 10_000 + "1 }}",
        "{{ a" + ".b" * 20_000 + " }}",
        "{{ 'a'" + "|upper" * 20_000 + " }}",
        "{% if 1 %}" + "{% elif 1 %}" * 5_000 + "{% endif %}",
        "{{ x }}" * 200_000,
        "{{ [" + "1," * 400_000 + "] }}",
        "{#" * 100_000,
        "{%-" + " " * 1_000_000,
    ],
    "in loops": [
        each(each("x")),
        each("y" * 100_000),
        (
            "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
            "{{ m(60) }}"
        ),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
    "in lists": [
        repeated("ns.x + ns.x", start="['a']"),
        repeated("[ns.x, ns.x]", start="['a']") + "{{ ns.x|tojson }}",
        repeated("{'a': ns.x, 'b': ns.x}", start="1") + "{{ ns.x|toyaml }}",
        repeated("(ns.x, ns.x)", start="1") + "{{ ns.x == ns.x }}",
        repeated("[ns.x]", start="1", times=100_000) + "{{ ns.x|tojson }}",
        repeated("ns.x + [i]", start="[]", times=100_000),
        "{% set x = range(100000)|list %}" + each("{% if x == x|list %}{% endif %}"),
        "{% set x = range(100000)|list %}" + each("{% if -1 in x %}{% endif %}"),
        "{% set x = range(100000)|list %}" + each("{{ x|sum }}"),
    ],
    "in texts": [
        long_text(doublings=60),
        repeated("ns.x.replace('a', 'aaaaaaaa')", start="'a'"),
        long_text() + each("{% set ns.l = [ns.l|d([]), ns.x ~ i] %}", 1_000),
        long_text("😀") + each("{% set ns.l = ns.x[1:] ~ i %}{{ ns.l }}", 99),
        long_text() + "{{ ns.x.rsplit('b' ~ ns.x[:2000000]) }}",
        long_text(doublings=21) + "{{ ns.x.rsplit(sep='b' ~ ns.x[:2000000]) }}",
        long_text() + "{{ ns.x.strip(ns.x) }}",
        long_text(".0") + "{{ [range(9)|list]|map(attribute='0' ~ ns.x)|list }}" + each("{{ 1 }}"),
        long_text(".0", 12) + each("{{ 'aaaaaaaa'|map(attribute='0' ~ ns.x)|list|length }}"),
        long_text() + each("{{ {}[ns.x] is defined and 0 }}{{ [1][[ns.x]]|d('') }}"),
        repeated("[ns.x]", start="range(90000)|list", times=90) + "{{ ns.x|tojson(16) }}",
        (
            "{% set ns = namespace(x=[]) %}"
            + each("{% set ns.x = ns.x + [{'k' ~ i: 1}] %}", 900)
            + "{{ ns.x|tocsv }}"
        ),
        long_text() + "{{ ns.x|trim(ns.x) }}",
        long_text() + "{{ ns.x|list|length }}",
        long_text() + "{{ ns.x|wordwrap(8) }}",
        long_text("1") + "{{ ns.x|int(0, 2) % 7 }}",
        long_text("[0,") + "{{ ns.x|fromyaml }}",
        long_text("-", 16) + each("{{ ns.x|wordwrap(8)|length }}"),
        "{{ range(10)|batch(99999999, 1)|list }}",
        "{{ range(10)|slice(99999999, 1)|list }}",
        "{{ 1.5|round(99999999) }}",
        "{{ 15|round(-99999999) }}",
    ],
}
DRIVER = """
import json, resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, 400 * 2**20))
sys.path.insert(0, sys.argv[2])
from conftest import House
house = House(Path(sys.argv[1]), {})
from poeflow.templates.render import TemplateError
for text in json.load(sys.stdin):
    began = time.process_time()
    problems = house.check(text).problems
    try:
        outcome = "rendered " + house.render(text)[:50]
    except TemplateError as error:
        outcome = "refused"
    print(json.dumps([text[:80], outcome, time.process_time() - began < 8]))
"""


@pytest.mark.parametrize("kind", BOMBS)
def test_nothing_eats_the_machine(tmp_path, kind):
    """Each under 8 s, all of them in a process of 400 MiB of address space."""
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(
        command, input=json.dumps(BOMBS[kind]), capture_output=True, text=True, check=False
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert outcomes == [[text[:80], "refused", True] for text in BOMBS[kind]], done.stderr


def test_what_the_parser_falls_over_is_a_problem(house):
    for text in BOMBS["in the parser"]:
        assert len(house.check(text).problems) == 1


def test_fair_work_is_done(house):
    """The bounds leave room for a large prompt."""
    text = each("{{ i }}: {{ inputs.topic | upper }}, {{ i * 2 }}\n", 20_000)
    assert len(house.render(text).splitlines()) == 20_000
    assert house.render("{{ range(50000) | list | tojson | fromjson | sum }}") == "1249975000"
