"""`--failed` asks again what failed, and pays for nothing that was answered well."""

import pytest

from poeflow.events import StepStarted

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  s: {prompt: "S {{ sample }}", samples: 5, output: {one_of: [pos, neg]}}
  r: {prompt: "R {{ repeat.number }}", repeat: {max: 3, until: "'DONE' in output.text"}}
  j: {prompt: J, expect: [{judge: {rubric: good, model: Claude-Sonnet-4.5}}]}
  u: {use: sub.yaml}
"""
USED = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a: {prompt: UA}
  b: {prompt: UB}
"""
RULES = """\
- {match: {text: S 3}, answer: {text: hmm}}
- {match: {text: "S "}, answer: {text: pos}}
- {match: {text: R 3}, fault: "400"}
- {match: {text: UB}, fault: "400"}
- {match: {model: Claude-Sonnet-4.5}, answer: {text: fine}}
- {answer: {template: "<{{ prompt }}>"}}
"""


def asked(bench, flow, **options):
    """Run a flow with what failed; return what is sent: the models, or the prompts."""
    before = len(bench.simulator.requests)
    outcome = bench.run(flow, keep_going=True, **options)
    sent = bench.simulator.requests[before:]
    models = [one.json["model"] for one in sent]
    prompts = [one.partition("\n\nAnswer ")[0] for one in bench.prompts()[before:]]
    shown = [p if m == "GPT-5.2" else m for m, p in zip(models, prompts, strict=True)]
    return sorted(shown), outcome


def test_what_failed_in_part_is_asked_in_part(bench, scripted):
    scripted(RULES)
    bench.write("sub.yaml", USED)
    assert len(asked(bench, FLOW)[0]) == 13
    assert asked(bench, FLOW)[0] == ["R 3", "UB"]
    assert bench.events[-1].unusable == 2, "the same run takes the answers of s and j again"
    wanted = ["Claude-Sonnet-4.5", "Claude-Sonnet-4.5", "R 3", "S 3", "UB"]
    for _ in range(2):
        assert asked(bench, FLOW, failed=True)[0] == wanted
    calls = {one.id: (one.state, one.calls) for one in bench.statuses(FLOW, failed=True)}
    assert calls["s"] == ("new", 1)
    assert calls["j"][0] == "new"


GOOD_LATER = """\
- {match: {model: Claude-Sonnet-4.5, text: bad}, answer: {text: '{"score": 0, "reason": "no"}'}}
- {match: {model: Claude-Sonnet-4.5}, answer: {text: '{"score": 1, "reason": "yes"}'}}
- {match: {text: J, nth: 1}, answer: {text: bad}}
- {answer: {text: good}}
"""


def test_an_answer_that_was_judged_badly_is_asked_again(bench, scripted):
    scripted(GOOD_LATER)
    flow = FLOW[: FLOW.index("  s:")] + "".join(x for x in FLOW.splitlines(True) if "  j:" in x)
    assert asked(bench, flow)[1].exit_code == 1
    sent, outcome = asked(bench, flow, failed=True)
    assert (sent, outcome.exit_code) == (["Claude-Sonnet-4.5", "J"], 0)


def test_a_text_without_an_answer_is_judged_again(bench, scripted):
    scripted(GOOD_LATER)
    judged = "expect: [{judge: {rubric: good, model: Claude-Sonnet-4.5}}]"
    flow = f"poeflow: 1\nsteps:\n  a: {{render: bad, {judged}}}\n"
    asked(bench, flow)
    assert asked(bench, flow)[0] == []
    assert asked(bench, flow, failed=True)[0] == ["Claude-Sonnet-4.5"]


def test_all_that_was_repaired_in_vain_is_asked_again(bench, scripted):
    scripted("- {match: {text: none of}, answer: {text: worse}}\n- {answer: {text: bad}}\n")
    flow = (
        f"{FLOW[: FLOW.index('  s:')]}  a: {{prompt: A, output: {{one_of: [x, y], repair: 1}}}}\n"
    )
    assert len(asked(bench, flow)[0]) == 2
    assert asked(bench, flow)[0] == []
    assert len(asked(bench, flow, failed=True)[0]) == 2


def test_a_repair_that_was_not_sent_is_all_that_is_asked(bench, scripted):
    scripted('- {match: {text: none of}, fault: "400"}\n- {answer: {text: bad}}\n')
    flow = (
        f"{FLOW[: FLOW.index('  s:')]}  a: {{prompt: A, output: {{one_of: [x, y], repair: 1}}}}\n"
    )
    assert len(asked(bench, flow)[0]) == 2
    (sent,), _ = asked(bench, flow, failed=True)
    assert "none of" in sent


@pytest.mark.parametrize("end", ["until: \"'DONE' in output.text\"", "max: 2"])
def test_turns_of_which_none_will_do_are_asked_again(bench, scripted, end):
    scripted("- {answer: {text: bad}}\n")
    repeat = "repeat: {max: 2, until: \"'DONE' in output.text\"}"
    if end == "max: 2":
        repeat = "repeat: {max: 2}, expect: [{contains: DONE}]"
    flow = f'{FLOW[: FLOW.index("  s:")]}  r: {{prompt: "R {{{{ repeat.number }}}}", {repeat}}}\n'
    assert asked(bench, flow)[0] == ["R 1", "R 2"]
    assert asked(bench, flow)[0] == []
    assert asked(bench, flow, failed=True)[0] == ["R 1", "R 2"]


