"""Steps that run once for each item: their instances, keys, order, files and failures."""

import pytest

from poeflow.errors import InvalidFlowError, StepError
from poeflow.events import StepExpanded
from poeflow.simulator.server import Simulator

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"


def flow(steps: str, rest: str = "") -> str:
    return f"{HEAD}{rest}steps:\n{steps}"


def test_numbers_and_texts_are_items(bench):
    outcome = bench.run(
        flow(
            "  say: {for_each: [b, 7],"
            ' prompt: "say {{ item }}, {{ loop.index }} of {{ loop.length }}"}\n'
        ),
        concurrency=1,
    )
    assert bench.prompts() == ["say b, 1 of 2", "say 7, 2 of 2"]
    assert list(outcome.results) == ["say[b]", "say[7]"]
    assert [e.instances for e in bench.events if isinstance(e, StepExpanded)] == [2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", "id,word\n1,cat\n2,dog\n"),
        ("rows.jsonl", '{"id": "1", "word": "cat"}\n{"id": "2", "word": "dog"}\n'),
        ("rows.json", '[{"id": "1", "word": "cat"}, {"id": "2", "word": "dog"}]'),
        ("rows.yaml", '- {id: "1", word: cat}\n- {id: "2", word: dog}\n'),
    ],
)
def test_the_rows_of_a_file_are_items_named_by_their_key(bench, name, text):
    bench.write(f"data/{name}", text)
    outcome = bench.run(
        flow(
            f"  say: {{for_each: {{file: data/{name}, key: item.id}},"
            ' prompt: "say {{ item.word }}"}\n'
        )
    )
    assert sorted(bench.prompts()) == ["say cat", "say dog"]
    assert sorted(outcome.results) == ["say[1]", "say[2]"]


def test_an_expression_over_an_input_is_known_before_anything_is_sent(bench):
    with pytest.raises(InvalidFlowError) as caught:
        bench.run(
            flow(
                '  say: {for_each: inputs.words, prompt: "{{ item }}"}\n',
                "inputs: {words: {type: array, default: [cat, dog, cat]}}\n",
            )
        )
    assert str(caught.value) == (
        'a.yaml:5:9: items 1 and 3 have the key "cat"; give them a key: that differs'
    )
    assert not bench.simulator.requests


def test_an_expression_that_gives_no_list_is_told_at_its_place(bench):
    with pytest.raises(InvalidFlowError) as caught:
        bench.run(
            flow(
                '  say: {for_each: inputs.words, prompt: "{{ item }}"}\n',
                "inputs: {words: {default: cat}}\n",
            )
        )
    assert str(caught.value) == "a.yaml:5:19: this gives a text and no list; give a list"


