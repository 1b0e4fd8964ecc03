"""Loops over what a step gives, and all that reads them: fresh after a run, also in a clone."""

import json

import pytest

LIST = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  list: {prompt: list, output: {format: json}}
  say:
    for_each: {in: steps.list.data, key: item.id}
    prompt: "say {{ item.id }}"
"""
JOINED = "  shown: {render: '{% for one in steps.say.all %}{{ one.text }}{% endfor %}'}\n"
CHECK = "  check: {for_each: steps.say, prompt: 'check {{ item.word }} {{ source.text }}'}\n"
OTHER = """\
  other: {prompt: other}
  check: {for_each: steps.say, prompt: '{{ source.text }} {{ steps.other.text }}'}
"""
PAIRS = """\
  pair: {matrix: {axes: {word: "steps.list.data[0].words"}}, prompt: 'p {{ matrix.word }}'}
  again: {for_each: steps.pair, prompt: 'again {{ matrix.word }}'}
  pairs: {render: '{% for one in steps.pair.all %}{{ one.text }}{% endfor %}'}
"""
FOLD = """\
  tell:
    for_each: {in: steps.list.data, key: item.id, carry: previous.text}
    prompt: "tell {{ item.word }} {{ carry or '' }}"
  told: {render: '{% for one in steps.tell.all %}{{ one.text }}{% endfor %}'}
"""
GROUPS = """\
  group:
    for_each: {in: steps.list.data, group_by: item.word}
    prompt: "group {{ key }}"
  groups: {render: '{% for one in steps.group.all %}{{ one.text }}{% endfor %}'}
"""
RULES = """\
- match: {text: list}
  answer: {json: [{id: b, word: dog, words: [y, x]}, {id: a, word: cat}, {id: c, word: ant}]}
- {match: {text: say a}, answer: {text: A}}
- {match: {text: say b}, answer: {text: B}}
- {match: {text: say c}, answer: {text: C}}
"""
READERS = [JOINED, CHECK, OTHER, PAIRS, FOLD, GROUPS]


@pytest.fixture
def listing(bench, scripted):
    scripted(RULES)
    return bench


def lock_of(bench):
    return (bench.folder / "a.lock.json").read_bytes()


@pytest.mark.parametrize("reader", READERS)
def test_all_is_fresh_after_a_run(listing, reader):
    listing.run(LIST + reader)
    assert set(listing.states(LIST + reader).values()) == {("fresh", ())}
    assert listing.locked() == []


@pytest.mark.parametrize("reader", READERS)
def test_the_lock_proves_all_in_a_clone(listing, reader):
    listing.run(LIST + reader)
    lock, sent = lock_of(listing), len(listing.prompts())
    listing.forget_answers()
    assert set(listing.states(LIST + reader).values()) == {("fresh", ())}
    assert listing.locked() == []
    listing.run(LIST + reader)
    assert (lock_of(listing), len(listing.prompts())) == (lock, sent)


def test_only_an_order_that_the_names_do_not_show_is_in_the_lock(listing, scripted):
    listing.run(LIST + JOINED)
    assert json.loads(lock_of(listing))["order"] == {"say": ["b", "a", "c"]}
    scripted(RULES.replace("id: b, word: dog", "id: aa, word: dog").replace("id: a,", "id: b,"))
    listing.run(LIST.replace("prompt: list", "prompt: list again") + JOINED)
    assert "order" not in json.loads(lock_of(listing))


def test_another_order_of_the_items_makes_what_reads_them_stale(listing, scripted):
    listing.run(LIST + JOINED)
    scripted(RULES.replace("id: b,", "id: z,").replace("id: a,", "id: b,").replace("z,", "a,"))
    flow = LIST.replace("prompt: list", "prompt: list again") + JOINED
    assert listing.run(flow).outputs == {"shown": "ABC"}
    listing.forget_answers()
    assert listing.locked() == []


def test_what_is_asked_again_in_a_clone_has_the_items_in_their_order(listing):
    listing.run(LIST + JOINED)
    listing.forget_answers()
    again = JOINED.replace("'{%", "'again: {%")
    assert listing.run(LIST + again).outputs == {"shown": "again: BAC"}


def test_an_instance_without_an_answer_is_not_overlooked(listing):
    listing.run(LIST + JOINED, first=1)
    states = listing.states(LIST)
    assert [states[f"say[{key}]"][0] for key in "bac"] == ["fresh", "new", "new"]
    listing.forget_answers()
    assert listing.locked() != []


def test_the_first_instances_are_those_of_the_items_also_in_a_clone(listing):
    listing.run(LIST)
    listing.forget_answers()
    assert listing.states(LIST, first=1).keys() == {"list", "say[b]"}


def test_a_change_of_a_chained_text_is_stale_and_its_item_is_there(listing):
    listing.run(LIST + CHECK)
    changed = LIST + CHECK.replace("check {{", "test {{")
    states = listing.states(changed)
    assert states["check[a]"] == ("stale", ("prompt changed",))
    listing.run(changed)
    assert [one for one in listing.prompts() if "test" in one] == [
        "test dog B",
        "test cat A",
        "test ant C",
    ]


def test_a_change_of_a_chained_text_is_unknown_in_a_clone(listing):
    listing.run(LIST + CHECK)
    listing.forget_answers()
    changed = LIST + CHECK.replace("check {{", "test {{")
    states = listing.states(changed)
    assert states["list"][0] == "needed"
    assert states["check[a]"] == ("unknown", ("unknown until list has run",))
    listing.run(changed)
    assert set(listing.states(changed).values()) == {("fresh", ())}


def test_another_item_makes_a_chained_instance_stale(listing, scripted):
    listing.run(LIST + CHECK)
    scripted(RULES.replace("word: cat", "word: cow"))
    flow = LIST.replace("prompt: list", "prompt: list again") + CHECK
    listing.run(flow)
    assert "check cow A" in listing.prompts()
    listing.forget_answers()
    assert listing.locked() == []


def test_a_chained_step_runs_alone_with_the_items_of_the_last_run(listing):
    listing.run(LIST)
    listing.run(LIST + CHECK, steps=("check",), only=True)
    assert [one for one in listing.prompts() if "check" in one] == [
        "check dog B",
        "check cat A",
        "check ant C",
    ]


def test_other_items_with_the_same_keys_are_stale(listing, scripted):
    scripted(
        RULES.replace("{json: [", "{json: {p: [{id: a, word: cow}], q: [").replace(
            "ant}]", "ant}]}"
        )
    )
    flow = LIST.replace("list.data", "list.data.p").replace("item.id }}", "item.word }}")
    listing.run(flow)
    other = flow.replace("list.data.p", "list.data.q")
    assert listing.states(flow)["say[a]"] == ("fresh", ())
    assert listing.states(other)["say[a]"] == ("stale", ("for_each changed",))