def test_a_used_flow_that_is_repeated_in_vain_is_asked_again(bench, scripted):
    scripted("- {answer: {text: bad}}\n")
    bench.write(
        "sub.yaml", f"{USED}inputs: {{x: {{type: string}}}}\n".replace("UB", "'{{ inputs.x }}'")
    )
    repeat = "repeat: {max: 2, until: \"outputs.b == 'good'\"}"
    given = "with: {x: \"{{ previous.outputs.b if previous else 'UB' }}\"}"
    flow = f"poeflow: 1\nsteps:\n  u: {{use: sub.yaml, {given}, {repeat}}}\n"
    assert asked(bench, flow)[0] == ["UA", "UB", "bad"]
    assert asked(bench, flow)[0] == []
    assert asked(bench, flow, failed=True)[0] == ["UA", "UB", "bad"]


def test_an_answer_whose_file_is_broken_is_asked_again(bench, scripted):
    scripted('- {answer: {text: "![a](data:image/png;base64,iVBORw0K!)"}}\n')
    flow = f"{FLOW[: FLOW.index('  s:')]}  a: {{prompt: draw, output: {{media: out}}}}\n"
    for options, sent in (({}, ["draw"]), ({}, []), ({"failed": True}, ["draw"])):
        found, outcome = asked(bench, flow, **options)
        assert (found, outcome.exit_code) == (sent, 1)


def test_equal_requests_that_failed_are_sent_once(bench, scripted):
    scripted('- {match: {nth: 1}, fault: "400"}\n- {answer: {text: bad}}\n')
    rows = "for_each: [1, 2, 3], prompt: same, output: {one_of: [x, y]}"
    flow = f"{FLOW[: FLOW.index('  s:')]}  a: {{{rows}}}\n"
    assert asked(bench, flow)[0] == ["same"]
    for _ in range(2):
        assert asked(bench, flow, failed=True)[0] == ["same"]


def test_a_changed_expectation_is_judged_before_anything_is_asked(bench, scripted):
    scripted("- {answer: {text: bad}}\n")
    flow = f"{FLOW[: FLOW.index('  s:')]}  a: {{prompt: A, expect: [{{contains: good}}]}}\n"
    assert asked(bench, flow)[1].exit_code == 1
    sent, outcome = asked(bench, flow.replace("good", "bad"), failed=True)
    assert (sent, outcome.exit_code) == ([], 0)


def test_an_answer_of_the_lock_that_is_not_expected_now_is_asked_again(bench, scripted):
    scripted("- {match: {nth: 1}, answer: {text: bad}}\n- {answer: {text: good}}\n")
    flow = f"{FLOW[: FLOW.index('  s:')]}  a: {{prompt: A, output: {{save: a.md}}}}\n"
    expecting = flow.replace("prompt: A,", "prompt: A, expect: [{contains: good}],")
    assert asked(bench, flow)[1].exit_code == 0
    assert asked(bench, expecting)[0] == []
    (bench.folder / ".poeflow/poeflow.db").rename(bench.folder / "kept.db")
    assert asked(bench, expecting)[0] == [], "the file has the text of the answer"
    sent, outcome = asked(bench, expecting, failed=True)
    assert (sent, outcome.exit_code) == (["A"], 0)


def test_a_second_attempt_is_part_of_the_first(bench, scripted):
    scripted("- {match: {nth: 1}, answer: {text: bad}}\n- {answer: {text: good}}\n")
    flow = f"{FLOW[: FLOW.index('  s:')]}  a: {{prompt: A, output: {{save: a.md}}}}\n"
    expecting = flow.replace("prompt: A,", "prompt: A, expect: [{contains: good}],")
    assert asked(bench, flow)[1].exit_code == 0
    assert asked(bench, expecting)[1].exit_code == 1
    sent, outcome = asked(bench, expecting, failed=True)
    assert (sent, outcome.exit_code) == (["A"], 0)
    assert [event.step for event in bench.events if isinstance(event, StepStarted)] == ["a"]


def test_a_default_of_a_single_answer_is_not_asked_again(bench, scripted):
    scripted("- {answer: {text: bad}}\n")
    flow = f"{FLOW[: FLOW.index('  s:')]}  a: {{prompt: A, output: {{one_of: [x, y]}}}}\n"
    assert asked(bench, flow)[1].exit_code == 1
    sent, outcome = asked(bench, flow.replace("[x, y]", "[x, y], default: x"), failed=True)
    assert (sent, outcome.outputs) == ([], {"a": "x"})


JUDGED_LATE = """\
- {match: {model: Claude-Sonnet-4.5, nth: 1}, fault: "400"}
- {match: {model: Claude-Sonnet-4.5}, answer: {text: '{"reason": "no", "score": 0}'}}
- {answer: {text: good}}
"""


def test_an_answer_that_is_judged_for_the_first_time_is_not_asked_again_at_once(bench, scripted):
    scripted(JUDGED_LATE)
    flow = FLOW[: FLOW.index("  s:")] + FLOW[FLOW.index("  j:") : FLOW.index("  u:")]
    assert asked(bench, flow)[0] == ["Claude-Sonnet-4.5", "J"]
    sent, outcome = asked(bench, flow, failed=True)
    assert (sent, list(outcome.failures)) == (["Claude-Sonnet-4.5"], ["j"])
