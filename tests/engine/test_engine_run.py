"""A plan becomes a run: order, failures, stored answers, files and what is told of them."""

import stat

import pytest
from stored_answers import count_answers, damage_answers

from poeflow.errors import (
    AccountError,
    BadRequestError,
    InvalidFlowError,
    StepError,
    UsageError,
)
from poeflow.events import (
    FileWritten,
    RetryPlanned,
    StepFinished,
    StepStarted,
    TextArrived,
    Warned,
)
from poeflow.simulator.server import Simulator

CHAIN = """\
poeflow: 1
steps:
  last: {model: GPT-5.2, prompt: "last after {{ (steps.middle.text | length > 0) | tojson }}"}
  middle: {model: GPT-5.2, prompt: "middle after {{ (steps.first.text | length > 0) | tojson }}"}
  first: {model: GPT-5.2, prompt: first}
"""
DIAMOND = """\
poeflow: 1
limits: {concurrency: 8}
steps:
  top: {model: GPT-5.2, prompt: top}
  left: {model: GPT-5.2, prompt: left, needs: [top]}
  right: {model: GPT-5.2, prompt: right, needs: [top]}
  bottom: {model: GPT-5.2, prompt: bottom, needs: [left, right]}
"""


def test_steps_run_after_what_they_need(bench):
    outcome = bench.run(CHAIN)
    assert outcome.exit_code == 0
    assert bench.prompts() == ["first", "middle after true", "last after true"]
    assert list(outcome.outputs) == ["last"]
    assert repr(outcome) == "Outcome(exit_code=0, results=3)"


def test_independent_steps_run_at_the_same_time_up_to_the_limit(bench):
    with Simulator(latency=0.2) as simulator:
        bench.simulator = simulator
        bench.run(DIAMOND)
        assert simulator.peak_concurrency == 2
        bench.run(DIAMOND, refresh=True, concurrency=1)
        assert len(simulator.requests) == 8
        assert (bench.prompts()[0], bench.prompts()[3]) == ("top", "bottom")


