"""A flow as a step of another: its inputs, its outputs, its failures, its files."""

import pytest

from poeflow.errors import InvalidFlowError
from poeflow.events import StepFailed
from poeflow.operations.check import checkup
from poeflow.operations.proof import TOLERATED, proof_of
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project

CHILD = """\
poeflow: 1
inputs: {text: {}, times: {type: integer, default: 1}}
defaults: {model: Claude-Sonnet-4.5}
steps:
  draft: {prompt: "draft {{ inputs.text }} x{{ inputs.times }}"}
outputs: {short: "{{ steps.draft.text }}", twice: "{{ inputs.times * 2 }}"}
"""


def test_its_outputs_are_the_steps_and_its_own_defaults_apply(bench, scripted):
    scripted("- {match: {text: draft cats x3}, answer: {text: about cats}}\n")
    bench.write("parts/child.yaml", CHILD)
    outcome = bench.run(
        """\
poeflow: 1
steps:
  topic: {render: cats}
  about: {use: parts/child.yaml, with: {text: "{{ steps.topic.text }}", times: 3}}
outputs: {is: "{{ steps.about.outputs.short }} {{ steps.about.outputs.twice }}"}
"""
    )
    assert outcome.outputs == {"is": "about cats 6"}
    assert [request.json["model"] for request in bench.simulator.requests] == ["Claude-Sonnet-4.5"]
    assert list(outcome.results) == ["topic", "about/draft", "about"]


def test_it_runs_once_for_each_item(bench):
    bench.write("child.yaml", CHILD)
    outcome = bench.run(
        """\
poeflow: 1
steps:
  about: {for_each: [cats, dogs], use: child.yaml, with: {text: "{{ item }}"}}
"""
    )
    assert sorted(bench.prompts()) == ["draft cats x1", "draft dogs x1"]
    assert {"about[cats]/draft", "about[dogs]/draft"} < set(outcome.results)
    assert sorted(outcome.outputs["about"]) == ["cats", "dogs"]


def test_its_failure_is_the_steps(bench, scripted):
    scripted('- {match: {text: draft}, fault: "400"}\n')
    bench.write("child.yaml", CHILD)
    outcome = bench.run(
        """\
poeflow: 1
steps:
  about: {use: child.yaml, with: {text: x}}
  after: {render: "{{ steps.about.outputs.short }}"}
"""
    )
    assert list(outcome.failures) == ["about/draft"]
    assert outcome.skipped == {"after": "about failed"}
    assert outcome.exit_code == 1


def test_a_value_that_does_not_fit_its_input_fails_the_step_that_passes_it(bench):
    bench.write("child.yaml", CHILD)
    outcome = bench.run(
        """\
poeflow: 1
steps:
  many: {render: lots}
  about: {use: child.yaml, with: {text: x, times: "{{ steps.many.text }}"}}
"""
    )
    assert str(outcome.failures["about"]) == (
        "a.yaml:4:34: the input \"times\" must be an integer, not 'lots'"
    )


def test_what_is_known_before_is_told_before(bench):
    bench.write(
        "child.yaml",
        "poeflow: 1\ninputs: {n: {}}\nsteps:\n"
        "  a: {prompt: x, model: M, attachments: ['{{ inputs.n }}']}\n",
    )
    with pytest.raises(InvalidFlowError, match=r"child\.yaml:4:42: //none\.txt does not exist"):
        bench.run("poeflow: 1\nsteps:\n  about: {use: child.yaml, with: {n: none.txt}}\n")


def test_a_path_is_that_of_the_file_that_writes_it(bench):
    bench.write("parts/default.md", "the default")
    bench.write("given.md", "what was given")
    bench.write(
        "parts/child.yaml",
        "poeflow: 1\ninputs: {f: {type: file, default: default.md}}\n"
        "steps: {show: {render: '{{ read(inputs.f) }}'}}\n",
    )
    outcome = bench.run(
        """\
poeflow: 1
steps:
  one: {use: parts/child.yaml}
  two: {use: parts/child.yaml, with: {f: given.md}}
"""
    )
    assert outcome.outputs == {"one": {"show": "the default"}, "two": {"show": "what was given"}}


def test_two_uses_never_write_one_file(bench):
    save = '{save: "{{ flow.name }}.md"}'
    bench.write("child.yaml", f"poeflow: 1\nsteps: {{a: {{render: x, output: {save}}}}}\n")
    flow = "poeflow: 1\nsteps:\n  one: {use: child.yaml}\n  two: {use: child.yaml, needs: [one]}\n"
    told = r"4:14: one/a and two/a would both write //child.md"
    with pytest.raises(InvalidFlowError, match=told):
        bench.run(flow)
    looped = "poeflow: 1\nsteps:\n  each: {use: child.yaml, for_each: [x, y]}\n"
    outcome = bench.run(looped, concurrency=1)
    assert str(outcome.failures["each[y]/a"]).startswith("//child.md is written by each[x]/a")


