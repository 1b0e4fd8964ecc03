"""The lock proves what is current: with the cache, without it, and never by guessing."""

import json
import subprocess

import jsonschema
import pytest

from poeflow.errors import StaleError
from poeflow.events import StepFinished, Warned
from poeflow.flowfile.model import Limits
from poeflow.project.project import schemas_folder
from poeflow.simulator.server import Simulator
from poeflow.store.lock.entries import LockEntry
from poeflow.store.lockfile import LockFile

FLOW = """\
poeflow: 1
inputs: {words: {type: array, default: [cat, dog]}, tone: {default: dry}}
defaults: {model: GPT-5.2, params: {temperature: 0.5}}
steps:
  find: {prompt: "find {{ read('data.md') }} {{ inputs.tone }}"}
  say:
    for_each: inputs.words
    prompt: "say {{ item }} after {{ steps.find.text }}"
    output: {save: "out/{{ key }}.md"}
  more: {for_each: steps.say, prompt: "more on {{ source.text }}"}
  page:
    render: "{{ steps.more.all | map(attribute='text') | join(' ') }}"
    output: {save: out/page.md}
outputs: {page: "{{ steps.page.text }}"}
"""
ALL = ["find", "more[cat]", "more[dog]", "page", "say[cat]", "say[dog]"]


@pytest.fixture
def ran(bench):
    bench.write("data.md", "data")
    assert bench.run(FLOW).exit_code == 0
    return bench


def instances(bench) -> dict[str, LockEntry]:
    """Return what the lock has, by instance."""
    lock = LockFile(bench.folder / "a.lock.json", shown="a.lock.json").read()
    return dict(lock.instances)


def states(statuses) -> dict[str, str]:
    return {name: state for name, (state, _) in statuses.items()}


def test_after_a_run_everything_is_fresh_and_proven(ran):
    assert states(ran.states(FLOW)) == dict.fromkeys(ALL, "fresh")
    assert ran.locked() == []


def test_a_run_that_changes_nothing_leaves_the_lock_as_it_stands(ran):
    lock = ran.folder / "a.lock.json"
    before = lock.read_text()
    lock.write_text(json.dumps(json.loads(before), indent=1))
    by_hand = lock.read_bytes()
    assert ran.run(FLOW).exit_code == 0
    assert lock.read_bytes() == by_hand
    ran.run(FLOW.replace("more on", "even more on"))
    ran.run(FLOW)
    assert lock.read_text() == before, "what changed is laid out anew"


def test_a_lock_that_is_another_at_the_end_of_a_run_is_written(ran):
    lock = ran.folder / "a.lock.json"
    before = lock.read_bytes()
    ran.run(FLOW, listen=lambda _event: lock.unlink(missing_ok=True))
    assert lock.read_bytes() == before
    ran.run(FLOW, listen=lambda _event: lock.write_text("{}"))
    assert lock.read_bytes() == before


def test_a_broken_lock_is_written_anew_whatever_git_still_has_of_it(ran, git):
    lock = ran.folder / "a.lock.json"
    before = lock.read_bytes()
    stored = subprocess.run(
        ["git", "hash-object", "-w", "a.lock.json"],
        cwd=ran.folder, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    theirs = f"100644 {stored} 3\ta.lock.json\n"
    subprocess.run(
        ["git", "update-index", "--index-info"], cwd=ran.folder, input=theirs, text=True, check=True
    )
    lock.write_text("{broken")
    assert ran.run(FLOW).exit_code == 0
    assert lock.read_bytes() == before


def test_the_instances_of_used_flows_are_in_the_order_of_their_items(bench):
    bench.write("used.yaml", 'poeflow: 1\nsteps: {x: {render: "1"}, y: {render: "2"}}\n')
    flow = "poeflow: 1\nsteps: {u: {for_each: [a, b], use: used.yaml}}\n"
    bench.run(flow)
    inner = [one.id for one in bench.statuses(flow) if "/" in one.id]
    assert [name.partition("/")[0] for name in inner] == ["u[a]", "u[a]", "u[b]", "u[b]"]


def test_a_clean_clone_proves_it_without_any_answer(ran):
    asked = len(ran.simulator.requests)
    ran.forget_answers()
    assert states(ran.states(FLOW)) == dict.fromkeys(ALL, "fresh")
    assert ran.locked() == []
    assert len(ran.simulator.requests) == asked
    assert not (ran.folder / ".poeflow").exists(), "nothing is written"


def test_a_change_of_a_file_that_is_extended_makes_stale_what_extends_it(bench):
    flow = (
        "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
        "  a: {prompt: \"{% extends 'base.md' %}{% block b %}x{% endblock %}\"}\n"
        "  c: {prompt: y}\n"
    )
    bench.write("base.md", "{% extends 'root.md' %}")
    bench.write("root.md", "Say {% block b %}{% endblock %}")
    assert bench.run(flow).exit_code == 0
    assert states(bench.states(flow)) == {"a": "fresh", "c": "fresh"}
    bench.write("root.md", "Write {% block b %}{% endblock %}")
    assert bench.states(flow)["a"] == ("stale", ("file //root.md changed",))
    assert bench.states(flow)["c"][0] == "fresh"
    bench.forget_answers()
    assert bench.states(flow)["a"] == ("stale", ("file //root.md changed",))


def test_running_again_sends_nothing_and_leaves_lock_and_files_alone(ran):
    files = [ran.folder / "a.lock.json", *(ran.folder / "out").iterdir()]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    asked = len(ran.simulator.requests)
    ran.run(FLOW)
    assert len(ran.simulator.requests) == asked
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files} == before


