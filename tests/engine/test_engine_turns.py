"""A step that is repeated until its answer will do: its turns, its end, what is stored of it."""

import base64

import pytest
from stored_answers import alter_answers

from poeflow.events import Expected, RequestSent, Warned
from poeflow.store.cache import prune_cache
from poeflow.store.contents import Pruning
from poeflow.store.history import History

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
COUNT = (
    HEAD
    + """\
  count:
    prompt: "{% if previous %}after {{ previous.text }}{% else %}begin{% endif %}"
    repeat: {until: output.text == 'three', max: 5}
    output: {save: out.md}
  next: {render: "{{ steps.count.text }}!"}
"""
)
RULES = """\
- {match: {text: begin}, answer: {text: one}}
- {match: {text: after one}, answer: {text: two}}
- {match: {text: after two}, answer: {text: three}}
- {match: {text: after three}, answer: {text: four}}
"""


@pytest.fixture
def counting(bench, scripted):
    """A bot that counts on from what it is shown."""
    scripted(RULES)
    return bench


def expected(bench) -> list[tuple[str, str, str]]:
    return [(e.kind, e.level, e.message) for e in bench.events if isinstance(e, Expected)]


def purposes(bench) -> list[str]:
    return [event.purpose for event in bench.events if isinstance(event, RequestSent)]


def test_a_step_is_asked_until_its_answer_will_do(counting):
    outcome = counting.run(COUNT)
    assert counting.prompts() == ["begin", "after one", "after two"]
    assert outcome.outputs == {"next": "three!"}
    assert purposes(counting) == ["answer", "repeat", "repeat"]
    assert (counting.folder / "out.md").read_text() == "three\n"


def test_turns_are_requests_of_the_history(counting):
    counting.run(COUNT)
    with History(counting.folder / ".poeflow" / "poeflow.db", warn=pytest.fail) as history:
        rows = history.requests(1, "count")
        (record,) = [one for one in history.instances(1) if one.id == "count"]
    assert [row.record.purpose for row in rows] == ["answer", "repeat", "repeat"]
    assert len({row.record.fingerprint for row in rows}) == 3
    assert (record.text, record.fingerprint) == ("three", rows[0].record.fingerprint)


def test_a_run_goes_on_with_the_next_turn(counting):
    outcome = counting.run(COUNT.replace("steps:", "limits: {max_requests: 2}\nsteps:"))
    assert outcome.exit_code == 9
    assert counting.prompts() == ["begin", "after one"]
    counting.run(COUNT)
    assert counting.prompts() == ["begin", "after one", "after two"]


def test_what_is_done_is_current_without_a_call(counting):
    counting.run(COUNT)
    assert counting.states(COUNT) == {"count": ("fresh", ()), "next": ("fresh", ())}
    outcome = counting.run(COUNT)
    assert outcome.outputs == {"next": "three!"}
    assert (len(counting.prompts()), counting.locked()) == (3, [])


def test_a_clone_without_answers_asks_nothing(counting):
    counting.run(COUNT)
    counting.forget_answers()
    assert counting.locked() == []
    assert counting.run(COUNT).outputs == {"next": "three!"}
    (counting.folder / "out.md").unlink()
    assert counting.states(COUNT)["count"] == (
        "missing",
        ("out.md is missing", "its answer is not here"),
    )
    assert len(counting.prompts()) == 3


def test_another_end_is_looked_for_in_the_turns_there_are(counting):
    counting.run(COUNT)
    earlier, later = (COUNT.replace("three", word) for word in ("two", "four"))
    assert counting.states(earlier)["count"] == (
        "stale",
        ("repeat changed", "its answer is in the cache"),
    )
    assert counting.run(earlier).outputs == {"next": "two!"}
    assert len(counting.prompts()) == 3
    assert counting.run(later).outputs == {"next": "four!"}
    assert counting.prompts()[3:] == ["after three"]
    assert counting.run(COUNT).outputs == {"next": "three!"}
    assert len(counting.prompts()) == 4


def test_a_first_turn_that_was_repaired_is_found_again(bench, scripted):
    zero = "- {match: {text: begin}, answer: {text: zero}}\n"
    repaired = "- {match: {text: cannot be used}, answer: {text: one}}\n"
    scripted(repaired + RULES.replace(RULES.splitlines(keepends=True)[0], zero))
    flow = COUNT.replace("save: out.md", "repair: 1").replace(
        "    output:", "    expect: [{not_contains: zero}]\n    output:"
    )
    assert bench.run(flow).outputs == {"next": "three!"}
    assert purposes(bench) == ["answer", "repair", "repeat", "repeat"]
    assert bench.run(flow.replace("three", "two")).outputs == {"next": "two!"}
    assert bench.run(flow.replace("three", "one")).outputs == {"next": "one!"}
    assert len(bench.prompts()) == 4


