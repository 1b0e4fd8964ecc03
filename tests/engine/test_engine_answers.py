"""What a step does with answers: reads, repairs, judges, samples, and whom it asks instead."""

import pytest

from poeflow.errors import NotFoundError, StepError
from poeflow.events import Expected, FellBack, StepFinished, Warned

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
SCHEMA = "{type: object, required: [n], properties: {n: {type: integer}}}"


def last_messages(bench) -> list[str]:
    return [request.json["messages"][-1]["content"] for request in bench.simulator.requests]


def test_the_prompt_asks_for_the_schema_and_data_is_typed(bench, scripted):
    scripted("- {match: {text: count}, answer: {text: 'Sure! ```json\\n{\"n\": 3,}\\n```'}}\n")
    outcome = bench.run(
        HEAD
        + f"  count: {{prompt: count, output: {{schema: {SCHEMA}}}}}\n"
        + '  next: {render: "{{ steps.count.data.n + 1 }}"}\n'
    )
    assert outcome.outputs == {"next": "4"}
    assert outcome.results["count"].data == {"n": 3}
    assert last_messages(bench)[0].startswith("count\n\n")
    assert '"required":["n"]' in last_messages(bench)[0].replace(" ", "").replace("\n", "")
    assert "response_format" not in bench.simulator.requests[0].json


def test_a_schema_may_stand_in_a_file(bench, scripted):
    scripted('- {match: {text: count}, answer: {text: \'{"n": "many"}\'}}\n')
    bench.write("n.yaml", SCHEMA)
    outcome = bench.run(HEAD + "  count: {prompt: count, output: {schema: {file: n.yaml}}}\n")
    assert "n: " in str(outcome.failures["count"])


def test_a_repair_tells_what_was_wrong_and_counts(bench, scripted):
    scripted(
        """\
        - {match: {text: count, nth: 1}, answer: {text: none}}
        - {match: {text: none}, answer: {text: '{"n": 2}'}}
        - {answer: {text: '{"n": 2}'}}
        """
    )
    flow = HEAD + f"  count: {{prompt: count, output: {{schema: {SCHEMA}, repair: 2}}}}\n"
    outcome = bench.run(flow)
    assert outcome.results["count"].data == {"n": 2}
    turns = [m["role"] for m in bench.simulator.requests[1].json["messages"]]
    assert turns == ["user", "assistant", "user"]
    assert bench.simulator.requests[1].json["messages"][1]["content"] == "none"
    bench.run(flow)
    assert len(bench.simulator.requests) == 2, "both turns are in the cache"


def test_repairs_end(bench, scripted):
    scripted("- {answer: {text: none}}\n")
    outcome = bench.run(
        HEAD + f"  count: {{prompt: count, output: {{schema: {SCHEMA}, repair: 2}}}}\n"
    )
    assert len(bench.simulator.requests) == 3
    assert isinstance(outcome.failures["count"], StepError)
    assert str(outcome.failures["count"]).endswith(
        "asked again 2 times; ask anew with --failed, or make the prompt clearer"
    )


def test_one_of_gives_the_value_as_declared(bench, scripted):
    scripted("- {match: {text: sort}, answer: {text: ' **BUG**. '}}\n")
    outcome = bench.run(
        HEAD
        + "  sort: {prompt: sort it, output: {one_of: [bug, feature]}}\n"
        + "  tell: {if: steps.sort.value == 'bug', render: '{{ steps.sort.value }}'}\n"
    )
    assert outcome.outputs == {"tell": "bug"}


def test_a_chosen_word_is_printed_as_it_is_declared(bench, scripted):
    scripted("- {answer: {text: '\"Bug\".'}}\n")
    sort = "prompt: '{{ item }}', output: {one_of: [bug, feature]}"
    outcome = bench.run(HEAD + f"  sort: {{for_each: [a, b], {sort}}}\n")
    assert outcome.outputs == {"sort": {"a": "bug", "b": "bug"}}


THINKING = "- {answer: {text: '<think>bug? no</think>\\n\\nfeature'}}\n".replace("'", '"')
SORT = HEAD + "  sort: {prompt: sort it, output: {save: out.md%s}}\n"


def test_reasoning_in_the_text_is_kept_apart_or_left_without_a_call(bench, scripted, tmp_path):
    scripted(THINKING)
    outcome = bench.run(SORT % "")
    assert (outcome.results["sort"].text, outcome.results["sort"].reasoning) == (
        "feature",
        "bug? no",
    )
    assert (tmp_path / "out.md").read_text() == "feature\n"
    outcome = bench.run(SORT % ", reasoning: keep")
    whole = "<think>bug? no</think>\n\nfeature"
    assert (outcome.results["sort"].text, outcome.results["sort"].reasoning) == (whole, "")
    assert (tmp_path / "out.md").read_text() == whole + "\n"
    outcome = bench.run(SORT % ", one_of: [bug, feature]")
    assert (outcome.results["sort"].value, outcome.results["sort"].reasoning) == (
        "feature",
        "bug? no",
    )
    assert len(bench.simulator.requests) == 2, "one_of asks otherwise, reasoning: does not"