def test_the_lock_fits_its_schema_and_holds_no_text(ran):
    text = (ran.folder / "a.lock.json").read_text()
    schema = json.loads((schemas_folder() / "lock.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    assert sorted(instances(ran)) == ALL
    assert "simulated" not in text
    assert "some-key" not in text


@pytest.mark.parametrize("with_cache", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("say {{ item }} after", "tell {{ item }} after", {"say[cat]": "prompt changed"}),
        ("temperature: 0.5", "temperature: 0.6", {"find": "params.temperature changed"}),
        ("model: GPT-5.2", "model: Grok-4", {"find": "model changed"}),
        ("default: dry", "default: warm", {"find": "input tone changed"}),
        ("default: [cat, dog]", "default: [cat, cow]", {"say[cow]": "the lock does not have it"}),
        ("join(' ')", "join('-')", {"page": "render changed"}),
    ],
)
def test_a_change_makes_stale_what_it_touches_and_says_why(ran, with_cache, old, new, wanted):
    if not with_cache:
        ran.forget_answers()
    statuses = ran.states(FLOW.replace(old, new))
    ((name, reason),) = wanted.items()
    assert reason in statuses[name][1]
    assert statuses[name][0] in ("new", "stale", *([] if with_cache else ["unknown"]))
    untouched = {"find"} - {name} if name != "find" else set()
    assert {statuses[one][0] for one in untouched} <= {"fresh", *([] if with_cache else ["needed"])}


@pytest.mark.parametrize("with_cache", [True, False])
def test_a_file_that_a_template_read_counts(ran, with_cache):
    if not with_cache:
        ran.forget_answers()
    ran.write("data.md", "other data")
    statuses = ran.states(FLOW)
    assert statuses["find"] == ("stale", ("file //data.md changed",))
    assert statuses["say[cat]"][0] == "unknown"
    assert statuses["say[cat]"][1][0] == "unknown until find has run"
    assert any("find: stale" in fault for fault in ran.locked())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("find: {prompt", "# a comment\n  find: {description: other, prompt"),
        ("find: {prompt", "find: {timeout: 9s, retry: {attempts: 2}, stream: false, prompt"),
        ("{temperature: 0.5}", '{"temperature": 0.5}'),
        ("say {{ item }} after", "say {{ item }}{# why #} after"),
    ],
)
def test_what_changes_no_request_changes_nothing(ran, old, new):
    statuses = ran.states(FLOW.replace(old, new))
    assert states(statuses) == dict.fromkeys(ALL, "fresh")


def test_a_file_with_another_name_and_the_same_text_sends_the_same(ran):
    ran.write("renamed.md", "data")
    changed = FLOW.replace("data.md", "renamed.md")
    assert states(ran.states(changed)) == dict.fromkeys(ALL, "fresh")


def test_the_same_answer_to_a_changed_question_leaves_the_rest_fresh(bench, scripted):
    scripted("- {match: {text: find}, answer: {text: it}}\n")
    bench.write("data.md", "data")
    bench.run(FLOW)
    changed = FLOW.replace('prompt: "find', 'prompt: "find out')
    outcome = bench.run(changed)
    asked = {name for name, result in outcome.results.items() if result.source == "asked"}
    assert asked == {"find"}