def test_the_last_turn_fails_the_step(counting):
    flow = COUNT.replace("max: 5", "max: 2")
    outcome = counting.run(flow)
    message = (
        "expected that output.text == 'three' within 2 turns, found that output.text is \"two\""
    )
    assert str(outcome.failures["count"]).startswith(message)
    assert outcome.failures["count"].result.text == "two"
    assert expected(counting) == [("repeat", "error", message)]
    assert not (counting.folder / "out.md").exists()
    assert counting.run(flow).exit_code == 1
    assert len(counting.prompts()) == 2


def test_an_answer_that_is_no_number_will_not_do(counting):
    flow = COUNT.replace("output.text == 'three'", "output.text | int > 3")
    flow = flow.replace("max: 5", "max: 2")
    message = "expected that output.text | int > 3 within 2 turns, found that it is not so"
    assert str(counting.run(flow).failures["count"]).startswith(message)
    assert len(counting.prompts()) == 2


def test_or_it_is_taken_with_a_warning(counting):
    outcome = counting.run(COUNT.replace("max: 5", "max: 2, else: keep"))
    message = (
        "expected that output.text == 'three' within 2 turns, found that output.text is \"two\""
    )
    assert (outcome.exit_code, outcome.outputs) == (0, {"next": "two!"})
    assert expected(counting) == [("repeat", "warn", message)]
    assert '"repeat"' in (counting.folder / "a.lock.json").read_text()


def test_the_same_request_is_sent_again_each_turn(bench, scripted):
    scripted("- {match: {text: roll}, answer: {text: '1'}}\n")
    flow = HEAD + "  dice: {prompt: roll, repeat: {until: repeat.number == 3, max: 9}}\n"
    for _ in range(2):
        assert bench.run(flow).outputs == {"dice": "1"}
        assert bench.prompts() == ["roll"] * 3


def test_a_step_without_until_is_repeated_while_it_is_not_as_expected(bench, scripted):
    scripted(
        """\
        - {match: {text: begin}, answer: {text: bad}}
        - {match: {text: expected to contain}, answer: {text: good}}
        """
    )
    flow = (
        HEAD
        + """\
  say:
    prompt: "{{ previous.verdicts[0].message if previous else 'begin' }}"
    expect: [{contains: good}]
    repeat: {max: 3}
"""
    )
    assert bench.run(flow).outputs == {"say": "good"}
    assert expected(bench) == [], "what a turn before lacked is not reported"
    assert bench.prompts() == ["begin", 'expected to contain "good", found "bad"']


def test_what_is_not_as_expected_is_kept_with_a_warning(bench, scripted):
    scripted("- {match: {text: begin}, answer: {text: bad}}\n")
    flow = (
        HEAD + "  say: {prompt: begin, expect: [{contains: good}], repeat: {max: 2, else: keep}}\n"
    )
    outcome = bench.run(flow)
    assert (outcome.exit_code, outcome.outputs) == (0, {"say": "bad"})
    assert expected(bench) == [("contains", "warn", 'expected to contain "good", found "bad"')]
    assert bench.prompts() == ["begin", "begin"]


JUDGED = (
    HEAD
    + """\
  say:
    prompt: "{{ 'again' if previous else 'begin' }} {{ repeat.number }}"
    expect: [{judge: {rubric: good, model: Grok-4}}]
    repeat: {max: 3}
"""
)
JUDGE = """\
- {match: {model: Grok-4, text: poor}, answer: {json: {reason: too short, score: 0.1}}}
- {match: {model: Grok-4, text: fine}, answer: {json: {reason: "yes", score: 0.9}}}
- {match: {text: begin}, answer: {text: poor}}
- {match: {text: again}, answer: {text: fine}}
"""


def test_a_judge_is_asked_in_each_turn(bench, scripted):
    scripted(JUDGE)
    assert bench.run(JUDGED).outputs == {"say": "fine"}
    assert purposes(bench) == ["answer", "judge", "repeat", "judge"]
    bench.run(JUDGED)
    assert len(bench.prompts()) == 4


def test_only_the_first_and_the_last_turn_need_to_stay_stored(bench, scripted):
    scripted(JUDGE)
    bench.run(JUDGED)
    wanted = Pruning(locks=(bench.folder / "a.lock.json",))
    folder = bench.folder / ".poeflow"
    assert History(folder / "poeflow.db", warn=pytest.fail).prune(keep=0) == 1
    count, _ = prune_cache(folder / "poeflow.db", folder / "cache/media", wanted, pytest.fail)
    assert count == 2, "what the judge said"
    assert bench.run(JUDGED).outputs == {"say": "fine"}
    assert len(bench.prompts()) == 4


