"""Steps whose samples are saved, each to a file of its own."""

import pytest

from poeflow.errors import InvalidFlowError
from poeflow.events import StepFinished, Warned
from poeflow.operations.accept import ONE_OF_SEVERAL

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say:
    for_each: [cat, dog]
    prompt: "{{ item }} {{ sample }}"
    samples: {count: 3, pass_rate: 0.5}
    expect: [{not_contains: bad}]
    output: {save: "out/{{ key }}-{{ sample }}.txt"}
  all: {render: "{{ steps.say.all | map(attribute='all') | map('length') | join(' ') }}"}
"""
RULES = """\
- {match: {text: cat 2}, answer: {text: bad}}
- {match: {text: cat}, answer: {text: a cat}}
- {match: {text: dog}, answer: {text: a dog}}
"""
SAYING = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say: {prompt: "%s", samples: 2, output: {save: "out/{{ sample }}.md"}}
"""
PROVEN = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say: {prompt: %s, samples: 3%s}
"""


@pytest.fixture
def sampling(bench, scripted):
    scripted(RULES)
    return bench


def written(bench) -> dict[str, str]:
    return {one.name: one.read_text() for one in sorted((bench.folder / "out").iterdir())}


def test_each_sample_has_a_file(sampling):
    assert sampling.run(FLOW).outputs == {"all": "3 3"}
    assert written(sampling) == {
        "cat-1.txt": "a cat\n",
        "cat-2.txt": "bad\n",
        "cat-3.txt": "a cat\n",
        **dict.fromkeys(("dog-1.txt", "dog-2.txt", "dog-3.txt"), "a dog\n"),
    }
    assert set(sampling.states(FLOW).values()) == {("fresh", ())}
    sampling.forget_answers()
    assert sampling.locked() == []
    assert len(sampling.prompts()) == 6


def test_nothing_is_saved_if_too_few_pass(sampling):
    outcome = sampling.run(FLOW.replace("0.5", "1.0"))
    assert list(outcome.failures) == ["say[cat]"]
    assert not any(name.startswith("cat") for name in written(sampling))


def test_a_missing_file_is_written_again_and_an_edited_one_is_kept(sampling):
    sampling.run(FLOW)
    out = sampling.folder / "out"
    (out / "cat-2.txt").unlink()
    assert sampling.states(FLOW)["say[cat]"] == ("missing", ("out/cat-2.txt is missing",))
    sampling.run(FLOW)
    (out / "cat-3.txt").write_text("by hand\n")
    assert sampling.states(FLOW)["say[cat]"] == ("edited", ("out/cat-3.txt was edited",))
    assert sampling.run(FLOW).exit_code == 0
    told = [event.message for event in sampling.events if isinstance(event, Warned)]
    assert told == ["//out/cat-3.txt was edited; it is kept (see `poeflow accept`)"]
    assert written(sampling)["cat-3.txt"] == "by hand\n"
    sampling.run(FLOW, force=True)
    assert written(sampling)["cat-3.txt"] == "a cat\n"
    assert len(sampling.prompts()) == 6


def test_a_share_is_compared_as_it_is_written(bench, scripted):
    scripted("- {match: {regex: 'say [1-7]$'}, answer: {text: good}}\n- {answer: {text: bad}}\n")
    asking = 'say: {prompt: "say {{ sample }}", samples: {count: 50, pass_rate: 0.14}'
    flow = SAYING.partition("  say:")[0] + f"  {asking}, expect: [{{equals: good}}]}}\n"
    assert bench.run(flow).exit_code == 0, "7 of 50, but 0.14 * 50 is more than 7"


@pytest.mark.parametrize("named", [(), ("out/cat-3.txt",)])
def test_an_edited_sample_cannot_be_accepted_and_no_other_answer_replaces_it(sampling, named):
    sampling.run(FLOW)
    (sampling.folder / "out/cat-3.txt").write_text("by hand\n")
    found = sampling.accept(FLOW, *named)
    assert (found.paths, found.refused) == ((), {"//out/cat-3.txt": ONE_OF_SEVERAL})
    changed = FLOW.replace('{{ item }} {{ sample }}"', '{{ item }} {{ sample }} again"')
    outcome = sampling.run(changed)
    message = "//out/cat-3.txt was edited since poeflow wrote it; move it away, or replace it with"
    assert str(outcome.failures["say[cat]"]) == f"{message} --force"
    assert written(sampling)["cat-3.txt"] == "by hand\n"
    sampling.run(changed, force=True)
    assert written(sampling)["cat-3.txt"] == "a cat\n"


def test_a_sample_that_becomes_the_text_of_another_is_written(bench, scripted):
    scripted("""\
        - {match: {text: say 1}, answer: {text: one}}
        - {match: {text: say 2}, answer: {text: two}}
        - {match: {text: again 1}, answer: {text: one}}
        - {match: {text: again 2}, answer: {text: one}}
    """)
    bench.run(SAYING % "say {{ sample }}")
    assert written(bench) == {"1.md": "one\n", "2.md": "two\n"}
    bench.run(SAYING % "again {{ sample }}")
    assert written(bench) == {"1.md": "one\n", "2.md": "one\n"}


@pytest.mark.parametrize("reader", ["", "  read: {render: '{{ steps.say.text }}'}\n"])
@pytest.mark.parametrize("save", ["", ', output: {save: "out/{{ sample }}.md"}'])
def test_proven_samples_that_are_not_here_are_not_asked_again(bench, reader, save):
    flow = PROVEN % ("say", save) + reader
    read = flow.replace("steps.say.text", "steps.say.all | length")
    bench.run(flow)
    bench.forget_answers()
    assert {state for state, _ in bench.states(flow).values()} == {"fresh"}
    assert bench.locked() == []
    environ = {"POE_BASE_URL": bench.simulator.base_url}
    assert bench.run(flow, environ=environ).exit_code == 0
    assert len(bench.prompts()) == 3
    bench.run(read)
    assert len(bench.prompts()) == (6 if reader else 3), "a step that runs reads them"


def test_more_samples_are_asked_although_the_first_are_not_here(bench):
    flow = PROVEN % ("say", ', output: {save: "out/{{ sample }}.md"}')
    bench.run(flow)
    bench.forget_answers()
    more = flow.replace("samples: 3", "samples: 4")
    assert bench.states(more)["say"] == ("stale", ("samples changed",))
    bench.run(more)
    assert len(bench.prompts()) == 7
    assert set(written(bench)) == {"1.md", "2.md", "3.md", "4.md"}
    assert bench.locked() == []


def test_a_step_of_which_some_samples_are_asked_has_answered(bench):
    flow = PROVEN % ("say", ', output: {save: "out/{{ sample }}.md"}')
    sources = []
    for count in (3, 5, 5):
        bench.run(flow.replace("samples: 3", f"samples: {count}"), force=True)
        sources += [event.source for event in bench.events if isinstance(event, StepFinished)]
    assert sources == ["asked", "asked", "cached"]
    assert len(bench.prompts()) == 5


def test_fewer_samples_leave_no_file_in_the_lock(sampling):
    sampling.run(FLOW)
    fewer = FLOW.replace("count: 3", "count: 2")
    sampling.run(fewer)
    orphans = {name for name, (state, _) in sampling.states(fewer).items() if state == "orphaned"}
    assert orphans == {"out/cat-3.txt", "out/dog-3.txt"}


def test_two_samples_do_not_share_a_file(sampling):
    flow = FLOW.replace("{{ sample }}.txt", "{{ 'x' if sample else 'y' }}.txt")
    outcome = sampling.run(flow)
    message = "//out/cat-x.txt is written by say[cat]#1 already"
    assert str(outcome.failures["say[cat]"]).startswith(message)
    assert sampling.prompts() == []


def test_where_it_may_not_write_is_known_before(sampling):
    with pytest.raises(InvalidFlowError, match=r"flow"):
        sampling.run(
            FLOW.replace("out/{{ key }}-{{ sample }}.txt", "{{ key }}-{{ sample }}/../a.yaml")
        )


def test_a_plan_counts_the_samples_that_are_not_stored(bench):
    flow = PROVEN % ("say", "")
    bench.run(flow)
    more = flow.replace("samples: 3", "samples: 5")
    (say,) = (status for status in bench.statuses(more) if status.id == "say")
    assert (say.state, say.calls, say.most_calls) == ("stale", 2, 2)
    bench.run(more)
    assert len(bench.prompts()) == 5