def test_a_deleted_file_comes_back_without_a_call(ran):
    asked = len(ran.simulator.requests)
    before = (ran.folder / "out/cat.md").read_bytes()
    (ran.folder / "out/cat.md").unlink()
    assert ran.states(FLOW)["say[cat]"] == ("missing", ("out/cat.md is missing",))
    ran.run(FLOW)
    assert (ran.folder / "out/cat.md").read_bytes() == before
    assert len(ran.simulator.requests) == asked


def test_an_edited_file_is_kept_and_told_of(ran):
    (ran.folder / "out/cat.md").write_text("my own words\n")
    assert ran.states(FLOW)["say[cat]"] == ("edited", ("out/cat.md was edited",))
    assert ran.locked() == ["say[cat]: edited: out/cat.md was edited"]
    assert ran.run(FLOW).exit_code == 0
    assert (ran.folder / "out/cat.md").read_text() == "my own words\n"


def test_an_edited_file_is_not_replaced_by_another_answer(ran):
    (ran.folder / "out/cat.md").write_text("my own words\n")
    changed = FLOW.replace("say {{ item }} after", "tell {{ item }} after")
    outcome = ran.run(changed)
    assert str(outcome.failures["say[cat]"]) == (
        "//out/cat.md was edited since poeflow wrote it; "
        "keep it with `poeflow accept`, or replace it with --force"
    )
    assert (ran.folder / "out/cat.md").read_text() == "my own words\n"
    assert ran.run(changed, force=True).exit_code == 0
    assert (ran.folder / "out/cat.md").read_text() != "my own words\n"


@pytest.mark.parametrize("change", [lambda t: t.replace("\n", "\r\n"), lambda t: t + "\n \n"])
def test_what_a_formatter_does_is_no_edit(ran, change):
    path = ran.folder / "out/cat.md"
    path.write_bytes(change(path.read_text()).encode())
    assert ran.locked() == []


def test_a_change_of_a_schema_in_a_file_makes_stale_what_has_it(bench):
    flow = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
    flow += "  a: {prompt: x, output: {schema: {file: a.json}}}\n  b: {prompt: y}\n"
    bench.write("a.json", '{"type": "array"}')
    assert bench.run(flow).exit_code == 0
    bench.write("a.json", '{"type": "object"}')
    assert bench.states(flow)["a"] == ("stale", ("file //a.json changed",))
    assert bench.states(flow)["b"][0] == "fresh"


def test_a_step_that_is_gone_leaves_the_lock(ran):
    shorter = FLOW.replace(FLOW[FLOW.index("  more:") : FLOW.index("  page:")], "").replace(
        "steps.more.all", "steps.say.all"
    )
    assert ran.states(shorter)["more[cat]"] == ("stale", ("it is not in the flow any more",))
    ran.run(shorter)
    assert list(instances(ran)) == ["find", "page", "say[cat]", "say[dog]"]


def test_a_failed_step_keeps_what_the_lock_had_of_it(ran, scripted):
    before = instances(ran)
    scripted('- {match: {text: tell}, fault: "400"}\n')
    ran.run(FLOW.replace("say {{ item }} after", "tell {{ item }} after"))
    after = instances(ran)
    assert {name: after[name] for name in ALL if name != "find"} == {
        name: before[name] for name in ALL if name != "find"
    }


def test_a_merge_that_was_not_resolved_is_by_a_run_without_paying(ran):
    path = ran.folder / "a.lock.json"
    good = path.read_bytes()
    path.write_bytes(b"<<<<<<< HEAD\n" + good + b"=======\n>>>>>>> other\n")
    assert "has conflict marks" in ran.locked()[0]
    asked = len(ran.simulator.requests)
    ran.run(FLOW)
    assert path.read_bytes() == good
    assert len(ran.simulator.requests) == asked


APART = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  alpha: {prompt: alpha}

  # between

  beta: {prompt: beta}
