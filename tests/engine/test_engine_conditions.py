"""Steps that do not run, why, and what that means for those that need them."""

import pytest

from poeflow.errors import BadRequestError, InvalidFlowError
from poeflow.events import RunFinished, StepFailed, StepSkipped

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"


def test_an_if_over_inputs_skips_before_its_attachments_are_looked_for(bench):
    flow = HEAD + (
        "inputs: {file: {default: none.txt}, wanted: {type: boolean, default: false}}\nsteps:\n"
        "  read: {if: inputs.wanted, prompt: read, attachments: ['{{ inputs.file }}']}\n"
        "  rest: {prompt: 'status {{ steps.read.status }}'}\n"
    )
    outcome = bench.run(flow)
    assert outcome.skipped == {"read": "inputs.wanted does not hold"}
    assert bench.prompts() == ["status skipped"]
    assert outcome.exit_code == 0
    assert [e.reason for e in bench.events if isinstance(e, StepSkipped)] == [
        "inputs.wanted does not hold"
    ]
    with pytest.raises(InvalidFlowError, match=r"none\.txt does not exist"):
        bench.run(flow, inputs={"wanted": True})


def test_an_if_over_an_answer_decides_once_that_is_there(bench, scripted):
    scripted("- {match: {text: sort}, answer: {text: bug}}\n")
    outcome = bench.run(
        HEAD
        + """\
steps:
  sort: {prompt: sort it}
  bug: {if: steps.sort.text == 'bug', prompt: answer the bug}
  idea: {if: "{{ steps.sort.text == 'idea' }}", prompt: answer the idea}
  off: {if: false, prompt: never}
outputs:
  bug: "{{ steps.bug.status }}"
  idea: "{{ steps.idea.text }}"
"""
    )
    assert sorted(bench.prompts()) == ["answer the bug", "sort it"]
    assert outcome.skipped == {
        "idea": "{{ steps.sort.text == 'idea' }} does not hold",
        "off": "if: false",
    }
    assert outcome.outputs == {"bug": "ok", "idea": None}


def test_each_item_has_its_own_if_and_all_leaves_out_the_skipped(bench):
    outcome = bench.run(
        HEAD
        + """\
steps:
  say: {for_each: [a, b, c], if: item != 'b', render: "{{ item }}"}
  list: {render: "{{ steps.say.all | map(attribute='text') | join }} {{ steps.say['b'].status }}"}
"""
    )
    assert outcome.outputs == {"list": "ac skipped"}
    assert outcome.skipped == {"say[b]": "item != 'b' does not hold"}


def test_a_whole_fan_out_is_skipped_before_its_list_is_asked_for(bench):
    outcome = bench.run(
        HEAD
        + """\
inputs: {go: {type: boolean, default: false}}
steps:
  find: {if: inputs.go, prompt: find, output: {format: json}}
  say: {if: steps.find.status == 'ok', for_each: steps.find.data, prompt: "{{ item }}"}
  count: {render: "{{ steps.say.all | length }} {{ steps.say.status }}"}
"""
    )
    assert outcome.outputs == {"count": "0 skipped"}
    assert outcome.exit_code == 0


FAILING = """\
steps:
  draft: {prompt: draft}
  polish: {prompt: "polish {{ steps.draft.text }}"}
  tell:
    if: steps.draft.status == 'failed' or steps.polish.status == 'skipped'
    render: |
      draft {{ steps.draft.status }}: {{ steps.draft.error }}; polish {{ steps.polish.status }}
    output: {save: told.txt}
"""


def test_a_step_whose_if_looks_at_a_status_runs_after_a_failure(bench, scripted, tmp_path):
    scripted('- {match: {text: draft}, fault: "400"}\n')
    outcome = bench.run(HEAD + FAILING)
    assert isinstance(outcome.failures["draft"], BadRequestError)
    assert outcome.skipped == {"polish": "draft failed"}
    assert (tmp_path / "told.txt").read_text().startswith("draft failed: ")
    assert (tmp_path / "told.txt").read_text().endswith("; polish skipped\n")
    assert outcome.exit_code == 1


def test_such_a_step_is_skipped_where_nothing_failed(bench):
    outcome = bench.run(HEAD + FAILING)
    assert list(outcome.skipped) == ["tell"]
    assert outcome.exit_code == 0


