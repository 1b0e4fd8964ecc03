"""The items of a loop whose items come from a step, in its results."""

import pytest

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  list: {prompt: list, output: {format: json}}
  say:
    for_each: {in: steps.list.data, key: item.id}
    prompt: "say {{ item.id }}"
  shown:
    render: |
      {% for one in steps.say.all %}{{ one.item.word }} {{ one.text }}, {% endfor %}
"""
MORE = "  last: {render: '{{ steps.shown.text }} {{ steps.say.all[0].item.word | upper }}'}\n"
RULES = """\
- {match: {text: list}, answer: {json: [{id: a, word: cat}, {id: b, word: dog}]}}
- {match: {text: say a}, answer: {text: A}}
- {match: {text: say b}, answer: {text: B}}
"""


@pytest.fixture
def listing(bench, scripted):
    scripted(RULES)
    return bench


def test_results_have_their_items(listing):
    assert listing.run(FLOW).outputs == {"shown": "cat A, dog B, "}
    assert set(listing.states(FLOW).values()) == {("fresh", ())}
    assert listing.run(FLOW).outputs == {"shown": "cat A, dog B, "}
    assert len(listing.prompts()) == 3


def test_a_clone_proves_them_and_asks_only_if_they_are_read(listing):
    listing.run(FLOW)
    listing.forget_answers()
    assert listing.locked() == []
    listing.run(FLOW)
    assert len(listing.prompts()) == 3
    assert listing.run(FLOW + MORE).outputs == {"last": "cat A, dog B,  CAT"}
    assert len(listing.prompts()) == 6
    assert listing.states(FLOW + MORE)["last"] == ("fresh", ())


def test_another_item_makes_what_reads_it_stale(listing, scripted):
    listing.run(FLOW)
    scripted(RULES.replace("word: dog", "word: cow"))
    flow = FLOW.replace("prompt: list", "prompt: list again")
    assert listing.run(flow).outputs == {"shown": "cat A, cow B, "}
    assert listing.states(flow)["shown"] == ("fresh", ())
    listing.forget_answers()
    assert listing.locked() == []


def test_loops_over_those_instances_and_groups_have_theirs(listing):
    flow = FLOW + (
        "  again: {for_each: steps.say, render: '{{ source.text }}!'}\n"
        "  pair: {for_each: {in: steps.say.all, group_by: item.text}, render: '{{ key }}'}\n"
        "  end:\n    render: \"{{ steps.again.all | map(attribute='item.word') | join }} "
        "{{ steps.pair['A'].item | length }}\"\n"
    )
    assert listing.run(flow).outputs["end"] == "catdog 1"
    assert set(listing.states(flow).values()) == {("fresh", ())}
    listing.forget_answers()
    assert listing.locked() == []


def test_what_an_output_reads_may_be_missing_in_a_clone(listing):
    flow = FLOW + "outputs: {first: '{{ steps.say.all[0].item.word }}'}\n"
    assert listing.run(flow).outputs == {"first": "cat"}
    listing.forget_answers()
    assert listing.run(flow).outputs == {}
    assert len(listing.prompts()) == 3