"""


def test_two_branches_that_touched_different_steps_merge(bench, git):
    bench.run(APART)
    git("add", "a.yaml", "a.lock.json")
    git("commit", "-qm", "base")
    git("checkout", "-qb", "one")
    bench.run(APART.replace("prompt: alpha", "prompt: alpha one"))
    git("commit", "-qam", "one")
    git("checkout", "-q", "main")
    bench.run(APART.replace("prompt: beta", "prompt: beta two"))
    git("commit", "-qam", "two")
    git("merge", "-q", "-m", "merged", "one")
    assert bench.locked() == []


def test_other_inputs_are_not_those_of_the_lock(ran):
    ran.write("a.inputs.yaml", "tone: warm\n")
    assert ran.locked()[0] == "the inputs are not those of the lock"


@pytest.mark.parametrize("with_cache", [True, False])
def test_another_server_is_a_reason_of_its_own(ran, with_cache):
    if not with_cache:
        ran.forget_answers()
    here = ran.simulator.base_url
    (state, reasons) = ran.states(FLOW, environ={})["find"]
    assert (state, reasons) == ("stale", (f"made at {here}, now at the provider's own address",))
    other = "http://127.0.0.1:9/v1"
    assert ran.states(FLOW, environ={"POE_BASE_URL": other})["find"][1] == (
        f"made at {here}, now at {other}",
    )


def test_inputs_by_hand_write_no_lock_and_a_file_of_them_its_own(ran):
    before = (ran.folder / "a.lock.json").read_bytes()
    ran.run(FLOW, inputs={"tone": "warm"})
    assert (ran.folder / "a.lock.json").read_bytes() == before
    ran.write("sets/warm.yaml", "tone: warm\n")
    ran.run(FLOW, inputs_file=ran.folder / "sets/warm.yaml")
    assert (ran.folder / "a.warm.lock.json").exists()
    assert ran.locked(inputs_file=ran.folder / "sets/warm.yaml") == []


def test_a_simulated_run_proves_nothing(bench):
    bench.write("data.md", "data")
    bench.run(FLOW, offline=True)
    assert not (bench.folder / "a.lock.json").exists()
    assert bench.locked() == ["a.lock.json does not exist; run the flow and commit it"]
    assert bench.locked(offline=True) == []


def test_an_answer_that_is_not_here_is_asked_again_only_where_it_is_needed(ran):
    ran.forget_answers()
    asked = len(ran.simulator.requests)
    changed = FLOW.replace("join(' ')", "join('-')")
    reason = "page needs its answer, which is not here"
    assert ran.states(changed) == {
        **dict.fromkeys(ALL, ("fresh", ())),
        **dict.fromkeys(["more[cat]", "more[dog]"], ("needed", (reason,))),
        "page": ("unknown", ("unknown until more[cat] has run", "render changed")),
    }
    assert [status.calls for status in ran.statuses(changed)] == [0, 0, 0, 1, 1, 0]
    ran.run(changed)
    sent = ran.prompts()[asked:]
    assert sorted(text.split()[0] for text in sent) == ["more", "more"]


def test_what_is_needed_again_is_asked_side_by_side(bench):
    flow = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  many: {for_each: range(4), prompt: "say {{ item }}"}
  all: {render: "{{ steps.many.all | map(attribute='text') | join }}"}
"""
    bench.run(flow)
    bench.forget_answers()
    with Simulator(latency=0.1) as simulator:
        bench.simulator = simulator
        outcome = bench.run(flow.replace("| join", "| join('-')"), concurrency=3)
        assert len(simulator.requests) == 4
        assert simulator.peak_concurrency == 3
    finished = [event for event in bench.events if isinstance(event, StepFinished)]
    asked = [event.seconds for event in finished if event.source == "asked"]
    assert min(asked) > 0.1
    assert outcome.results["all"].text.count("-") >= 3


CLONED = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  many: {for_each: range(5), prompt: "say {{ item }}"}
  page: {prompt: page, output: {save: page.md}}