def test_continue_on_error_tolerates_a_failure(bench, scripted):
    scripted('- {match: {text: draft}, fault: "400"}\n')
    outcome = bench.run(
        HEAD
        + """\
steps:
  draft: {prompt: draft, continue_on_error: true}
  after: {render: "draft {{ steps.draft.status }}"}
"""
    )
    assert outcome.exit_code == 0
    assert outcome.outputs == {"after": "draft failed"}
    assert list(outcome.tolerated) == ["draft"]
    assert not outcome.failures
    assert [e.is_tolerated for e in bench.events if isinstance(e, StepFailed)] == [True]
    end = bench.events[-1]
    assert (end.failed, end.tolerated, end.rendered, end.instances) == (0, 1, 1, 2)


def test_other_items_go_on_where_a_failure_is_tolerated(bench, scripted):
    scripted('- {match: {text: say b}, fault: "400"}\n')
    outcome = bench.run(
        HEAD
        + """\
steps:
  say: {for_each: [a, b, c], prompt: "say {{ item }}", continue_on_error: true}
  count:
    render: "{% for one in steps.say.all %}{{ one.key }} {{ one.status }};{% endfor %}"
"""
    )
    assert outcome.outputs == {"count": "a ok;b failed;c ok;"}
    assert outcome.exit_code == 0


def test_fail_fast_does_not_wait_for_what_is_under_way(bench, scripted):
    scripted(
        """\
        - {match: {text: slow}, delay: 30, answer: {text: late}}
        - {match: {text: bad}, fault: "400"}
        """
    )
    outcome = bench.run(
        HEAD + "steps:\n  slow: {prompt: slow}\n  bad: {prompt: bad}\n", fail_fast=True
    )
    assert outcome.exit_code == 1
    assert outcome.skipped == {"slow": "the run stopped when bad failed"}


def test_what_is_under_way_finishes_otherwise(bench, scripted):
    scripted(SLOW_AND_BAD)
    outcome = bench.run(HEAD + "steps:\n  slow: {prompt: slow}\n  bad: {prompt: bad}\n")
    assert outcome.results["slow"].text == "late"
    assert list(outcome.failures) == ["bad"]


def test_a_failure_all_would_share_stops_even_what_keeps_going(bench, scripted):
    scripted('- {match: {text: ask}, fault: "402"}\n')
    outcome = bench.run(
        HEAD + 'steps:\n  say: {for_each: [a, b, c], prompt: "ask {{ item }}"}\n',
        keep_going=True,
        concurrency=1,
    )
    assert len(bench.simulator.requests) == 1
    assert outcome.exit_code == 5
    stopped = "the run stopped when say[a] failed"
    assert outcome.skipped == {"say[b]": stopped, "say[c]": stopped}


SLOW_AND_BAD = """\
- {match: {text: slow}, delay: 0.3, answer: {text: late}}
- {match: {text: bad}, fault: "400"}
"""


def end_of(bench) -> RunFinished:
    [end] = [event for event in bench.events if isinstance(event, RunFinished)]
    return end


def test_what_needs_a_failed_step_is_not_held_back_also_if_it_needs_others(bench, scripted):
    scripted(SLOW_AND_BAD)
    outcome = bench.run(
        HEAD
        + """\
steps:
  slow: {prompt: slow}
  alone: {needs: [slow], prompt: alone}
  bad: {prompt: bad}
  both: {prompt: "{{ steps.alone.text }} {{ steps.bad.text }}"}
"""
    )
    assert outcome.skipped == {"alone": "the run stopped when bad failed", "both": "bad failed"}
    assert end_of(bench).held_back == 1


def test_a_loop_blocks_by_what_failed_in_it_not_by_what_was_held_back(bench, scripted):
    scripted(
        """\
        - {match: {text: one a}, delay: 0.3, answer: {text: late}}
        - {match: {text: two b}, fault: "400"}
        """
    )
    outcome = bench.run(
        HEAD
        + """\
steps:
  one: {for_each: [a, b], prompt: "one {{ item }}"}
  two: {for_each: steps.one, prompt: "two {{ item }} {{ source.text | length }}"}
  after: {prompt: "{{ steps.two.all | length }}"}
"""
    )
    stopped = "the run stopped when two[b] failed"
    assert outcome.skipped == {"two[a]": stopped, "after": "two[b] failed"}
    assert end_of(bench).held_back == 1