def test_turns_that_are_not_stored_any_more_are_not_asked_again(bench, scripted):
    scripted(JUDGE)
    bench.run(JUDGED)
    bench.forget_answers()
    bench.run(JUDGED)
    assert len(bench.prompts()) == 4
    assert bench.locked() == []


def test_a_refresh_asks_every_turn_again(counting):
    counting.run(COUNT)
    assert counting.run(COUNT, refresh=True).outputs == {"next": "three!"}
    assert counting.prompts() == ["begin", "after one", "after two"] * 2


@pytest.mark.parametrize("keeps_file", [True, False])
def test_altered_turns_are_neither_used_nor_sent(counting, keeps_file):
    counting.run(COUNT)
    if not keeps_file:
        (counting.folder / "out.md").unlink()
    assert alter_answers(counting.folder, "of a stranger", simulated=False) == 3
    assert counting.run(COUNT).outputs == {"next": "three!"}
    assert not any("stranger" in prompt for prompt in counting.prompts())
    assert (counting.folder / "out.md").read_text() == "three\n"
    sent = len(counting.prompts())
    assert counting.run(COUNT).outputs == {"next": "three!"}
    assert len(counting.prompts()) == sent


def test_a_repair_is_told_what_a_judge_found(bench, scripted):
    scripted(
        """\
        - {match: {model: GPT-5.2, text: too short}, answer: {text: fine}}
        - {match: {model: GPT-5.2}, answer: {text: poor}}
        - {match: {model: Grok-4, text: poor}, answer: {json: {reason: too short, score: 0.1}}}
        - {match: {model: Grok-4, text: fine}, answer: {json: {reason: yes, score: 0.9}}}
        """
    )
    flow = HEAD + (
        "  say: {prompt: begin, output: {repair: 1},"
        " expect: [{judge: {rubric: good, model: Grok-4}}]}\n"
    )
    assert bench.run(flow).outputs == {"say": "fine"}
    assert purposes(bench) == ["answer", "judge", "repair", "judge"]
    bench.run(flow)
    assert len(bench.prompts()) == 4
    assert "expected a score of at least 0.5, found 0.1: too short" in bench.prompts()[2]


def test_repairs_end_for_judges_too(bench, scripted):
    scripted(
        """\
        - {match: {model: GPT-5.2}, answer: {text: poor}}
        - {match: {model: Grok-4}, answer: {json: {reason: too short, score: 0.1}}}
        """
    )
    flow = HEAD + (
        "  say: {prompt: begin, output: {repair: 2},"
        " expect: [{judge: {rubric: good, model: Grok-4}}]}\n"
    )
    for _ in range(2):
        assert "too short" in str(bench.run(flow).failures["say"])
        assert len(bench.prompts()) == 4, "the same answer is judged once"


def test_a_plan_counts_every_turn(bench):
    flow = HEAD + (
        "  say: {prompt: begin, output: {repair: 1}, repeat: {max: 4, until: output.text},"
        " expect: [{judge: {rubric: good}}]}\n"
    )
    (status,) = bench.statuses(flow)
    kinds = [(kind.purpose, kind.least, kind.most) for kind in status.kinds]
    assert kinds == [("answer", 1, 1), ("repeat", 0, 3), ("repair", 0, 4), ("judge", 1, 16)]
    assert (status.calls, status.most_calls) == (2, 24)


def test_turns_of_a_loop_and_of_a_conversation(counting):
    flow = (
        HEAD
        + """\
  hello: {prompt: hello}
  count:
    for_each: [a, b]
    history: hello
    prompt: "{{ key }}: {% if previous %}after {{ previous.text }}{% else %}begin{% endif %}"
    repeat: {until: output.text == 'two' and repeat.number == 2, max: 5}
  bye: {for_each: steps.count, history: count, prompt: bye}
"""
    )
    counting.run(flow)
    (last, _) = [r.json["messages"] for r in counting.simulator.requests if "bye" in str(r.json)]
    assert [message["role"] for message in last] == ["user", "assistant"] * 2 + ["user"]
    assert last[2]["content"][3:] == "after one"
    assert last[3]["content"] == "two"
    sent = len(counting.prompts())
    assert sent == 1 + 2 * 2 + 2
    counting.run(flow)
    assert len(counting.prompts()) == sent