"""


@pytest.mark.parametrize(
    ("outputs", "shown", "absent"),
    [
        ("", ["page"], 5),
        (
            'outputs: {all: "{{ steps.many.all | tojson }}", page: "{{ steps.page.text }}"}',
            ["page"],
            5,
        ),
        ('outputs: {page: "{{ steps.page.text }}"}', ["page"], 0),
        ('outputs: {status: "{{ steps.many.status }}"}', ["status"], 0),
    ],
)
@pytest.mark.parametrize("line_ends", ["\n", "\r\n"])
def test_what_is_current_is_not_asked_again_to_be_printed(bench, outputs, shown, absent, line_ends):
    flow = CLONED + outputs
    first = bench.run(flow)
    page = bench.folder / "page.md"
    page.write_bytes(page.read_bytes().replace(b"\n", line_ends.encode()))
    bench.forget_answers()
    asked = len(bench.simulator.requests)
    assert {state for state, _ in bench.states(flow).values()} == {"fresh"}
    again = bench.run(flow)
    assert (again.exit_code, len(bench.simulator.requests)) == (0, asked)
    assert again.outputs == {name: first.outputs[name] for name in shown}
    assert len(again.absent) == absent
    warnings = [e.message for e in bench.events if isinstance(e, Warned)]
    assert warnings == [ABSENT] * bool(absent)


ABSENT = (
    "5 instances are current, and their answers are not here: many[0], many[1], many[2] and 2 more;"
    " nothing is paid for to print them; --refresh asks again"
)


def test_a_step_of_a_part_shows_what_it_has_and_asks_for_nothing(bench):
    first = bench.run(CLONED)
    asked = len(bench.simulator.requests)
    assert bench.run(CLONED, steps=("many[3]",), only=True).outputs == {
        "many": first.outputs["many"]["3"]
    }
    bench.forget_answers()
    assert bench.run(CLONED, steps=("page",), only=True).outputs == {"page": first.outputs["page"]}
    cloned = bench.run(CLONED, steps=("many[3]",), only=True)
    assert (cloned.outputs, cloned.absent) == ({}, ("many[3]",))
    assert len(bench.simulator.requests) == asked


def test_a_skipped_step_is_locked_as_skipped(bench):
    flow = (
        "poeflow: 1\ninputs: {go: {type: boolean, default: false}}\n"
        "steps: {a: {if: inputs.go, render: x}, b: {render: y}}\n"
    )
    bench.run(flow)
    assert states(bench.states(flow)) == {"a": "skipped", "b": "fresh"}
    assert bench.locked() == []
    changed = flow.replace("default: false", "default: true")
    assert bench.states(changed)["a"][0] == "stale"


def test_a_used_flow_is_proven_with_its_own_instances(bench):
    bench.write(
        "child.yaml",
        "poeflow: 1\ninputs: {t: {}}\ndefaults: {model: GPT-5.2}\n"
        'steps: {draft: {prompt: "draft {{ inputs.t }}"}}\n',
    )
    flow = (
        'poeflow: 1\nsteps: {about: {for_each: [a, b], use: child.yaml, with: {t: "{{ item }}"}}}\n'
    )
    bench.run(flow)
    bench.forget_answers()
    assert set(states(bench.states(flow)).values()) == {"fresh"}
    assert bench.locked() == []
    text = (bench.folder / "child.yaml").read_text().replace("draft {{", "redraft {{")
    bench.write("child.yaml", text)
    assert bench.states(flow)["about[a]/draft"] == ("stale", ("prompt changed",))


@pytest.mark.parametrize(
    "lock", ['{"poeflow_lock": 0}', '{"poeflow_lock": ', '{"a": ' * 2_000], ids=len
)
def test_what_is_no_lock_is_told_of(ran, lock):
    (ran.folder / "a.lock.json").write_text(lock)
    with pytest.raises(StaleError, match="is not a lock this version can read"):
        ran.states(FLOW)
    assert "is not a lock this version can read" in ran.locked()[0]


def test_the_lock_of_a_newer_poeflow_is_left_alone(ran):
    newer = '{"poeflow_lock": 9, "instances": [], "more": 1}'
    (ran.folder / "a.lock.json").write_text(newer)
    told = "a.lock.json has the format 9 of a newer poeflow; update poeflow"
    for way in (ran.run, ran.statuses, ran.accept):
        with pytest.raises(StaleError) as raised:
            way(FLOW)
        assert str(raised.value) == told
    assert ran.locked() == [told]
    assert (ran.folder / "a.lock.json").read_text() == newer


def test_a_budget_of_nothing_is_enough_for_what_is_current(ran):
    assert ran.run(FLOW, limits=Limits(max_requests=0)).exit_code == 0


def test_an_ignored_file_may_be_missing(bench):
    flow = "poeflow: 1\nsteps: {a: {render: x, output: {save: a.md, tracked: false}}}\n"
    bench.run(flow)
    (bench.folder / "a.md").unlink()
    assert bench.locked() == []
    bench.write("a.md", "edited")
    assert bench.locked() == ["a: edited: a.md was edited"]


def test_the_most_calls_count_samples_repairs_and_judges(bench):
    flow = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  plain: {prompt: one}
  much:
    prompt: two
    samples: 3
    output: {one_of: [a, b], repair: 2}
    expect: [{judge: {rubric: good}}]
"""
    statuses = {status.id: status for status in bench.statuses(flow)}
    assert (statuses["plain"].calls, statuses["plain"].most_calls) == (1, 1)
    assert (statuses["much"].calls, statuses["much"].most_calls) == (3, 3 * (1 + 2 + 3 * 2)), (
        "a judge may be asked twice of each answer"
    )