def test_a_failure_skips_dependants_and_starts_nothing_new(bench, tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text('simulator: 1\nrules:\n- {match: {text: left}, fault: "400"}\n')
    with Simulator(script=script) as simulator:
        bench.simulator = simulator
        outcome = bench.run(DIAMOND, concurrency=1)
    assert outcome.exit_code == 1
    assert isinstance(outcome.failures["left"], BadRequestError)
    told = f", failures=1, the first: left: {outcome.failures['left']})"
    assert repr(outcome) == f"Outcome(exit_code=1, results={len(outcome.results)}{told}"
    stopped = "the run stopped when left failed"
    assert outcome.skipped == {"right": stopped, "bottom": "left failed"}
    assert outcome.outputs == {}


def test_keep_going_runs_what_does_not_depend_on_the_failure(bench, tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text('simulator: 1\nrules:\n- {match: {text: left}, fault: "400"}\n')
    with Simulator(script=script) as simulator:
        bench.simulator = simulator
        outcome = bench.run(DIAMOND, concurrency=1, keep_going=True)
    assert sorted(outcome.results) == ["right", "top"]
    assert outcome.skipped == {"bottom": "left failed"}


def test_a_run_asked_to_stop_finishes_what_is_under_way_and_starts_nothing_new(bench):
    reasons = ("", "", "the files changed")
    outcome = bench.run(CHAIN, stop=lambda: reasons[len(bench.prompts())])
    assert bench.prompts() == ["first", "middle after true"]
    assert list(outcome.results) == ["first", "middle"]
    assert outcome.skipped == {"last": "the files changed"}
    assert (outcome.exit_code, outcome.outputs) == (0, {})
    bench.run(CHAIN)
    assert bench.prompts() == ["first", "middle after true", "last after true"]


def test_the_same_request_is_answered_from_the_cache_and_says_so(bench):
    first = bench.run(CHAIN)
    second = bench.run(CHAIN)
    assert second.outputs == first.outputs
    assert len(bench.simulator.requests) == 3
    sources = {e.step: e.source for e in bench.events if isinstance(e, StepFinished)}
    assert sources == {"first": "cached", "middle": "cached", "last": "cached"}


@pytest.mark.parametrize(
    ("before", "after", "asked"),
    [
        ("prompt: hi", "prompt: hi # a comment", 0),
        ("prompt: hi", "prompt: |\n      hi", 0),
        ("prompt: hi", "prompt: hi\n    timeout: 5m", 0),
        ("prompt: hi", "prompt: hi\n    stream: false", 0),
        ("prompt: hi", "prompt: hi\n    retry: {attempts: 2}", 0),
        ("prompt: hi", "prompt: ho", 1),
        ("prompt: hi", "prompt: hi\n    params: {temperature: 0}", 1),
        ("prompt: hi", "prompt: hi\n    extra_body: {thinking_budget: 1}", 1),
        ("prompt: hi", "prompt: hi\n    system: be short", 1),
        ("GPT-5.2", "GPT-5.4", 1),
    ],
)
def test_what_changes_the_request_asks_again_and_nothing_else_does(bench, before, after, asked):
    flow = "poeflow: 1\nsteps:\n  a:\n    model: GPT-5.2\n    prompt: hi\n"
    bench.run(flow)
    bench.run(flow.replace(before, after))
    assert len(bench.simulator.requests) == 1 + asked


def test_an_attachments_bytes_count_and_its_name_on_disk_does_not(bench):
    flow = (
        "poeflow: 1\nsteps:\n  a:\n    model: GPT-5.2\n    prompt: hi\n"
        "    attachments: [{path: note.txt, name: note.txt}]\n"
    )
    bench.write("note.txt", "one")
    bench.run(flow)
    bench.write("other.txt", "one")
    bench.run(flow.replace("path: note.txt", "path: other.txt"))
    assert len(bench.simulator.requests) == 1
    bench.write("note.txt", "two")
    bench.run(flow)
    assert len(bench.simulator.requests) == 2


def test_an_answer_is_on_disk_before_the_step_is_told_to_be_done(bench):
    seen = []

    def listen(event):
        if isinstance(event, StepFinished):
            seen.append(count_answers(bench.folder))

    bench.run(CHAIN, listen=listen)
    assert seen == [1, 2, 3]


def test_a_cut_answer_fails_the_step_is_kept_and_replaces_nothing(bench, tmp_path):
    flow = (
        "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi, params: {max_tokens: 1},"
        " output: {save: a.md}}\n"
    )
    bench.write("a.md", "old\n")
    outcome = bench.run(flow, force=True)
    assert isinstance(outcome.failures["a"], StepError)
    assert str(outcome.failures["a"]).startswith("the answer was cut at the token limit; raise")
    assert (bench.folder / "a.md").read_text() == "old\n"
    assert count_answers(bench.folder) == 1
    accepting = flow.replace("save: a.md", "save: a.md, accept: [length]")
    refused = bench.run(accepting)
    assert str(refused.failures["a"]).startswith("//a.md is there, and poeflow did not")
    accepted = bench.run(accepting, force=True)
    assert accepted.exit_code == 0
    assert accepted.results["a"].source == "cached"
    assert (bench.folder / "a.md").read_text() != "old\n"


def test_json_becomes_data_and_bad_json_a_failure_that_shows_it(bench, tmp_path):
    flow = (
        "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: list, output: {format: json}}\n"
        "  b: {render: \"{{ steps.a.data.rows | join('+') }}\"}\n"
    )
    script = tmp_path / "script.yaml"
    script.write_text(
        "simulator: 1\nrules:\n"
        '- {match: {text: list, nth: 1}, answer: {text: "```json\\n{\\"rows\\": [1, 2]}\\n```"}}\n'
        "- {match: {text: list}, answer: {text: Here you go}}\n"
    )
    with Simulator(script=script) as simulator:
        bench.simulator = simulator
        assert bench.run(flow).outputs == {"b": "1+2"}
        outcome = bench.run(flow, refresh=True)
    assert "is not JSON" in str(outcome.failures["a"])
    assert "Here you go" in str(outcome.failures["a"])


def test_files_are_written_whole_private_state_apart(bench):
    flow = 'poeflow: 1\nsteps:\n  a: {render: "one\\r\\ntwo", output: {save: out/a.txt}}\n'
    bench.run(flow)
    assert (bench.folder / "out/a.txt").read_bytes() == b"one\ntwo\n"
    assert [e for e in bench.events if isinstance(e, FileWritten)] == [
        FileWritten(at=bench.events[-3].at, step="a", path="out/a.txt", size=8)
    ]
    assert stat.S_IMODE((bench.folder / ".poeflow").stat().st_mode) == 0o700


def test_two_steps_never_write_one_file(bench):
    flow = (
        "poeflow: 1\ninputs: {name: {type: string, default: same}}\nsteps:\n"
        '  a: {render: one, output: {save: "{{ inputs.name }}.txt"}}\n'
        "  b: {render: two, output: {save: same.txt}, needs: [a]}\n"
    )
    with pytest.raises(InvalidFlowError, match=r"a and b would both write //same\.txt"):
        bench.run(flow)
    assert not (bench.folder / "same.txt").exists()


def test_a_value_in_a_path_stays_one_safe_segment(bench):
    flow = (
        "poeflow: 1\ninputs: {name: {type: string}}\nsteps:\n"
        '  a: {render: one, output: {save: "out/{{ inputs.name }}.txt"}}\n'
    )
    with pytest.raises(InvalidFlowError, match="is not one safe part of a path"):
        bench.run(flow, inputs={"name": "../../etc/x"})
    assert not (bench.folder.parent / "etc").exists()


def test_the_text_of_a_lone_step_is_told_as_it_comes(bench):
    outcome = bench.run("poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n")
    pieces = [event.text for event in bench.events if isinstance(event, TextArrived)]
    assert "".join(pieces) == outcome.results["a"].text


def test_a_retry_is_told_with_its_reason(bench):
    with Simulator(faults="500x1") as simulator:
        bench.simulator = simulator
        outcome = bench.run("poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n")
    assert outcome.exit_code == 0
    (retry,) = [event for event in bench.events if isinstance(event, RetryPlanned)]
    assert (retry.step, retry.attempt) == ("a", 1)
    assert "(500)" in retry.reason


def test_attachments_reach_the_request_after_the_text(bench):
    bench.write("note.txt", "hello")
    bench.run("poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: read, attachments: [note.txt]}\n")
    assert bench.simulator.requests[0].json["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "read"},
                {
                    "type": "file",
                    "file": {
                        "filename": "note.txt",
                        "file_data": "data:text/plain;base64,aGVsbG8=",
                    },
                },
            ],
        }
    ]


