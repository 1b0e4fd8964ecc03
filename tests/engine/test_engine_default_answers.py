"""What stands in place of an answer that cannot be read: `output.default`."""

import pytest

from poeflow.events import Warned

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
SCHEMA = "{type: object, required: [n], properties: {n: {type: integer}}}"


def flow(default: str = "{n: 0}", rest: str = "", after: str = "{{ steps.count.data.n }}") -> str:
    output = f"{{schema: {SCHEMA}, repair: 1, default: {default}, save: n.json}}"
    return (
        f"{HEAD}  count: {{prompt: count, output: {output}{rest}}}\n"
        f'  next: {{render: "after {after}"}}\n'
    )


@pytest.fixture
def unreadable(scripted):
    scripted("- {answer: {text: none}}")


@pytest.mark.usefixtures("unreadable")
def test_a_default_stands_in_place_of_an_answer_after_its_repairs(bench):
    outcome = bench.run(flow())
    assert outcome.outputs == {"next": "after 0"}
    assert (outcome.results["count"].data, len(bench.prompts())) == ({"n": 0}, 2)
    assert (bench.folder / "n.json").read_text() == '{"n":0}\n'
    [warned] = [event for event in bench.events if isinstance(event, Warned)]
    assert warned.message.endswith("; output.default stands in its place")


@pytest.mark.usefixtures("unreadable")
def test_it_is_current_and_nothing_is_asked_again(bench):
    bench.run(flow())
    assert bench.locked() == []
    assert bench.run(flow(after="all: {{ steps.count.data.n }}")).outputs == {
        "next": "after all: 0"
    }
    assert len(bench.prompts()) == 2


@pytest.mark.usefixtures("unreadable")
def test_another_default_is_taken_without_asking(bench):
    bench.run(flow())
    text = flow("{n: 7}")
    assert bench.states(text)["count"][0] == "stale"
    assert bench.run(text).outputs == {"next": "after 7"}
    assert len(bench.prompts()) == 2


@pytest.mark.usefixtures("unreadable")
def test_no_judge_is_asked_about_it(bench):
    outcome = bench.run(flow(rest=", expect: [{judge: {rubric: is it good}}, {max_length: 1}]"))
    assert (outcome.results["count"].verdicts, len(bench.prompts())) == ((), 2)


def test_an_answer_that_can_be_read_is_taken(bench, scripted):
    scripted("- {answer: {text: '{\"n\": 3}'}}")
    assert bench.run(flow()).outputs == {"next": "after 3"}


def test_a_request_that_fails_has_no_default(bench, scripted):
    scripted('- {fault: "400"}')
    assert "count" in bench.run(flow()).failures


@pytest.mark.usefixtures("unreadable")
def test_it_is_printed_again_without_asking(bench):
    text = f"{HEAD}  count: {{prompt: count, output: {{schema: {SCHEMA}, default: {{n: 0}}}}}}\n"
    first, again = bench.run(text), bench.run(text)
    assert first.outputs == again.outputs == {"count": '{"n":0}'}
    assert len(bench.prompts()) == 1


@pytest.mark.usefixtures("git")
def test_edits_of_a_default_are_merged_into_the_next_answer(bench, scripted):
    scripted(
        """
        - {match: {text: first}, answer: {text: no lines}}
        - {match: {text: second}, answer: {text: "```\\none\\ntwo\\nthree\\nfour\\nFIVE\\n```"}}
        """
    )
    text = HEAD + (
        "  write: {prompt: %s, output: {extract: fenced, save: a.txt,"
        ' default: "one\\ntwo\\nthree\\nfour\\nfive"}}\n'
        '  read: {render: "{{ steps.write.text }}"}\n'
    )
    bench.run(text % "first")
    bench.write("a.txt", "ONE\ntwo\nthree\nfour\nfive\n")
    bench.accept(text % "first")
    bench.run(text % "second", merge_edits=True)
    assert (bench.folder / "a.txt").read_text() == "ONE\ntwo\nthree\nfour\nFIVE\n"


SORT = (
    HEAD
    + """\
  sort:
    for_each: [r1, r2]
    prompt: "sort {{ item }}"
    output: {one_of: [bug, question], default: question}
  table: {render: "{{ steps.sort.all | tocsv }}"}
  left: {render: "{{ steps.sort.all | selectattr('used_default') | map(attribute='key') | join }}"}
"""
)


def test_templates_and_tables_tell_a_default_from_an_answer(bench, scripted):
    scripted("- {match: {text: r1}, answer: {text: question}}\n- {answer: {text: neither}}")
    told = {"table": "key,value,used_default\nr1,question,\nr2,question,true", "left": "r2"}
    assert bench.run(SORT).outputs == told
    more = SORT + "  more: {render: '{{ steps.sort.all | tocsv }}'}\n"
    assert bench.run(more).outputs == {**told, "more": told["table"]}
    assert (bench.locked(), len(bench.prompts())) == ([], 2)


def test_an_answer_that_equals_the_default_before_it_is_another_result(bench, scripted):
    scripted("- {match: {text: r1}, answer: {text: question}}\n- {answer: {text: neither}}")
    bench.run(SORT)
    scripted("- {answer: {text: question}}")
    told = {"table": "key,value\nr1,question\nr2,question", "left": ""}
    assert bench.run(SORT, refresh=True).outputs == told


VOTE = (
    HEAD
    + """\
  vote:
    prompt: "vote {{ sample }}"
    samples: {count: 5, pass_rate: 0.6}
    output: {one_of: [pos, neg, unsure], default: unsure}
    expect: [{equals: pos}]
  told: {render: "{{ steps.vote.value }} {{ steps.vote.passed | tojson }}"}
"""
)


def test_a_default_is_no_sample_that_passes(bench, scripted):
    scripted(
        '- {match: {regex: "vote [1234]"}, answer: {text: hard to say}}\n- {answer: {text: pos}}'
    )
    outcome = bench.run(VOTE)
    told = str(outcome.failures["vote"])
    assert told.startswith("1 of 5 samples passed, 60% must: ")
    assert "; output.default stands in its place; " in told
    assert (outcome.outputs, bench.run(VOTE).exit_code, len(bench.prompts())) == ({}, 1, 5)


def test_a_sample_that_passes_goes_before_a_default(bench, scripted):
    scripted("- {match: {text: vote 1}, answer: {text: hard to say}}\n- {answer: {text: pos}}")
    assert bench.run(VOTE).outputs == {"told": "pos true"}
    assert (bench.locked(), len(bench.prompts())) == ([], 5)


def test_a_default_is_taken_of_samples_only_if_it_stands_in_for_all(bench, scripted):
    text = VOTE.replace("    expect: [{equals: pos}]\n", "").replace(".passed", ".used_default")
    scripted("- {match: {text: vote 5}, answer: {text: neg}}\n- {answer: {text: hard to say}}")
    assert bench.run(text).outputs == {"told": "neg false"}
    scripted("- {answer: {text: hard to say}}")
    assert bench.run(text, refresh=True).outputs == {"told": "unsure true"}
