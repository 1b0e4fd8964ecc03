"""The filters of our own, and the bounds on Jinja's."""

import csv
import io
import json
import re

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from poeflow.engine.results import values_without_result
from poeflow.templates.filters import (
    counted_filters,
    flatten,
    fromcsv,
    fromjson,
    fromyaml,
    pass_rate,
    tocsv,
    tojson,
    toyaml,
)
from poeflow.templates.render import TemplateError
from poeflow.templates.text_filters import slug
from poeflow.templates.values import Instances
from poeflow.templates.work_budget import WorkBudget

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


def test_filters_are_these():
    assert sorted(name for name in counted_filters(WorkBudget) if name.isidentifier()) == [
        *("abs", "batch", "capitalize", "count", "d", "dedent", "default", "dictsort"),
        *("filesizeformat", "first", "flatten", "float", "fromcsv", "fromjson", "fromyaml"),
        *("groupby", "indent", "int", "items", "join", "last", "length", "list", "lower", "map"),
        *(
            "max",
            "median",
            "min",
            "most_common",
            "pass_rate",
            "regex_find",
            "regex_findall",
            "regex_replace",
        ),
        *("reject", "rejectattr"),
        *("replace", "reverse", "round", "select", "selectattr", "slice", "slug", "sort"),
        *("string", "sum", "title", "tocsv", "tojson", "toyaml", "trim", "truncate"),
        *("truncate_words", "unique", "upper", "urlencode", "wordcount", "wordwrap"),
    ]


@pytest.mark.parametrize(
    ("passed", "rate"), [([], 1.0), ([True], 1.0), ([True, False, False, True], 0.5)]
)
def test_the_pass_rate_is_the_share_of_results_that_passed(passed, rate):
    assert pass_rate([{"passed": one} for one in passed]) == rate


@pytest.mark.parametrize("results", [[{"text": "x"}], ["x"], [{"passed": None}]])
def test_only_results_that_were_judged_have_a_pass_rate(results):
    with pytest.raises(TypeError, match="takes results of a step with expect"):
        pass_rate(results)


@given(JSON)
def test_json_comes_back(value):
    assert fromjson(tojson(value)) == value
    assert json.loads(tojson(value, 2)) == value


@example("\xa0")
@given(JSON)
def test_yaml_is_read_by_others_as_it_was(value):
    text = toyaml(value)
    assert yaml.load(text, Loader=yaml.CSafeLoader) == value


def test_yaml_writes_shared_values_again():
    shared = [1]
    assert toyaml({"b": shared, "a": shared}) == "b:\n- 1\na:\n- 1"


def test_fromyaml_reads_the_core_schema():
    assert fromyaml("a: no\nb: 012\nc: [1, true, null]") == {
        "a": "no",
        "b": "012",
        "c": [1, True, None],
    }