def test_a_file_that_is_not_what_it_is_named_is_warned_of(bench):
    bench.write("note.png", "%PDF-1.4 not a picture")
    bench.run("poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: read, attachments: [note.png]}\n")
    (warning,) = [event for event in bench.events if isinstance(event, Warned)]
    assert warning.step == "a"
    assert "note.png" in warning.message


def test_a_missing_attachment_named_by_an_input_is_a_problem_before_any_call(bench):
    flow = (
        "poeflow: 1\ninputs: {doc: {type: string, default: gone.pdf}}\nsteps:\n"
        "  first: {model: GPT-5.2, prompt: hi}\n"
        '  a: {model: GPT-5.2, prompt: hi, attachments: ["{{ inputs.doc }}"]}\n'
    )
    with pytest.raises(InvalidFlowError, match=r"a.yaml:5:\d+: .*gone.pdf does not exist"):
        bench.run(flow)
    assert bench.simulator.requests == ()


def test_params_and_extra_body_are_merged_into_the_request(bench):
    bench.run(
        "poeflow: 1\ninputs: {budget: {type: integer, default: 7}}\n"
        "models: {w: {model: GPT-5.2, params: {temperature: 0.5, max_tokens: 9}}}\n"
        "defaults: {params: {top_p: 0.1, temperature: 1}}\nsteps:\n"
        "  a:\n    model: w\n    prompt: hi\n    params: {max_tokens: 900}\n"
        '    extra_body: {thinking_budget: "{{ inputs.budget }}"}\n'
    )
    body = bench.simulator.requests[0].json
    assert {key: body[key] for key in body if key not in ("messages", "stream")} == {
        "model": "GPT-5.2",
        "temperature": 0.5,
        "top_p": 0.1,
        "max_tokens": 900,
        "thinking_budget": 7,
        "stream_options": {"include_usage": True},
    }