def test_a_whole_loop_that_the_run_does_not_come_to_is_held_back_and_counted(bench, scripted):
    scripted(SLOW_AND_BAD)
    outcome = bench.run(
        HEAD
        + """\
steps:
  slow: {prompt: slow}
  bad: {prompt: bad}
  next: {for_each: [x, y], prompt: "{{ item }} {{ steps.slow.text }}"}
"""
    )
    assert outcome.skipped == {"next": "the run stopped when bad failed"}
    end = end_of(bench)
    assert (end.held_back, end.done, end.instances, end.has_more) == (1, 1, 4, False)


REST = (
    HEAD
    + """\
steps:
  cut: {prompt: cut, retry: {attempts: 1}}
  bad: {prompt: bad}
  rest: {for_each: [x, y], prompt: "{{ item }}"}
"""
)


def test_one_server_that_was_not_reached_does_not_speak_for_another_failure(bench, scripted):
    scripted(
        """\
        - {match: {text: cut}, delay: 0.2, fault: reset}
        - {match: {text: bad}, delay: 0.2, fault: "400"}
        """
    )
    outcome = bench.run(REST, concurrency=2)
    assert sorted(outcome.failures) == ["bad", "cut"]
    assert end_of(bench).held_back == 2


def test_a_run_that_its_caller_stopped_would_not_have_kept_going(bench, scripted):
    scripted('- {match: {text: bad}, fault: "400"}\n')

    def stop() -> str:
        return "enough" if any(isinstance(one, StepFailed) for one in bench.events) else ""

    outcome = bench.run(REST.replace("cut", "fine"), concurrency=1, stop=stop)
    assert outcome.skipped == {"rest[x]": "enough", "rest[y]": "enough"}
    assert end_of(bench).held_back == 0


TOLERANT_ROWS = (
    HEAD
    + """\
steps:
  row: {for_each: [a, b, c], prompt: "row {{ item }}", continue_on_error: true}
  told: {render: "{{ steps.row.status }}", output: {save: told.txt}}
"""
)


@pytest.mark.parametrize(("status", "exit_code"), [("401", 5), ("402", 5)])
def test_what_every_step_would_meet_is_not_tolerated(bench, scripted, tmp_path, status, exit_code):
    scripted(f'- {{match: {{text: row}}, fault: "{status}"}}\n')
    outcome = bench.run(TOLERANT_ROWS, concurrency=1)
    assert (outcome.exit_code, len(bench.simulator.requests)) == (exit_code, 1)
    assert (list(outcome.failures), list(outcome.tolerated)) == (["row[a]"], [])
    assert not (tmp_path / "told.txt").exists()


def test_nor_is_the_end_of_a_budget_also_in_a_flow_that_is_used(bench, tmp_path):
    limits = "limits: {max_requests: 2}\n"
    outcome = bench.run(TOLERANT_ROWS + limits, concurrency=1)
    assert outcome.exit_code == 9
    assert (list(outcome.failures), list(outcome.tolerated)) == (["row[c]"], [])
    bench.write("rows.yaml", TOLERANT_ROWS.replace("row {{", "other {{"))
    flow = "poeflow: 1\nsteps:\n  all: {use: rows.yaml, continue_on_error: true}\n"
    outcome = bench.run(flow + limits, concurrency=1)
    assert outcome.exit_code == 9
    assert list(outcome.failures) == ["all/row[c]"]
    assert not (tmp_path / "told.txt").exists()


def test_what_one_bot_does_not_permit_is_tolerated(bench, scripted):
    scripted('- {match: {text: row}, fault: "403"}\n')
    outcome = bench.run(TOLERANT_ROWS)
    assert (outcome.exit_code, len(outcome.tolerated)) == (0, 3)


def test_a_run_that_keeps_going_goes_on_where_one_bot_is_not_permitted(bench, scripted):
    refusal = "{status: 403, message: this bot is private, type: permission_error}"
    scripted(f"- {{match: {{text: row}}, answer: {{error: {refusal}}}}}\n")
    flow = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
    flow += (
        "  private: {prompt: row}\n  other: {prompt: hi, needs: [first]}\n  first: {prompt: ho}\n"
    )
    outcome = bench.run(flow, concurrency=1, keep_going=True)
    assert (outcome.exit_code, list(outcome.failures)) == (5, ["private"])
    assert outcome.results.keys() == {"first", "other"}