@pytest.mark.parametrize(
    ("function", "text", "message"),
    [
        (fromjson, "{", "fromjson: Input data was truncated"),
        (fromjson, "NaN", "fromjson: JSON is malformed"),
        (fromjson, ' [{"q": 1, "q": 1}]', 'fromjson: the key "q" is here twice'),
        (fromyaml, "a: !!python/object:os.system x", "fromyaml: value:1:4"),
        (fromcsv, "a,b\n1\n", "fromcsv, line 2: cells in this row: 1, columns: 2; add the others"),
        (fromcsv, "a|b\n1|2\n", "fromcsv, line 1: columns are separated by |; save it with commas"),
        (fromyaml, "x" * 300_000, "fromyaml takes at most 262,144 characters"),
        (fromyaml, "[" * 100_000, "fromyaml: value:1:65: nested deeper than 64 levels"),
    ],
)
def test_unreadable_text_is_said(function, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        function(text)


def test_csv_has_a_header_of_all_keys():
    rows = [{"a": 1, "b": "x,y"}, {"b": None, "c": [1, "é"], "a": True}]
    assert tocsv(rows) == 'a,b,c\n1,"x,y",\ntrue,,"[1, ""é""]"'


def test_fromcsv_reads_texts_by_the_names_in_the_first_line():
    text = '\ufeffid, word\r\n1,"a, ""b"""\r\n\r\n2,=x\r\n'
    assert fromcsv(text) == [{"id": "1", "word": 'a, "b"'}, {"id": "2", "word": "=x"}]
    assert fromcsv("a\n") == []


@pytest.mark.parametrize(
    ("levels", "flat"),
    [(None, [1, 2, 3, "xy", {"a": [4]}]), (1, [1, 2, [3], "xy", {"a": [4]}]), (0, None)],
)
def test_flatten_opens_lists_in_lists(levels, flat):
    nested = [1, [2, [3]], [], "xy", {"a": [4]}]
    assert list(flatten(nested, levels)) == (nested if flat is None else flat)


def result(key: str, **some: object) -> dict[str, object]:
    return {**values_without_result("ok", key=key), **some}


def test_csv_of_results_has_what_they_ran_over_and_what_came_of_it():
    results = {
        "1": result("1", text="{}", data={"id": 7, "n": [1]}, usage={"total_tokens": 5}),
        "2": result("2", text="?", status="failed", error="cut off", media=["//a.png"]),
        "3": result("3", text="[1]", data=[1]),
        "4": result("4", status="skipped"),
        "five": result("five", text="t", value="t"),
    }
    own = {"1": {"item": {"id": 1, "q": "x"}}, "2": {"item": 2}, "3": {"matrix": {"id": "m"}}}
    by_key = Instances(results, status="ok", own={**own, "five": {"item": "five"}})
    assert list(csv.DictReader(io.StringIO(tocsv(by_key.all)), restval="-")) == [
        dict(zip(COLUMNS, row, strict=True))
        for row in (
            ("1", "1", "x", "7", "[1]", "", "", "", "", "", ""),
            ("2", "", "", "", "", "2", "?", '["//a.png"]', "cut off", "", ""),
            ("3", "m", "", "", "", "", "", "", "", "[1]", ""),
            ("five", "", "", "", "", "", "", "", "", "", "t"),
        )
    ]


def judged(key, verdicts, **fields):
    passed = None if verdicts is None else all(one["passed"] for one in verdicts)
    return result(key, **fields) | {"verdicts": verdicts, "passed": passed, "score": 0.5}


def test_csv_of_used_flows_has_their_outputs():
    results = {
        "1": result("1", outputs={"title": "A", "n": 2}),
        "2": result("2", status="failed", error="cut off"),
    }
    by_key = Instances(results, status="ok", own={"1": {"item": {"n": 1}}, "2": {"item": {"n": 3}}})
    assert list(csv.DictReader(io.StringIO(tocsv(by_key.all)))) == [
        {"key": "1", "n": "1", "title": "A", "answer.n": "2", "error": ""},
        {"key": "2", "n": "3", "title": "", "answer.n": "", "error": "cut off"},
    ]


def test_scores_of_results_stand_beside_fields_of_the_same_name():
    verdicts = [
        {"passed": False, "message": "too long"},
        {"passed": True, "message": "fine"},
        {"passed": False, "message": "no cat"},
    ]
    results = {
        "1": judged("1", verdicts, text="{}", data={"score": 7}),
        "2": judged("2", None, text="?"),
    }
    by_key = Instances(results, status="ok", own={})
    assert tocsv(by_key.all, scores=True).splitlines() == [
        "key,score,passed,answer.score,unmet,text",
        "1,7,false,0.5,too long; no cat,",
        "2,0.5,,,,?",
    ]
    del results["1"]["verdicts"]
    with pytest.raises(TypeError, match="only results of a step with expect: have scores"):
        tocsv(Instances(results, status="ok", own={}).all, scores=True)


COLUMNS = ("key", "id", "q", "answer.id", "n", "item", "text", "media", "error", "data", "value")


def test_csv_takes_lists():
    assert tocsv([["a", 1.5], ['say "hi"', None]]) == 'a,1.5\n"say ""hi""",'


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        *(("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"), ("+cmd|' /C'!A0", "'+cmd|' /C'!A0")),
        *(("-x", "'-x"), ("\t=1", "'\t=1"), ("-5", "-5"), ("+1.5e3", "+1.5e3"), (-5, "-5")),
        *(("\n=1", "'\n=1"), ("\ntext", "'\ntext"), (" =1", "' =1"), (" -5 ", " -5 ")),
        *(("\uff1d1", "'\uff1d1"), ("\uff0bx", "'\uff0bx"), ("\ufe6bx", "'\ufe6bx")),
        *(("\ufeff=1", "'\ufeff=1"), ("\u200b\xa0@x", "'\u200b\xa0@x"), ("a=1", "a=1")),
        *((" text", " text"), ("", ""), ("\x01=1", "'\x01=1")),
    ],
)
def test_csv_disarms_formulas(cell, written):
    assert list(csv.reader(io.StringIO(tocsv([[cell]])))) == [[written]]