def test_a_parameter_out_of_range_after_rendering_is_not_sent(bench):
    outcome = bench.run(
        "poeflow: 1\ninputs: {t: {type: number, default: 5}}\nsteps:\n"
        '  a: {model: GPT-5.2, prompt: hi, params: {temperature: "{{ inputs.t }}"}}\n'
    )
    assert "temperature" in str(outcome.failures["a"])
    assert bench.simulator.requests == ()


def test_without_key_or_stored_answers_nothing_starts(bench):
    with pytest.raises(AccountError, match="POE_API_KEY"):
        bench.run(CHAIN, environ={})
    assert bench.events == []


def test_a_render_only_flow_needs_no_key(bench):
    outcome = bench.run("poeflow: 1\nsteps:\n  a: {render: hi}\n", environ={})
    assert outcome.outputs == {"a": "hi"}


def test_declared_outputs_keep_their_types(bench):
    outcome = bench.run(
        "poeflow: 1\ninputs: {n: {type: integer, default: 3}}\nsteps:\n  a: {render: hi}\n"
        'outputs: {n: "{{ inputs.n }}", text: "{{ steps.a.text }}!"}\n'
    )
    assert outcome.outputs == {"n": 3, "text": "hi!"}


def test_an_unknown_input_is_a_usage_error(bench):
    with pytest.raises(UsageError, match="unknown input"):
        bench.run("poeflow: 1\nsteps:\n  a: {render: hi}\n", inputs={"x": 1})


def test_a_damaged_stored_answer_is_asked_again_with_a_warning(bench):
    flow = (
        "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n"
        '  b: {render: "%s{{ steps.a.text }}"}\n'
    )
    bench.run(flow % "")
    assert damage_answers(bench.folder) == 1
    outcome = bench.run(flow % "so: ")
    assert outcome.results["a"].source == "asked"
    assert any("was damaged" in e.message for e in bench.events if isinstance(e, Warned))


@pytest.mark.parametrize(
    "step",
    [
        'prompt: "{% if false %}x{% endif %}"',
        'messages: [{role: user, content: "{{ inputs.none }} "}, {role: user, content: x}]',
        'prompt: " {{ inputs.none }}", output: {one_of: [a, b]}',
    ],
)
def test_a_prompt_that_renders_to_nothing_is_never_sent(bench, step):
    head = 'poeflow: 1\ninputs: {none: {default: ""}}\ndefaults: {model: GPT-5.2}\nsteps:\n'
    failure = bench.run(f"{head}  a: {{{step}}}\n").failures["a"]
    assert (failure.message, failure.hint) == (
        "the prompt is blank",
        "check what its template gives",
    )
    assert bench.simulator.requests == ()


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ("", "the name of the model is blank"),
        ("a\\nb", "the name of a model is one line, with no space around it"),
        (" GPT-5.2", "the name of a model is one line, with no space around it"),
        ("x" * 201, "the name of the model has 201 characters; at most 200 are taken"),
    ],
)
def test_a_model_that_renders_to_no_name_is_never_asked(bench, model, fault):
    flow = (
        f'poeflow: 1\ninputs: {{m: {{default: "{model}"}}}}\n'
        'steps:\n  a: {model: "{{ inputs.m }}", prompt: x}\n'
    )
    with pytest.raises(InvalidFlowError) as caught:
        bench.run(flow)
    assert [problem.message for problem in caught.value.problems] == [fault]
    assert bench.simulator.requests == ()


