"""What renderings may do together, and what single operations are counted as."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from poeflow.project.project import Project
from poeflow.templates import work_budget as budgets
from poeflow.templates.reader import MAX_TEXT, ProjectReader
from poeflow.templates.render import TemplateError
from poeflow.templates.work_budget import Allowance, WorkBudget

PRIME = 2**61 - 1


def each(body: str, times: int = 100_000) -> str:
    return f"{{% for i in range({times}) %}}{body}{{% endfor %}}"


def doubled(text: str, times: int) -> str:
    """A template that sets `x` to a long text."""
    return f"{{% set x = '{text}' %}}" + "{% set x = x ~ x %}" * times


def work_of(house, text: str) -> int:
    house.render(text)
    return house.environment.budget.spent


def for_all(house, text: str) -> None:
    for _ in range(100):
        house.render(text)


TOGETHER = (
    "the templates take over 2,000,000 steps together; "
    "shorten their loops and texts, split the flow, or choose instances with --first"
)


def test_renderings_share_an_allowance(house):
    house.share(Allowance())
    text = each("{% set y = i %}", 60_000)
    house.render(text)
    with pytest.raises(TemplateError) as caught:
        for_all(house, text)
    assert str(caught.value) == f"prompts/main.md:1:4: {TOGETHER}"


def test_small_renderings_take_nothing_from_others(house):
    allowance = house.share(Allowance())
    for _ in range(100):
        house.render("Hello {{ inputs.topic | upper }}, {{ inputs.rows[0].name }}: {{ 1 + 1 }}")
    assert allowance.left == Allowance().left


def test_a_run_that_asks_is_free_of_the_allowance(house):
    allowance = house.share(Allowance())
    allowance.left = 0
    text = each("{% set y = i %}", 1_000)
    with pytest.raises(TemplateError):
        house.render(text)
    allowance.is_unlimited = True
    assert house.render(text) == ""


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("{% set y = 1 %}", "{% set y = 1 %}" * 50),
        ("{{ m() }}", "{{ n() }}"),
        (
            "{% if i %}{% endif %}",
            "{% if i and i and i and i and i and i and i and i %}{% endif %}",
        ),
    ],
)
def test_a_loop_costs_what_its_body_does(house, short, long):
    macros = (
        "{% macro m() %}{% endmacro %}{% macro n() %}" + "{% set y = 1 %}" * 50 + "{% endmacro %}"
    )
    assert work_of(house, macros + each(long, 1_000)) > 1.3 * work_of(
        house, macros + each(short, 1_000)
    )


@pytest.mark.parametrize(
    ("operation", "units"),
    [
        ("x | slug", 1_000),
        ("x | urlencode", 1_000),
        ("x | title", 2_000),
        ("x | wordcount", 1_000),
        ("x | upper", 100),
        ("x | lower", 100),
        ("x.upper()", 100),
        ("x.title()", 100),
        ("x | list", 1_000),
        ("x | join", 1_000),
        ("x | unique | list", 1_000),
        ("x | max", 1_000),
        ("'q' in x", 125),
        ("x.find('q')", 50),
        ("x is upper", 100),
        ("x[1:]", 10),
        ("x ~ 'a'", 10),
    ],
)
def test_an_operation_costs_more_for_longer_texts(house, operation, units):
    """Twice 1,000 characters more cost twice what the slowest of them take."""
    empty, used = [
        work_of(house, doubled("ab", 10) + f"{{% set y = {o} %}}") for o in ("1", operation)
    ]
    assert used - empty >= 2 * units


COLLIDING = ", ".join(str(PRIME * number) for number in range(1, 5_001))


def test_equal_items_are_found_without_hashing_numbers(house):
    text = "{{ [1, 1.0, true, 2.5, 2.5, 'a', 'A', none, none] | unique | list | tojson }}"
    assert house.render(text) == '[1, 2.5, "a", null]'
    assert house.render("{{ ['a', 'A'] | unique(true) | join }}") == "aA"
    assert house.render("{{ inputs.rows | unique(attribute='name') | list | length }}") == "2"
    with pytest.raises(TemplateError, match="unique takes texts and numbers, not"):
        house.render("{{ inputs.rows | unique | list }}")


MAPPINGS = [
    "{{ {%s: 1} }}",
    "{{ dict([[%s, 1]]) }}",
    "{%% set ns = namespace([[%s, 1]]) %%}",
]


@pytest.mark.parametrize("text", MAPPINGS)
def test_a_key_has_no_hash_that_can_be_chosen(house, text):
    with pytest.raises(TemplateError, match=f"the number {PRIME} is too large for a key"):
        house.render(text % PRIME)
    with pytest.raises(TemplateError, match=r"a key is a text or a whole number, not 1\.5"):
        house.render(text % "1.5")
    with pytest.raises(TemplateError, match=r"a key is a text or a whole number, not \(1, 2\)"):
        house.render(text % "(1, 2)")


def test_few_keys_are_numbers(house):
    pairs = ", ".join(f"{number}: 1" for number in range(1_001))
    with pytest.raises(TemplateError, match="a mapping has over 1,000 keys that are numbers"):
        house.render(f"{{{{ {{{pairs}}} }}}}")


def test_mappings_are_what_they_were(house):
    assert house.render("{{ {1: 'a', true: 'b', 'c': 'd'} | tojson }}") == '{"1": "b", "c": "d"}'
    assert house.render("{{ dict({'a': 1}, b=2) | tojson }}") == '{"a": 1, "b": 2}'
    assert house.render("{{ dict([['a', 1]]).a }}{{ dict() | tojson }}") == "1{}"
    assert house.render("{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}") == "12"


def test_large_numbers_are_written_as_before(house):
    assert house.render(f"{{{{ {PRIME} }}}} {{{{ -{PRIME} + 1 }}}}") == f"{PRIME} {-PRIME + 1}"


def test_the_compiler_hashes_no_large_number(house):
    """Constants of a function are kept in a table by their values."""
    text = f"{{{{ [{COLLIDING}] | length }}}}"
    assert house.render(text) == "5000"
    template = house.environment.template(text, house.origin(text))
    codes = [template.root_render_func.__code__]
    constants = [one for code in codes for one in code.co_consts if isinstance(one, int)]
    assert max(constants) <= 1_000_000


def test_texts_that_are_read_again_are_hashed_once_and_kept_within_bounds(tmp_path):
    for index in range(20):
        (tmp_path / f"{index}.md").write_text("0" * 4 * 1024 * 1024)
    reader = ProjectReader(Project(tmp_path.resolve()), tmp_path)
    for index in range(20):
        reader.source(f"//{index}.md", relative_to="//")
    assert sum(map(len, reader._texts.values())) <= MAX_TEXT
    assert reader.source("//0.md", relative_to="//")[1] == "0" * 4 * 1024 * 1024


def test_compiled_templates_are_kept_within_bounds(house):
    for index in range(1_200):
        house.render(f"{{{{ {index} }}}}")
    assert len(house.environment._compiled) == 1_000


def test_small_lists_are_counted_before_there_are_many():
    budget = WorkBudget()
    with pytest.raises(budgets.OverBudgetError, match="makes too much text or too many values"):
        budget.count_new([index] for index in range(900_000))


MEMORY = [
    "{{ range(3) | slice(100000, 'x') | list | length }}" * 20,
    doubled("a", 20) + each("{{ x }}", 15) + "\U0001f600",
    doubled("ā", 17)
    + "{% set ns = namespace(l=[]) %}"
    + each("{% set ns.l = [ns.l, x | list] %}", 50),
    doubled("ΐ", 20)
    + "{% set ns = namespace(l=[]) %}"
    + each("{% set ns.l = [ns.l, x | upper] %}", 50),
    doubled("[],", 17)
    + "{% set j = '[' ~ x ~ '0]' %}{% set ns = namespace(l=[]) %}"
    + each("{% set ns.l = [ns.l, j | fromjson] %}", 50),
]
DRIVER = """
import json, re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import House
from poeflow.templates.render import TemplateError
house = House(Path(sys.argv[1]), {})
try:
    house.render(json.load(sys.stdin))
except TemplateError as error:
    print(error)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.parametrize("text", MEMORY)
def test_a_rendering_takes_less_than_400_mib(tmp_path, text):
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(
        command, input=json.dumps(text), capture_output=True, text=True, check=False, timeout=60
    )
    reason, peak = done.stdout.splitlines()
    assert reason.startswith("prompts/main.md:1:"), done.stderr
    assert any(why in reason for why in ("too much text", "8 MiB", "over 1,000,000 "))
    assert int(peak) < 400


def test_a_failed_rendering_keeps_nothing_alive(house):
    """Its error may be kept for as long as the command runs."""
    for render in (house.render, house.evaluate):
        with pytest.raises(TemplateError) as caught:
            render("{{ 1 / 0 }}")
        assert caught.value.__context__ is None