def test_a_plain_table_is_read_as_it_was(house):
    handles = [{"@id": "@ada", "sum": "=1+1", "ok": True}, {"@id": "-x", "sum": "-y", "ok": None}]
    told = house.render(f"{{{{ '{json.dumps(handles)}' | fromjson | tocsv(plain=true) }}}}")
    assert told == "@id,sum,ok\n@ada,=1+1,true\n-x,-y,"
    assert fromcsv(told) == [
        {"@id": "@ada", "sum": "=1+1", "ok": "true"}, {"@id": "-x", "sum": "-y", "ok": ""},
    ]  # fmt: skip


@pytest.mark.parametrize("rows", ["text", 5, [1], [{"a": 1}, [2]]])
def test_csv_takes_nothing_else(rows):
    with pytest.raises(TypeError, match="tocsv takes a list"):
        tocsv(rows)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("notes", "notes"), ("v1.2_x-Y", "v1.2_x-Y"), (7, "7"), ("a b", "a-b-c8687a")),
        *(("Crème brûlée", "Creme-brulee-13bbe5"), ("日本", "x-3ad3b7"), ("", "x-e3b0c4")),
        *(("../etc/passwd", "etc-passwd-be37f5"), (".git", "git-f3f1c4"), ("con", "x-con-da6a1f")),
        *(("aux.md", "x-aux.md-07b6bd"),),
    ],
)
def test_slug_examples(value, expected):
    assert re.sub("[0-9a-f]{6}$", "", slug(value)) == re.sub("[0-9a-f]{6}$", "", expected)


@given(st.text())
def test_slug_is_one_safe_segment(text):
    made = slug(text)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}", made)
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", made)
    assert slug(made) == made


@given(st.text(), st.text())
def test_slug_keeps_two_values_apart(one, other):
    assert (slug(one) == slug(other)) == (one == other)