WEIGHED = (
    HEAD
    + """\
  say:
    prompt: "{{ 'score ' ~ previous.score ~ ' of ' ~ previous.text if previous else 'begin' }}"
    expect:
      - {contains: sea, level: score, weight: 3}
      - {judge: {rubric: good, model: Grok-4}, level: score}
    repeat: {until: "score >= 0.9 and verdicts[1].score > 0.5", max: 4}
  next: {render: "{{ steps.say.text }} {{ steps.say.score }}"}
"""
)
WEIGHING = """\
- {match: {model: Grok-4, text: the sea}, answer: {json: {reason: "yes", score: 0.8}}}
- {match: {model: Grok-4}, answer: {json: {reason: dull, score: 0.4}}}
- {match: {text: begin}, answer: {text: hills}}
- {match: {text: score 0.1 of hills}, answer: {text: a sea}}
- {match: {text: score 0.85 of a sea}, answer: {text: the sea}}
"""


def test_weights_and_judges_say_when_an_answer_will_do(bench, scripted):
    scripted(WEIGHING)
    assert bench.run(WEIGHED).outputs == {"next": "the sea 0.95"}
    assert purposes(bench) == ["answer", "judge", "repeat", "judge", "repeat", "judge"]
    assert bench.locked() == []
    again = bench.run(WEIGHED.replace("}} {{ steps", "}}: {{ steps"))
    assert again.outputs == {"next": "the sea: 0.95"}
    assert len(bench.prompts()) == 6


DEFAULT = (
    HEAD
    + """\
  say:
    prompt: "{{ 'again' if previous else 'begin' }} {{ repeat.number }}"
    output: {format: json, default: {n: 0}, save: n.json}
    expect: [{that: output.data.n > 1}]
    repeat: {max: 2}
  next: {render: "{{ steps.say.data.n }}"}
"""
)


def test_a_default_stands_only_in_place_of_the_last_turn(bench, scripted):
    scripted("- {match: {text: begin}, answer: {text: none}}\n- {answer: {json: {n: 7}}}\n")
    assert bench.run(DEFAULT).outputs == {"next": "7"}
    assert not [event for event in bench.events if isinstance(event, Warned)]
    scripted("- {answer: {text: none}}")
    assert bench.run(DEFAULT, refresh=True).outputs == {"next": "0"}
    [warned] = [event for event in bench.events if isinstance(event, Warned)]
    assert warned.message.endswith("; output.default stands in its place")
    sent = len(bench.prompts())
    (bench.folder / "n.json").unlink()
    assert bench.run(DEFAULT.replace('}}"}', '}}!"}')).outputs == {"next": "0!"}
    assert (len(bench.prompts()), bench.locked()) == (sent, [])


def test_until_sees_the_default_of_an_answer_that_cannot_be_read(bench, scripted):
    scripted("- {answer: {text: none}}")
    flow = DEFAULT.replace("{max: 2}", "{max: 3, until: output.data.n == 0}")
    assert bench.run(flow).outputs == {"next": "0"}
    assert len(bench.prompts()) == 1


DRAWN = """\
poeflow: 1
steps:
  draw:
    model: GPT-Image-1
    prompt: "{{ 'again' if previous else 'an otter' }}"
    attachments: [{from: "previous.media if previous else []"}]
    output: {media: out}
    repeat: {until: repeat.number == 3, max: 3}
"""


def test_a_turn_sees_the_pictures_of_the_one_before(bench):
    outcome = bench.run(DRAWN)
    (last,) = outcome.results["draw"].media
    asked = [one.json["messages"][-1]["content"] for one in bench.simulator.requests if one.json]
    assert [one if isinstance(one, str) else one[0]["text"] for one in asked] == [
        *("an otter", "again", "again"),
    ]
    pictures = {path.read_bytes() for path in (bench.folder / "out").iterdir()}
    sent = [one[1]["image_url"]["url"].partition(",")[2] for one in asked[1:]]
    assert {base64.b64decode(one) for one in sent} < pictures
    assert (bench.folder / last[2:]).read_bytes() in pictures
    assert len(pictures) == 3
    assert bench.states(DRAWN) == {"draw": ("fresh", ())}
    for path in (bench.folder / "out").iterdir():
        path.unlink()
    bench.run(DRAWN)
    assert {path.read_bytes() for path in (bench.folder / "out").iterdir()} == pictures
    bench.forget_answers()
    assert (bench.locked(), len(asked)) == ([], 3)


def test_a_turn_without_a_picture_has_none_for_the_next(bench, scripted):
    scripted("- {match: {text: otter}, answer: {text: later}}\n- {answer: {text: none}}\n")
    outcome = bench.run(DRAWN)
    told = [event.message for event in bench.events if isinstance(event, Warned)]
    assert told == ['the answer has no media: "later"', 'the answer has no media: "none"']
    assert str(outcome.failures["draw"]).startswith('the answer has no media: "none"')