def test_all_is_in_order_of_the_items_however_they_finish(bench, tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text(
        "simulator: 1\nrules:\n- {match: {text: slow}, delay: 0.2, answer: {text: 'slowly'}}\n"
        "- {match: {text: quick}, answer: {text: 'quickly'}}\n"
    )
    with Simulator(script=script) as simulator:
        bench.simulator = simulator
        outcome = bench.run(
            flow(
                """\
  say: {for_each: [slow, quick], prompt: "{{ item }}"}
  both:
    render: "{{ steps.say.all | map(attribute='text') | join('+') }} {{ steps.say['quick'].text }}"
"""
            )
        )
    assert outcome.outputs == {"both": "slowly+quickly quickly"}


def test_a_chain_starts_each_instance_as_soon_as_its_own_source_is_there(bench, tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text(
        "simulator: 1\nrules:\n"
        "- {match: {text: first slow}, delay: 0.5, answer: {text: 's'}}\n"
        "- {match: {text: first quick}, answer: {text: 'q'}}\n"
    )
    with Simulator(script=script) as simulator:
        bench.simulator = simulator
        outcome = bench.run(
            flow(
                """\
  first: {for_each: [slow, quick], prompt: "first {{ item }}"}
  second: {for_each: steps.first, prompt: "second {{ item }} after {{ source.text }}"}
"""
            )
        )
        prompts = bench.prompts()
    assert prompts.index("second quick after q") < prompts.index("second slow after s")
    finished = list(outcome.results)
    assert finished.index("second[quick]") < finished.index("first[slow]")


def test_a_chain_skips_only_what_its_own_source_failed(bench, tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text('simulator: 1\nrules:\n- {match: {text: first b}, fault: "400"}\n')
    with Simulator(script=script) as simulator:
        bench.simulator = simulator
        outcome = bench.run(
            flow(
                """\
  first: {for_each: [a, b], prompt: "first {{ item }}"}
  second: {for_each: steps.first, prompt: "second {{ item }}"}
"""
            ),
            keep_going=True,
        )
    assert sorted(outcome.results) == ["first[a]", "second[a]"]
    assert outcome.skipped == {"second[b]": "first[b] failed"}
    assert outcome.exit_code == 1


def test_items_of_an_answer_are_known_once_it_is_there(bench, tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text(
        "simulator: 1\nrules:\n- match: {text: list}\n"
        '  answer: {text: \'[{"id": 1}, {"id": 2}]\'}\n'
    )
    with Simulator(script=script) as simulator:
        bench.simulator = simulator
        outcome = bench.run(
            flow(
                """\
  find: {prompt: list them, output: {format: json}}
  say: {for_each: {in: steps.find.data, key: item.id}, prompt: "say {{ item.id }}"}
"""
            )
        )
    assert sorted(outcome.results) == ["find", "say[1]", "say[2]"]


def test_every_instance_writes_its_own_file(bench, tmp_path):
    bench.run(
        flow(
            """\
  page:
    for_each: [Käse, Wurst]
    render: "about {{ item }}"
    output: {save: "out/{{ key | slug }}.md"}
"""
        )
    )
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert sorted(written.values()) == ["about Käse\n", "about Wurst\n"]


CLASHING = """\
  page:
    for_each: %s
    prompt: "about {{ item }}"
    output: {save: "out/{{ key }}.md"}
"""


ALIKE = (
    "the paths differ only in case, which not every disk tells apart: name the items apart, "
    "or add {{ loop.index }} to the path"
)


def test_two_instances_that_would_write_one_file_are_a_problem(bench):
    with pytest.raises(InvalidFlowError) as raised:
        bench.run(flow(CLASHING % "[Ab, aB]"))
    (problem,) = raised.value.problems
    assert str(problem).partition(": ")[2] == (
        f"page[Ab] and page[aB] would both write //out/aB.md; {ALIKE}"
    )
    assert bench.simulator.requests == ()


def test_what_the_hint_about_paths_says_helps(bench):
    for save, message in [
        ("out/{{ key | slug }}.md", f"would both write //out/aB.md; {ALIKE}"),
        ("out/{{ item | lower }}.md", "give each a path of its own, with {{ key | slug }} in it"),
    ]:
        with pytest.raises(InvalidFlowError) as raised:
            bench.run(flow(CLASHING.replace("out/{{ key }}.md", save) % "[Ab, aB]"))
        assert str(raised.value.problems[0]).endswith(message)
    apart = CLASHING.replace("{{ key }}", "{{ loop.index }}-{{ key | slug }}") % "[Ab, aB]"
    assert bench.run(flow(apart)).exit_code == 0
    assert sorted(path.name for path in (bench.folder / "out").iterdir()) == ["1-Ab.md", "2-aB.md"]


def test_two_late_instances_that_would_write_one_file_clash_before_both_are_asked(bench):
    words = '  words: {render: "Ab aB"}\n'
    outcome = bench.run(flow(words + CLASHING % "steps.words.text.split()"), concurrency=1)
    assert str(outcome.failures["page[aB]"]) == (
        f"//out/aB.md is written by page[Ab] already; {ALIKE}"
    )
    assert bench.prompts() == ["about Ab"]


@pytest.mark.parametrize("rows", ["[AC/DC, fine, a/b]", "steps.words.text.split()"])
def test_a_path_that_cannot_be_is_refused_before_it_is_asked_for(bench, rows):
    words = '  words: {render: "AC/DC fine a/b"}\n'
    text = flow(words + CLASHING.replace("{{ key }}", "{{ item }}") % rows)
    try:
        outcome = bench.run(text, keep_going=True)
    except InvalidFlowError as error:
        found = [str(problem) for problem in error.problems]
        with pytest.raises(InvalidFlowError):
            bench.statuses(text)
        assert bench.simulator.requests == ()
    else:
        found = sorted(map(str, outcome.failures.values()))
        assert bench.prompts() == ["about fine"]
    assert [message.partition(": ")[2] for message in found] == [
        '"AC/DC" is not one safe part of a path; use | slug',
        '"a/b" is not one safe part of a path; use | slug',
    ]


def test_a_matrix_has_every_combination_but_the_excluded(bench):
    outcome = bench.run(
        flow(
            """\
  ask:
    matrix:
      axes: {model: [GPT-5.2, Claude-Sonnet-4.5], tone: [dry, warm]}
      exclude: [{model: GPT-5.2, tone: warm}]
      include: [{tone: dry, note: short}, {model: Grok-4, tone: loud}]
    model: "{{ matrix.model }}"
    prompt: "{{ matrix.tone }} {{ matrix.note | default('-') }} {{ key }}"
"""
        ),
        concurrency=1,
    )
    asked = [(r.json["model"], r.json["messages"][-1]["content"]) for r in bench.simulator.requests]
    assert asked == [
        ("GPT-5.2", "dry short model=GPT-5.2,tone=dry"),
        ("Claude-Sonnet-4.5", "dry short model=Claude-Sonnet-4.5,tone=dry"),
        ("Claude-Sonnet-4.5", "warm - model=Claude-Sonnet-4.5,tone=warm"),
        ("Grok-4", "loud - model=Grok-4,tone=loud"),
    ]
    assert next(iter(outcome.outputs["ask"])) == "model=GPT-5.2,tone=dry"


def test_an_empty_list_is_done_at_once(bench):
    outcome = bench.run(
        flow(
            """\
  say: {for_each: [], prompt: "{{ item }}"}
  count: {render: "{{ steps.say.all | length }} {{ steps.say.status }}"}
"""
        )
    )
    assert outcome.outputs == {"count": "0 ok"}
    assert not bench.simulator.requests


def test_after_a_failure_no_further_item_is_asked(bench, tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text('simulator: 1\nrules:\n- {match: {text: b}, fault: "400"}\n')
    with Simulator(script=script) as simulator:
        bench.simulator = simulator
        outcome = bench.run(
            flow('  say: {for_each: [a, b, c, d], prompt: "{{ item }}"}\n'), concurrency=1
        )
        assert bench.prompts() == ["a", "b"]
    assert list(outcome.results) == ["say[a]"]
    stopped = "the run stopped when say[b] failed"
    assert outcome.skipped == {"say[c]": stopped, "say[d]": stopped}


def test_an_item_brings_its_own_attachment_and_its_absence_is_found_before(bench):
    bench.write("data/a.txt", "aaa")
    with pytest.raises(InvalidFlowError) as caught:
        bench.run(
            flow(
                """\
  read:
    for_each: [a, b]
    prompt: read it
    attachments: ["data/{{ item }}.txt"]
"""
            )
        )
    assert str(caught.value) == 'a.yaml:7:19: //data/b.txt does not exist; did you mean "a.txt"?'
    bench.write("data/b.txt", "bbb")
    outcome = bench.run(
        flow(
            """\
  read:
    for_each: [a, b]
    prompt: read it
    attachments: ["data/{{ item }}.txt"]
"""
        )
    )
    assert sorted(outcome.results) == ["read[a]", "read[b]"]


def test_a_missing_key_names_the_ones_there_are(bench):
    outcome = bench.run(
        flow(
            """\
  say: {for_each: [a, b], prompt: "{{ item }}"}
  one: {render: "{{ steps.say['c'].text }}"}
"""
        )
    )
    assert isinstance(outcome.failures["one"], StepError)
    assert "there is no instance" in str(outcome.failures["one"])


TABLE = """\
  say:
    for_each: {file: rows.csv, key: item.id}
    prompt: "say {{ item.word }}"
    output: {one_of: [good, bad]}
  page: {render: "{{ steps.say.all | tocsv }}"}
"""


def test_results_carry_what_they_ran_over(bench, scripted):
    bench.write("rows.csv", "id,word,value\n1,cat,x\n2,dog,y\n")
    steps = (
        TABLE
        + """\
  right:
    render: |
      {% for one in steps.say.all if one.value == 'good' %}{{ one.item.word }}, {% endfor %}
      {{ steps.say["2"].item.word }}
  try:
    matrix: {axes: {tone: [dry], word: [cat]}, include: [{tone: dry, n: 1}]}
    render: "{{ matrix.n }}"
  tried: {render: "{{ steps.try.all | tocsv }} {{ steps.try.all[0].matrix | tojson }}"}
"""
    )
    scripted("""\
        - {match: {text: cat}, answer: {text: good}}
        - {match: {text: dog}, answer: {text: bad}}
        """)
    outcome = bench.run(flow(steps))
    assert {name: outcome.results[name].text for name in ("page", "right", "tried")} == {
        "page": "key,id,word,value,answer.value\n1,1,cat,x,good\n2,2,dog,y,bad",
        "right": "cat, dog",
        "tried": 'key,tone,word,n,text\n"tone=dry,word=cat",dry,cat,1,1 '
        '{"tone": "dry", "word": "cat", "n": 1}',
    }


def test_what_a_result_ran_over_counts_for_those_who_read_it(bench):
    bench.write("rows.csv", "id,word,more\n1,cat,a\n")
    steps = (
        "  say: {for_each: {file: rows.csv, key: item.id}, prompt: say}\n"
        '  sum: {prompt: "{% for one in steps.say.all %}{{ one.item.more }}{% endfor %}"}\n'
    )
    bench.run(flow(steps))
    bench.write("rows.csv", "id,word,more\n1,cat,b\n")
    assert bench.states(flow(steps)) == {
        "say[1]": ("fresh", ()),
        "sum": ("stale", ("steps.say.all changed",)),
    }
