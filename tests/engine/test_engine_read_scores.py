"""Texts that read the scores and items of results, whatever way those come to them."""

import pytest

from poeflow.operations.check import checkup
from poeflow.project.project import Project

FLOW = """\
poeflow: 1
steps:
  say:
    matrix: {axes: {bot: [GPT-5.2, Claude-Sonnet-4.5], tone: [dry, warm]}}
    model: "{{ matrix.bot }}"
    prompt: "Announce a kettle, {{ matrix.tone }}"
    expect: [{contains: kettle, level: score}]
  best: {render: "%s"}
"""
GROUPS = "{%% for bot, rows in steps.say.all | groupby('matrix.bot') %%}%s {%% endfor %%}"
MEAN = "{% macro mean(rows) %}{{ rows | map(attribute='score') | sum }}{% endmacro %}"
LOOP = """
  best:
    for_each: {in: steps.say.all, group_by: item.matrix.bot}
    render: "{{ item | pass_rate }}"
"""


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (GROUPS % "{{ rows | sum(attribute='score') }}", "2.0 2.0 "),
        (GROUPS % "{{ rows[0].score }}", "1.0 1.0 "),
        ("{% set rows = steps.say.all | list %}{{ rows | pass_rate }}", "1.0"),
        ("{% set rows = steps.say.all %}{{ (rows | first).passed | tojson }}", "true"),
        (MEAN + "{{ mean(steps.say.all) }}", "4.0"),
        (
            "{% for rows in steps.say.all | batch(3) %}{{ rows | pass_rate }} {% endfor %}",
            "1.0 1.0 ",
        ),
    ],
)
def test_scores_of_results_that_went_a_longer_way(bench, read, expected):
    outcome = bench.run(FLOW % read)
    assert outcome.exit_code == 0
    assert outcome.results["best"].text == expected


def test_scores_in_the_groups_of_a_loop(bench):
    flow = FLOW.partition("  best")[0].rstrip() + LOOP
    outcome = bench.run(flow)
    assert {name: outcome.results[name].text for name in outcome.results if "best" in name} == {
        "best[GPT-5.2]": "1.0",
        "best[Claude-Sonnet-4.5]": "1.0",
    }


def test_another_score_makes_its_reader_stale(bench):
    flow = FLOW % "{% set rows = steps.say.all %}{{ rows | sum(attribute='score') }}"
    bench.run(flow)
    changed = flow.replace("contains: kettle", "contains: 'no such word'")
    assert bench.states(changed)["best"][0] != "fresh"
    assert bench.run(changed).results["best"].text == "0.0"


def test_items_of_results_that_went_a_longer_way(bench):
    flow = """\
poeflow: 1
steps:
  list: {render: '["x","y"]', output: {format: json}}
  say: {for_each: steps.list.data, model: GPT-5.2, prompt: "Say {{ item }}"}
  all:
    render: "{% set rows = steps.say.all %}{% for row in rows %}{{ row.item }} {% endfor %}"
"""
    assert bench.run(flow).results["all"].text == "x y "
    bench.forget_answers()
    assert set(bench.states(flow).values()) == {("fresh", ())}


def test_rows_and_lists_of_the_flow_are_no_results(bench):
    """What a flow gives by itself may have a score, too: results are then as they were."""
    bench.write("rows.csv", "name,score\na,1\n")
    flow = (
        FLOW.partition("  best")[0]
        + """\
  report:
    for_each: {file: rows.csv, key: item.name}
    render: "{{ item.score }} {{ steps.say.all | map('list') | list | length }}"
  list:
    render: "{% for row in [{'score': 1}] %}{{ row.score }}{% endfor %}{{ steps.say.all | length }}"
"""
    )
    path = bench.folder / "a.yaml"
    path.write_text(flow)
    assert (
        checkup(Project(bench.folder.resolve()), "//a.yaml", "a.yaml").checked.judged == frozenset()
    )


TABLE = "{{ steps.say.all | tocsv(scores=true) }}"


def test_a_table_has_scores(bench, scripted):
    scripted(
        "- {match: {text: dry}, answer: {text: 'a kettle'}}\n"
        "- {match: {text: warm}, answer: {text: 'a pot'}}\n"
    )
    flow = FLOW.replace("bot: [GPT-5.2, Claude-Sonnet-4.5], tone", "bot: [GPT-5.2], tone")
    assert bench.run(flow % TABLE).results["best"].text == (
        "key,bot,tone,text,passed,score,unmet\n"
        '"bot=GPT-5.2,tone=dry",GPT-5.2,dry,a kettle,true,1.0,\n'
        '"bot=GPT-5.2,tone=warm",GPT-5.2,warm,a pot,false,0.0,'
        '"expected to contain ""kettle"", found ""a pot"""'
    )
    assert bench.states(flow % TABLE)["best"] == ("fresh", ())


def test_a_column_of_the_item_keeps_its_name_beside_scores(bench):
    flow = FLOW.replace("tone: [dry, warm]", "score: [dry]").replace("matrix.tone", "matrix.score")
    table = bench.run(flow % TABLE).results["best"].text
    assert table.partition("\n")[0] == "key,bot,score,text,passed,answer.score,unmet"


@pytest.mark.parametrize("rows", ["[{'a': 1}]", "['a']", "(steps.say.all + [{'a': 1}])"])
def test_only_results_have_scores(bench, rows):
    outcome = bench.run(FLOW % f"{{{{ {rows} | tocsv(scores=true) }}}}")
    assert "only results of a step have scores: write steps.ID.all" in str(outcome.failures["best"])


def test_scores_need_expectations(bench):
    flow = (FLOW % TABLE).replace("    expect: [{contains: kettle, level: score}]\n", "")
    (bench.folder / "a.yaml").write_text(flow)
    found = checkup(Project(bench.folder.resolve()), "//a.yaml", "a.yaml")
    assert [str(problem) for problem in found.problems] == [
        'a.yaml:7:38: a result of step "say" has no "passed"; add expect: to say'
    ]


JUDGED = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say:
    prompt: Announce a kettle
    expect: [{contains: kettle}, {contains: teapot, level: score, weight: 3}]
    output: {save: out/say.md}
  score: {render: "{{ steps.say.score }} {{ steps.say.passed | tojson }}"}
  read: {prompt: "Translate {{ steps.say.text }}"}
"""


def test_a_text_in_a_file_is_judged_by_rules_in_a_clone(bench):
    bench.run(JUDGED)
    bench.forget_answers()
    before = bench.prompts()
    changed = JUDGED.replace('render: "', 'render: "Score: ').replace("Translate", "Shorten")
    states = {one.id: (one.state, one.calls) for one in bench.statuses(changed)}
    assert states == {"say": ("fresh", 0), "score": ("stale", 0), "read": ("stale", 1)}
    outcome = bench.run(changed)
    assert outcome.results["score"].text == "Score: 0.25 false"
    assert [one.split()[0] for one in bench.prompts()[len(before) :]] == ["Shorten"]
    assert bench.locked() == []


@pytest.mark.parametrize(
    "expected",
    ["judge: {model: GPT-5.2, rubric: Is it short?}, level: score", "max_cost: 1, level: score"],
)
def test_what_more_than_a_text_decides_is_asked_for_in_a_clone(bench, expected):
    flow = JUDGED.replace("contains: teapot, level: score, weight: 3", expected)
    assert bench.run(flow).exit_code == 0
    bench.forget_answers()
    states = bench.states(flow.replace("Translate", "Shorten"))
    assert states["say"] == ("needed", ("read needs its answer, which is not here",))