def test_reasoning_of_the_server_s_own_field_comes_first(bench, scripted):
    scripted('- {answer: {text: "<think>a</think>b", reasoning: c}}\n')
    outcome = bench.run(HEAD + "  a: {model: o3, prompt: a}\n")
    assert (outcome.results["a"].text, outcome.results["a"].reasoning) == ("b", "c")


def test_what_a_template_says_is_no_reasoning(bench):
    outcome = bench.run(HEAD + '  a: {render: "<think>a</think> b"}\n')
    assert outcome.outputs == {"a": "<think>a</think> b"}


EXPECTING = """\
  say:
    prompt: say
    expect:
      - contains: hello
      - {min_length: 100, level: warn}
      - that: output.text | length < 5
"""


def test_what_is_not_as_expected_fails_with_what_was_found(bench, scripted):
    scripted("- {match: {text: say}, answer: {text: good day}}\n")
    outcome = bench.run(HEAD + EXPECTING)
    told = [(e.kind, e.level) for e in bench.events if isinstance(e, Expected)]
    assert told == [("contains", "error"), ("min_length", "warn"), ("that", "error")]
    assert "hello" in str(outcome.failures["say"])
    assert "output.text | length < 5" in str(outcome.failures["say"])
    bench.run(HEAD + EXPECTING)
    assert len(bench.simulator.requests) == 1, "it is judged again without a call"


def test_a_warning_fails_nothing(bench, scripted):
    scripted("- {match: {text: say}, answer: {text: hell}}\n")
    outcome = bench.run(HEAD + "  say: {prompt: say, expect: [{contains: hello, level: warn}]}\n")
    assert outcome.exit_code == 0
    assert [v.passed for v in outcome.results["say"].verdicts] == [False]


def test_a_repair_asks_again_where_an_expectation_fails(bench, scripted):
    scripted(
        """\
        - {match: {text: say, nth: 1}, answer: {text: good day}}
        - {answer: {text: hello}}
        """
    )
    outcome = bench.run(
        HEAD + "  say: {prompt: say, output: {repair: 1}, expect: [{contains: hello}]}\n"
    )
    assert outcome.results["say"].text == "hello"
    assert "hello" in last_messages(bench)[1]


def test_a_failing_answer_replaces_no_file(bench, scripted, tmp_path):
    bench.write("out.md", "the last good one\n")
    scripted("- {match: {text: say}, answer: {text: good day}}\n")
    bench.run(HEAD + "  say: {prompt: say, output: {save: out.md}, expect: [{contains: hello}]}\n")
    assert (tmp_path / "out.md").read_text() == "the last good one\n"


JUDGED = """\
  say:
    prompt: "say {{ inputs.what }}"
    params: {temperature: 1}
    expect:
      - judge: {rubric: "Is it about {{ inputs.what }}?", model: strict, threshold: 0.7}
"""
JUDGE = "inputs: {what: {default: tea}}\nmodels: {strict: {model: Grok-4, params: {top_p: 0.5}}}\n"


@pytest.mark.parametrize(("score", "passes"), [(0.9, True), (0.2, False)])
def test_a_judge_is_a_request_of_its_own(bench, scripted, score, passes):
    scripted(
        f"""\
        - {{match: {{model: Grok-4}}, answer: {{text: '{{"reason": "so", "score": {score}}}'}}}}
        - {{answer: {{text: about tea}}}}
        """
    )
    flow = "poeflow: 1\ndefaults: {model: GPT-5.2}\n" + JUDGE + "steps:\n" + JUDGED
    outcome = bench.run(flow)
    assert (outcome.exit_code == 0) is passes
    judging = bench.simulator.requests[1].json
    assert (judging["model"], judging["top_p"]) == ("Grok-4", 0.5)
    assert "temperature" not in judging
    assert "Is it about tea?" in judging["messages"][-1]["content"]
    assert "about tea" in judging["messages"][-1]["content"]
    bench.run(flow)
    assert len(bench.simulator.requests) == 2, "both are in the cache"


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ('rubric: "{{ inputs.none }}"', "the rubric of the judge is blank; check its template"),
        (
            'rubric: good, model: "{{ inputs.none }}"',
            "judge: the name of the model is blank; check its template",
        ),
    ],
)
def test_a_judge_that_renders_to_nothing_is_not_asked(bench, judge, message):
    flow = (
        'poeflow: 1\ninputs: {none: {default: " "}}\ndefaults: {model: GPT-5.2}\n'
        f"steps: {{a: {{prompt: hi, expect: [{{judge: {{{judge}}}}}]}}}}\n"
    )
    outcome = bench.run(flow)
    assert str(outcome.failures["a"]) == message
    assert bench.prompts() == ["hi"]