@pytest.mark.parametrize("value", [None, True, ["a"]])
def test_slug_takes_text_and_numbers(value):
    with pytest.raises(TypeError, match="slug takes"):
        slug(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
        ("{{ 'a\nb'|indent('> ', true) }}", "> a\n> b"),
        ("{{ 'the quick brown fox'|truncate(13) }}", "the quick..."),
        ("{{ 'the quick brown fox'|truncate(12, true, '!') }}", "the quick b!"),
        ("{{ 'the quick brown fox'|wordwrap(10) }}", "the quick\nbrown fox"),
        ('{{ "it\'s two-fold"|wordcount }}', "4"),
        ("{{ 'aaa'|replace('a', 'b', 2) }} {{ 12|replace(1, 3) }}", "bba 32"),
        ("{{ [1, 'b']|join }} {{ inputs.rows|join('/', attribute='name') }}", "1b Ada/Bo"),
        ("{{ range(5)|batch(2, 0)|list|tojson }}", "[[0, 1], [2, 3], [4, 0]]"),
        ("{{ range(5)|slice(2)|list|tojson }}", "[[0, 1, 2], [3, 4]]"),
        ("{{ 2.567|round(1) }} {{ 42|round }} {{ 1.2|round(0, 'ceil')|int }}", "2.6 42 2"),
        ("{{ '12'|int + 'x'|int(5) + '1.5'|float }}", "18.5"),
        ("{{ 'ff'|int(0, 16) + '12'|int(base=8) + 'x'|float(2.5) }}", "267.5"),
        ("{{ inputs.rows|sum('age') + [1, 2]|sum }}", "46"),
        ("{{ ' a '|trim }}{{ 'xax'|trim('x') }}", "aa"),
        ("{{ [3, 1, 2]|sort|map('string')|join }} {{ [1, 1]|unique|list|length }}", "123 1"),
        ("{{ inputs.rows|map(attribute='age')|max }}", "36"),
        ("{{ {'b': 1, 'a': 2}|dictsort|tojson }}", '[["a", 2], ["b", 1]]'),
        ("{{ 'a b&c'|urlencode }} {{ 1234567|filesizeformat }}", "a%20b%26c 1.2 MB"),
        ("{{ 'hello wORLD'|title }} {{ 'AB'|capitalize }} {{ 'ab'|reverse }}", "Hello World Ab ba"),
        ("{{ 5|string ~ 'x' }} {{ none|default('d', true) }}", "5x d"),
        ("{{ inputs.rows|tojson|fromjson|length }} {{ '- 1'|fromyaml|first }}", "2 1"),
        ("{{ ['a', 'B', 'b', 'A', 'b']|most_common }} {{ [2, 1, 1.0, 2]|most_common }}", "B 2"),
        (
            "{{ ['b', 'B', 'B']|most_common(case_sensitive=true) }} {{ ['b', 'B']|most_common }}",
            "B b",
        ),
        ("{{ [none, none, 4]|most_common }} {{ []|most_common|default('nobody') }}", "4 nobody"),
        ("{{ [{'a': 1}, [2], {'a': 1}]|most_common|tojson }}", '{"a": 1}'),
        ("{{ [9, 1, 2]|median }} {{ [4, 1]|median }} {{ []|median|default('-') }}", "2 2.5 -"),
    ],
)
def test_filter_does_what_it_says(house, text, expected):
    assert house.problems(text) == []
    assert house.render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ none|upper }}", "none has no text of its own"),
        ("{{ inputs.rows|trim }}", "a list has no text of its own"),
        ("{{ true|string }}", "true has no text of its own"),
        ("{{ ['a']|sum }}", "sum works on numbers only"),
        ("{{ [[1]]|sum(start=[]) }}", "sum works on numbers only"),
        ("{{ 'x'|indent(99999999) }}", "the argument 99999999 is over 1,000"),
        ("{{ 'x'|wordwrap(1) }}", "wordwrap needs a width of 8 or more"),
        ("{{ 'abc'|truncate(1) }}", "truncate: expected length >= 3, got 1"),
        (f"{{{{ '{'1' * 1001}'|int }}}}", "a number has at most 1,000 characters"),
        (f"{{{{ '{'1' * 1001}'|float }}}}", "a number has at most 1,000 characters"),
        ("{{ [1]|batch(0) }}", "the number of parts must be 1 to 100,000"),
        ("{{ [1]|slice(100001)|list }}", "the number of parts must be 1 to 100,000"),
        ("{{ 1.5|round(301) }}", "the argument 301 is over 300"),
        ("{{ [1]|tojson(99) }}", "the argument 99 is over 16"),
        ("{{ {'a': range}|tojson }}", "a function is not text"),
        ("{{ '{'|fromjson }}", "fromjson: Input data was truncated"),
        ("{{ []|most_common }}", "there is no most common item of none"),
        ("{{ 'bug'|most_common }}", "most_common takes a list"),
        ("{{ {'a': 1}|most_common }}", "most_common takes a list"),
        ("{{ []|median }}", "there is no median of none"),
        ("{{ ['1', '2']|median }}", "median takes numbers: write map('float') before it"),
        ("{{ [true]|median }}", "median takes numbers"),
    ],
)
def test_filter_refuses(house, text, message):
    with pytest.raises(TemplateError, match=re.escape(message)):
        house.render(text)


def test_long_text_may_be_truncated(house):
    doubled = "{% for i in range(16) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}"
    text = "{% set ns = namespace(t='word ') %}" + doubled + "{{ ns.t | truncate(4000) | length }}"
    assert house.render(text) == "3997"