def test_an_input_with_the_default_of_another_is_known_when_that_one_is(bench):
    bench.write(
        "part.yaml",
        "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
        "inputs: {name: {default_from: word}, word: {default: x}}\n"
        "steps:\n  say: {prompt: {file: 'texts/{{ inputs.name }}.md'}}\n",
    )
    bench.write("texts/x.md", "x")
    flow = "poeflow: 1\nsteps:\n  a: {render: x}\n  b: {use: part.yaml, with: {word: WORD}}\n"
    assert bench.run(flow.replace("WORD", "x")).exit_code == 0
    with pytest.raises(InvalidFlowError) as caught:
        bench.run(flow.replace("WORD", '"{{ steps.a.text }}"'))
    assert "inputs.name is not" in str(caught.value)


TOLERANT = """\
poeflow: 1
steps:
  about:
    {for_each: [bad, good], use: child.yaml, with: {text: "{{ item }}"}, continue_on_error: true}
  after: {render: "{% for one in steps.about.all %}{{ one.key }} {{ one.status }};{% endfor %}"}
"""
STEPS = """\
poeflow: 1
inputs: {text: {}}
defaults: {model: Claude-Sonnet-4.5}
steps:
  draft: {prompt: "draft {{ inputs.text }}"}
  polish: {prompt: "polish {{ steps.draft.text }}"}
outputs: {short: "{{ steps.polish.text }}"}
"""


@pytest.mark.parametrize("options", [{"concurrency": 1}, {"fail_fast": True}, {"keep_going": True}])
def test_a_step_that_tolerates_failures_does_so_with_all_in_the_flow_it_uses(
    bench, scripted, options
):
    scripted('- {match: {text: draft bad}, fault: "400"}\n')
    bench.write("child.yaml", STEPS)
    outcome = bench.run(TOLERANT, **options)
    assert (outcome.exit_code, outcome.failures) == (0, {})
    assert outcome.outputs == {"after": "bad failed;good ok;"}
    assert list(outcome.tolerated) == ["about[bad]/draft", "about[bad]"]
    assert outcome.skipped == {"about[bad]/polish": "about[bad]/draft failed"}
    told = [(e.step, e.is_tolerated, e.is_told) for e in bench.events if isinstance(e, StepFailed)]
    assert told == [("about[bad]/draft", True, False), ("about[bad]", True, True)]
    end = bench.events[-1]
    assert (end.failed, end.tolerated, end.skipped, end.held_back) == (0, 1, 1, 0)


def test_it_does_so_with_what_fails_in_flows_that_its_flow_uses_and_in_later_turns(bench, scripted):
    scripted('- {match: {text: draft two}, fault: "400"}\n')
    bench.write("child.yaml", STEPS)
    use = 'use: child.yaml, with: {text: "{{ inputs.text }}"}'
    bench.write("part.yaml", f"poeflow: 1\ninputs: {{text: {{}}}}\nsteps: {{inner: {{{use}}}}}\n")
    text = "{{ 'one' if previous is none else 'two' }}"
    outcome = bench.run(
        f"""\
poeflow: 1
steps:
  outer:
    use: part.yaml
    with: {{text: "{text}"}}
    repeat: {{until: "false", max: 3}}
    continue_on_error: true
  after: {{render: "{{{{ steps.outer.status }}}}"}}
"""
    )
    assert outcome.exit_code == 0
    assert list(outcome.tolerated) == ["outer#2/inner/draft", "outer#2/inner", "outer"]
    assert outcome.outputs == {"after": "failed"}


def test_other_failures_fail_the_run_beside_such_a_step(bench, scripted):
    scripted('- {match: {text: bad}, fault: "400"}\n')
    bench.write("child.yaml", STEPS)
    outcome = bench.run(TOLERANT + "  alone: {use: child.yaml, with: {text: bad}}\n")
    assert outcome.exit_code == 1
    assert list(outcome.failures) == ["alone/draft"]


def test_a_proof_names_the_step_that_tolerates_a_failure(bench, scripted, tmp_path):
    scripted('- {match: {text: draft bad}, fault: "400"}\n')
    bench.write("child.yaml", STEPS)
    bench.run(TOLERANT)
    found = checkup(Project(tmp_path), "//a.yaml", "a.yaml")
    environ = {"POE_BASE_URL": bench.simulator.base_url}
    proof = proof_of(found, RunOptions(environ=environ, folder=tmp_path))
    assert proof.reasons[0] == "about[bad]/draft: new: the lock does not have it"
    assert proof.advice == [f"about: {TOLERATED}"]