def test_a_judge_that_gives_no_verdict_is_asked_once_more(bench, scripted):
    scripted(
        """\
        - {match: {model: Grok-4, nth: 1}, answer: {text: I like it}}
        - {match: {model: Grok-4}, answer: {text: '{"reason": "so", "score": 1}'}}
        - {answer: {text: about tea}}
        """
    )
    flow = "poeflow: 1\ndefaults: {model: GPT-5.2}\n" + JUDGE + "steps:\n" + JUDGED
    assert bench.run(flow).exit_code == 0
    assert len(bench.simulator.requests) == 3


SAMPLED = """\
  say:
    prompt: say
    samples: {count: 3, pass_rate: %s}
    expect: [{contains: hello}]
  all: {render: "{{ steps.say.text }}: {{ steps.say.all | map(attribute='text') | join(',') }}"}
"""


def test_enough_samples_must_pass_and_the_first_that_does_is_the_result(bench, scripted):
    scripted(
        """\
        - {match: {text: say, nth: 1}, answer: {text: no}}
        - {match: {text: say}, answer: {text: hello}}
        """
    )
    outcome = bench.run(HEAD + SAMPLED % "0.6", concurrency=1)
    assert outcome.outputs == {"all": "hello: no,hello,hello"}
    bench.run(HEAD + SAMPLED % "0.6")
    assert len(bench.simulator.requests) == 3, "each sample has its own place in the cache"


def test_too_few_fail_the_step_with_how_many(bench, scripted):
    scripted(
        """\
        - {match: {text: say, nth: 3}, answer: {text: hello}}
        - {match: {text: say}, answer: {text: no}}
        """
    )
    outcome = bench.run(HEAD + SAMPLED % "0.5", concurrency=1)
    assert str(outcome.failures["say"]).startswith("1 of 3 samples passed, 50% must: ")


FALLING = """\
models:
  main:
    model: GPT-5.2
    params: {temperature: 0.1}
    extra_body: {verbosity: low}
    fallback: [other, Grok-4]
  other: {model: Claude-Sonnet-4.5, params: {top_p: 0.2}}
defaults: {model: main, retry: {attempts: 1}}
steps:
  say: {prompt: say, params: {max_tokens: 50}}
"""


def test_another_model_stands_in_and_the_answer_says_which(bench, scripted):
    scripted(
        """\
        - {match: {model: GPT-5.2}, fault: "529"}
        - {match: {text: say}, answer: {text: hello}}
        """
    )
    outcome = bench.run("poeflow: 1\n" + FALLING)
    sent = bench.simulator.requests[-1].json
    assert (sent["model"], sent["top_p"], sent["max_tokens"]) == ("Claude-Sonnet-4.5", 0.2, 50)
    assert "temperature" not in sent
    assert "verbosity" not in sent
    assert outcome.results["say"].answered_by == "other"
    assert [e.model for e in bench.events if isinstance(e, FellBack)] == ["other"]
    again = bench.run("poeflow: 1\n" + FALLING)
    assert again.results["say"].answered_by == "other"
    assert [e.source for e in bench.events if isinstance(e, StepFinished)] == ["cached"]


def test_a_wrong_request_is_wrong_everywhere(bench, scripted):
    scripted('- {match: {model: GPT-5.2}, fault: "400"}\n')
    outcome = bench.run("poeflow: 1\n" + FALLING)
    assert len(bench.simulator.requests) == 1
    assert outcome.exit_code == 1


def test_where_nobody_answers_the_first_failure_is_told(bench, scripted):
    scripted(
        """\
        - {match: {model: GPT-5.2}, fault: "404"}
        - {fault: "529"}
        """
    )
    outcome = bench.run("poeflow: 1\n" + FALLING)
    assert isinstance(outcome.failures["say"], NotFoundError)
    assert [e.model for e in bench.events if isinstance(e, FellBack)] == ["other", "Grok-4"]


def test_a_step_has_a_time_of_its_own(bench, scripted):
    scripted("- {match: {text: say}, delay: 20, answer: {text: late}}\n")
    outcome = bench.run(HEAD + "  say: {prompt: say, timeout: {attempt: 10s, step: 0.2s}}\n")
    assert str(outcome.failures["say"]) == "the step took longer than 0.2 s; raise timeout.step"
    assert outcome.exit_code == 6


def test_the_same_request_twice_at_once_is_asked_once(bench, scripted):
    scripted("- {match: {text: say}, delay: 0.2, answer: {text: hello}}\n")
    outcome = bench.run(HEAD + "  say: {for_each: [1, 2, 3], prompt: say it}\n")
    assert len(bench.simulator.requests) == 1
    assert [result.text for result in outcome.results.values()] == ["hello"] * 3


def test_no_warning_is_told_of_a_plain_run(bench):
    bench.run(HEAD + "  say: {prompt: say}\n")
    assert not [event for event in bench.events if isinstance(event, Warned)]
