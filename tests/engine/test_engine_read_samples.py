"""Steps that read all samples of another: a change of any of them reaches those."""

import pytest

from poeflow.digest import sha256_of_json, short_hash
from poeflow.store.lockfile import LockFile

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft: {prompt: "draft {{ sample }}", samples: 2}
  pick:
    prompt: "{{ steps.draft.all | length }}: {{ steps.draft.all | map(attribute='text') | join }}"
  text: {prompt: "only {{ steps.draft.text }}"}
"""
ECHO = """- {match: {}, answer: {template: "[{{ prompt }}]"}}\n"""


@pytest.fixture
def echoed(bench, scripted):
    scripted(ECHO)
    return bench


def test_more_samples_are_read(echoed):
    echoed.run(FLOW)
    assert set(echoed.states(FLOW).values()) == {("fresh", ())}
    more = FLOW.replace("samples: 2", "samples: 3")
    assert echoed.run(more).exit_code == 0
    assert echoed.prompts()[4:] == ["draft 3", "3: [draft 1][draft 2][draft 3]"]
    assert set(echoed.states(more).values()) == {("fresh", ())}
    echoed.forget_answers()
    assert echoed.locked() == []


def test_a_loop_over_instances_with_samples_reads_them_by_its_source(echoed):
    flow = (
        FLOW.replace("draft: {", "draft: {for_each: [x], ")
        .replace(
            'prompt: "{{ steps.draft.all | length }}: {{ steps.draft.all',
            'for_each: steps.draft\n    prompt: "{{ source.all',
        )
        .replace("steps.draft.text", "steps.draft['x'].text")
    )
    echoed.run(flow)
    more = flow.replace("samples: 2", "samples: 3")
    assert echoed.run(more).exit_code == 0
    assert echoed.prompts()[4:] == ["draft 3", "[draft 1][draft 2][draft 3]"]


def test_another_sample_with_the_first_unchanged_is_seen(echoed):
    echoed.run(FLOW)
    other = FLOW.replace("draft {{ sample }}", "draft {{ sample if sample == 1 else 'no' }}")
    assert echoed.run(other).exit_code == 0
    assert echoed.prompts()[4:] == ["draft no", "2: [draft 1][draft no]"]


def test_what_the_next_item_takes_of_all_samples_is_seen(bench, scripted):
    scripted("""\
        - {match: {text: draft 1}, answer: {text: one}}
        - {match: {}, answer: {template: "two ({{ nth }})"}}
    """)
    carry = "previous.all | map(attribute='text') | join"
    loop = f'draft: {{for_each: {{in: [x, y], carry: "{carry}"}}, '
    prompt = "draft {{ sample }} {{ item }} {{ carry or '' }}"
    begin = FLOW.partition("  pick:")[0]
    flow = begin.replace("draft: {", loop).replace("draft {{ sample }}", prompt)
    bench.run(flow)
    assert set(bench.states(flow).values()) == {("fresh", ())}
    assert bench.run(flow, refresh=True, only=True, steps=("draft[x]",)).exit_code == 0
    bench.forget_answers()
    assert bench.states(flow)["draft[y]"][0] != "fresh"


def test_a_lock_that_knows_only_the_first_sample_stays_as_it_is(echoed):
    result = echoed.run(FLOW).results["draft"]
    older = short_hash(sha256_of_json([result.reasoning, result.usage]))
    path = echoed.folder / "a.lock.json"
    path.write_text(path.read_text().replace(extras(echoed), older))
    for _ in range(2):
        assert echoed.run(FLOW).exit_code == 0
        assert extras(echoed) == older
    assert len(echoed.prompts()) == 4
    echoed.forget_answers()
    assert echoed.locked() == []
    assert echoed.run(FLOW, refresh=True, steps=("draft",)).exit_code == 0
    assert extras(echoed) != older


def extras(bench) -> str:
    lock = LockFile(bench.folder / "a.lock.json", shown="a.lock.json").read()
    return lock.instances["draft"].extras


def test_how_one_sample_was_judged_is_read(echoed):
    flow = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft:
    prompt: "draft {{ sample }}"
    samples: {count: 2, pass_rate: 0.5}
    expect: [{contains: "1"}]
  pick: {prompt: "{{ steps.draft.all[0].score }} {{ steps.draft.all[1].passed | tojson }}"}
"""
    assert echoed.run(flow).exit_code == 0
    assert echoed.prompts()[2:] == ["1.0 false"]
    assert set(echoed.states(flow).values()) == {("fresh", ())}
