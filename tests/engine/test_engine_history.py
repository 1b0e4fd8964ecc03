"""What a run leaves in the history: itself, its instances, and every request that was sent."""

import os

import pytest

from poeflow.records import RequestRow, RunFilter
from poeflow.store.history import History

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
inputs: {topic: {default: otters}}
steps:
  draft: {prompt: "on {{ inputs.topic }}", output: {save: out.md}}
  page: {render: "<{{ steps.draft.text }}>"}
"""


@pytest.fixture
def history(bench):
    return History(bench.folder / ".poeflow" / "poeflow.db", warn=pytest.fail)


def only(rows: tuple[RequestRow, ...]) -> RequestRow:
    (row,) = rows
    return row


def test_a_run_with_its_instances_and_requests(bench, history):
    outcome = bench.run(FLOW)
    (run,) = history.runs(RunFilter())
    assert (run.record.flow, run.record.name, run.record.simulated) == ("//a.yaml", "a", False)
    assert run.record.inputs == {"topic": "otters"}
    assert run.record.steps == {"draft": (), "page": ("draft",)}
    assert run.record.commit is None
    assert run.end is not None
    assert (run.end.exit_code, run.end.asked, run.end.rendered, run.end.requests) == (0, 1, 1, 1)
    assert run.end.outputs == outcome.outputs
    draft, page = history.instances(run.id)
    assert (draft.id, draft.step, draft.status, draft.source) == ("draft", "draft", "ok", "asked")
    assert draft.text == outcome.results["draft"].text
    assert draft.request is not None
    assert draft.request["body"]["messages"] == [{"role": "user", "content": "on otters"}]
    assert list(draft.files) == ["//out.md"]
    assert (page.source, page.request) == ("rendered", None)
    row = only(history.requests(run.id, "draft"))
    assert (row.record.model, row.record.provider) == ("GPT-5.2", "poe")
    assert row.record.fingerprint == draft.fingerprint
    assert row.answer is not None
    assert row.answer.answer["choices"][0]["message"]["content"] == draft.text
    assert row.answer.completion_tokens == draft.completion_tokens


def test_a_run_out_of_the_cache_sent_nothing_and_still_tells_what_it_holds(bench, history):
    bench.run(FLOW)
    bench.run(FLOW)
    again, first = history.runs(RunFilter())
    assert history.requests(again.id) == ()
    before, after = (history.instances(run.id)[0] for run in (first, again))
    assert (after.source, after.text, after.request) == ("cached", before.text, before.request)
    taken = ("model", "response_id", "prompt_tokens", "completion_tokens", "fingerprint")
    assert [getattr(after, one) for one in taken] == [getattr(before, one) for one in taken]


def test_a_refused_request_keeps_its_error(bench, history, scripted):
    scripted('- {match: {text: otters}, fault: "400"}')
    assert bench.run(FLOW).exit_code == 1
    (run,) = history.runs(RunFilter(state="failed"))
    draft, page = history.instances(run.id)
    assert (draft.status, page.status, page.reason) == ("failed", "skipped", "draft failed")
    row = only(history.requests(run.id))
    assert row.answer is not None
    assert (row.answer.answer, row.answer.error_class) == (None, "failed")
    assert draft.reason == row.answer.error


def test_an_answer_that_is_not_as_expected_is_kept_with_the_verdict(bench, history):
    flow = FLOW.replace("output: {save: out.md}", "expect: [{contains: zebra}]")
    bench.run(flow)
    (run,) = history.runs(RunFilter())
    draft = history.instances(run.id)[0]
    assert (draft.status, draft.source) == ("failed", "asked")
    assert draft.text
    assert [verdict["kind"] for verdict in draft.verdicts] == ["contains"]


@pytest.mark.parametrize("samples", ["", ", samples: 2"])
def test_the_instance_of_a_loop_whose_answer_is_not_as_expected_keeps_its_key(
    bench, history, samples
):
    step = (
        f"prompt: 'on {{{{ item }}}}', for_each: [ada, bo], expect: [{{contains: zebra}}]{samples}"
    )
    bench.run(
        f"poeflow: 1\ndefaults: {{model: GPT-5.2}}\nsteps: {{a: {{{step}}}}}\n", keep_going=True
    )
    (run,) = history.runs(RunFilter())
    found = sorted((one.id, one.key, one.status) for one in history.instances(run.id))
    assert found == [("a[ada]", "ada", "failed"), ("a[bo]", "bo", "failed")]


def test_an_instance_has_the_requests_of_all_its_samples_and_judges(bench, history):
    flow = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say: {for_each: [a], prompt: x, samples: 2, expect: [{judge: {rubric: g, threshold: 0.0}}]}
  say_more: {prompt: y}
"""
    outcome = bench.run(flow)
    (run,) = history.runs(RunFilter())
    rows = history.requests(run.id, "say[a]")
    assert {row.record.instance for row in rows} == {"say[a]#1", "say[a]#2"}
    assert sorted(row.record.purpose for row in rows) == ["answer", "answer", "judge"], (
        "both samples are the same, and so is what the judge is asked"
    )
    instances = {one.id: one for one in history.instances(run.id)}
    answers = [row.answer for row in rows if row.answer is not None]
    assert instances["say[a]"].prompt_tokens == sum(one.prompt_tokens or 0 for one in answers)
    assert run.end is not None
    assert run.end.requests == sum(one.sends for one in answers) + 1
    assert run.end.tokens == outcome.spent.tokens
    assert run.counts == run.end


def test_the_commit_is_kept(bench, history, git):
    bench.write("a.yaml", FLOW)
    bench.write(".gitignore", ".poeflow/\nout.md\n*.lock.json\n")
    git("init", "-q")
    git("add", "a.yaml", ".gitignore")
    git("commit", "-q", "-m", "one")
    environ = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": bench.simulator.base_url}
    environ["PATH"] = os.environ["PATH"]
    bench.run(FLOW, environ=environ)
    bench.run(FLOW + "  more: {render: more}\n", environ=environ)
    dirty, clean = (run.record for run in history.runs(RunFilter()))
    assert (clean.is_dirty, dirty.is_dirty) == (False, True)
    assert clean.commit == dirty.commit
    assert len(clean.commit or "") == 40


def test_no_secret_reaches_the_history(bench, history):
    key = "some-key-12345"
    bench.run(FLOW, inputs={"topic": f"the key {key}"})
    (run,) = history.runs(RunFilter())
    assert run.record.inputs["topic"] == "the key [key]"
    draft = history.instances(run.id)[0]
    assert (draft.status, draft.request, history.requests(run.id)) == ("failed", None, ())
    files = [p for p in (bench.folder / ".poeflow").iterdir() if p.name.startswith("poeflow.db")]
    assert files
    assert all(key.encode() not in path.read_bytes() for path in files)


def test_what_failed_in_the_last_run_is_asked_again(bench):
    flow = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  good: {prompt: one}
  bad: {for_each: [x, y], prompt: "{{ item }}", expect: [{contains: "\\"x\\""}]}
"""
    assert bench.run(flow, keep_going=True).exit_code == 1
    assert len(bench.prompts()) == 3
    bench.run(flow, keep_going=True)
    assert len(bench.prompts()) == 3, "a stored answer is judged again, not asked again"
    bench.run(flow, keep_going=True, failed=True)
    assert bench.prompts()[3:] == ["y"]
    bench.run(flow.replace(', expect: [{contains: "\\"x\\""}]', ""))
    bench.run(flow.replace(', expect: [{contains: "\\"x\\""}]', ""), failed=True)
    assert len(bench.prompts()) == 4, "nothing failed in the last run"