def test_a_blank_prompt_with_files_is_sent(bench):
    bench.write("a.md", "text")
    bench.run('poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: " ", attachments: [a.md]}\n')
    assert len(bench.simulator.requests) == 1


SAME = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  first: {prompt: same, timeout: {step: 0.5}, continue_on_error: true}
  second: {prompt: same}
  third: {prompt: "more {{ steps.second.text }}"}
"""


def test_one_who_waits_for_the_same_request_asks_if_the_other_runs_out_of_time(bench, scripted):
    scripted("""\
        - {match: {text: same, nth: 1}, delay: 3, answer: {text: late}}
        - {match: {text: same}, answer: {text: in time}}
    """)
    outcome = bench.run(SAME)
    assert outcome.exit_code == 0
    assert str(outcome.tolerated["first"]) == (
        "the step took longer than 0.5 s; raise timeout.step"
    )
    assert outcome.results["second"].text == "in time"
    assert outcome.results.keys() == {"second", "third"}


CHAINS = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  each: {for_each: [a, b], prompt: "each {{ item }}"}
  one: {for_each: steps.each, prompt: "one {{ source.text }}"}
  two: {for_each: steps.each, prompt: "two {{ source.text }}"}
"""


def test_two_steps_that_run_over_an_absent_answer_have_it_made_once(bench):
    bench.run(CHAINS)
    bench.forget_answers()
    changed = CHAINS.replace('"one', '"first').replace('"two', '"second')
    outcome = bench.run(changed)
    assert outcome.exit_code == 0
    assert len(bench.prompts()[6:]) == 6
    finished = [event.step for event in bench.events if isinstance(event, StepFinished)]
    assert sorted(finished) == sorted(outcome.results)


@pytest.mark.parametrize(
    ("given", "param", "reason"),
    [
        ("type: integer, default: 0", "max_tokens", "a whole number >= 1, not 0"),
        ("type: number, default: 9", "temperature", "a number <= 2.0, not 9"),
        ("default: hot", "temperature", 'a number, not "hot"'),
        ("type: array, default: [1]", "top_p", "a number, not [1]"),
        ("default: hot", "seed", 'a whole number, not "hot"'),
        ("type: integer, default: 3", "stop", "a text or a list, not 3"),
    ],
)
def test_a_parameter_that_an_input_gives_is_checked(bench, given, param, reason):
    flow = (
        f"poeflow: 1\ninputs: {{x: {{{given}}}}}\ndefaults: {{model: GPT-5.2}}\n"
        f'steps: {{a: {{prompt: hi, params: {{{param}: "{{{{ inputs.x }}}}"}}}}}}\n'
    )
    assert bench.states(flow) == {"a": ("stale", (f"step a: params.{param} must be {reason}",))}


def test_a_first_step_is_asked_while_the_next_ones_are_proven(bench):
    """Its request does not wait for the proofs of all steps."""
    steps = "".join(f"  s{number}: {{prompt: say {number}}}\n" for number in range(40))
    flow = f"poeflow: 1\ndefaults: {{model: GPT-5.2}}\nsteps:\n{steps}"
    bench.run(flow)
    bench.run(flow.replace("prompt: say 0", "prompt: say nothing"))
    kinds = [(type(event), getattr(event, "step", None)) for event in bench.events]
    assert kinds.index((StepStarted, "s0")) < kinds.index((StepFinished, "s39"))
