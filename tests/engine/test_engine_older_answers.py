"""Answers asked again on another branch: the history has those that this one's lock has."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable

import pytest
from stored_answers import STORE

from poeflow.digest import decode_json, encode_json
from poeflow.operations.check import checkup
from poeflow.operations.lock_repair import fill_lock
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project
from poeflow.store.contents import content_hash, packed, unpacked

OTHERWISE = """\
- {answer: {template: "[V{{ nth }}] {{ prompt }}"}}
"""
FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a: {prompt: on otters}
  c: {prompt: "page of {{ steps.a.text }}", output: {save: page.md}}
"""
CHANGED = FLOW.replace("page of", "more of")
NOT_IT = {"its stored answer is not the one the lock has; it is not used"}


@pytest.fixture
def branches(bench, git, scripted):
    """A function that runs a flow on main, asks its step a again on another branch, and goes back.

    It returns one that returns the last messages of the requests since the last call.
    """

    def begin(flow: str, *, rules: str = OTHERWISE) -> Callable[[], list[str]]:
        bench.write(".gitignore", ".poeflow\nrules.yaml\n")
        scripted(rules)
        assert bench.run(flow).exit_code == 0
        git("add", "-A")
        git("commit", "-qm", "main")
        git("checkout", "-qb", "try")
        assert bench.run(flow, refresh=True, until=True, steps=("a",)).exit_code == 0
        git("add", "-A")
        git("commit", "-qm", "try", "--allow-empty")
        git("checkout", "-q", "main")
        seen = [len(bench.prompts())]

        def asked() -> list[str]:
            found = bench.prompts()[seen[0] :]
            seen[0] += len(found)
            return found

        return asked

    return begin


def warned(bench) -> list[str]:
    return [event.message for event in bench.events if type(event).__name__ == "Warned"]


def alter_history(bench, before: str, after: str) -> int:
    """Alter what any stored answer says, with the hash that fits; return how many did."""
    count = 0
    with contextlib.closing(sqlite3.connect(bench.folder / STORE)) as connection, connection:
        rows = connection.execute("SELECT id, body FROM contents WHERE kind = 'completion'")
        for number, body in rows.fetchall():
            answer = decode_json(unpacked(body))
            message = answer["choices"][0]["message"]
            if not message["content"].startswith(before):
                continue
            message["content"] = after
            data = encode_json(answer)
            new = content_hash("completion", (data,)), packed((data,), len(data)), number
            connection.execute("UPDATE contents SET hash = ?, body = ? WHERE id = ?", new)
            count += 1
    return count


def test_each_branch_has_its_own_answer(bench, git, branches):
    asked = branches(FLOW)
    assert bench.states(FLOW) == {"a": ("fresh", ()), "c": ("fresh", ())}
    assert bench.states(CHANGED) == {"a": ("fresh", ()), "c": ("stale", ("prompt changed",))}
    assert (bench.run(CHANGED).exit_code, warned(bench)) == (0, [])
    assert asked() == ["more of [V1] on otters"]
    assert bench.locked() == []
    git("checkout", "-qf", "try")
    assert bench.run(CHANGED).exit_code == 0
    assert asked() == ["more of [V3] on otters"]


@pytest.mark.parametrize(
    "step",
    [
        "a: {prompt: on otters, expect: [{contains: otters}]}",
        "a: {prompt: on otters, samples: 2}",
        "a: {prompt: on otters, repeat: {max: 2, until: output.text}}",
        "a: {prompt: on otters, output: {repair: 2, reasoning: keep}}",
    ],
)
def test_whatever_the_step_does_with_its_answer(bench, branches, step):
    flow = FLOW.replace("a: {prompt: on otters}", step)
    asked = branches(flow)
    assert bench.run(flow.replace("page of", "more of")).exit_code == 0
    assert asked() == ["more of [V1] on otters"]


def test_verdicts_that_are_read_are_those_on_the_answer_of_the_lock(bench, branches):
    flow = FLOW.replace("on otters}", "on otters, expect: [{contains: V1, level: warn}]}")
    flow = flow.replace("steps.a.text }}", "steps.a.text }} {{ steps.a.passed | tojson }}")
    asked = branches(flow)
    changed = flow.replace("page of", "more of")
    assert bench.states(changed)["a"] == ("fresh", ())
    assert bench.run(changed).exit_code == 0
    assert asked() == ["more of [V1] on otters true"]


def test_a_request_that_is_written_another_way(bench, branches):
    flow = FLOW.replace("on otters}", "on otters, output: {save: a.md}}")
    asked = branches(flow)
    (bench.folder / "a.md").unlink()
    other = flow.replace("prompt: on otters", "prompt: \"{{ 'on' }} otters\"")
    assert bench.states(other)["c"][0] == "fresh"
    assert (bench.run(other).exit_code, warned(bench), asked()) == (0, [], [])
    assert (bench.folder / "a.md").read_text() == "[V1] on otters\n"
    assert bench.locked() == []


def test_a_conversation_that_goes_on(bench, branches):
    flow = FLOW.replace("page of {{ steps.a.text }}", "and now").replace("c: {", "c: {history: a, ")
    asked = branches(flow)
    assert bench.run(flow.replace("and now", "and then")).exit_code == 0
    messages = bench.simulator.requests[-1].json["messages"]
    assert [one["content"] for one in messages] == ["on otters", "[V1] on otters", "and then"]
    assert asked() == ["and then"]


CORRECTED = """\
- {match: {text: on otters, nth: 1}, answer: {text: no JSON}}
- {match: {text: on otters, nth: 2}, answer: {text: '{"a": 2}'}}
- {match: {text: page of}, answer: {text: page}}
- {match: {text: more of}, answer: {text: page}}
- {answer: {text: '{"a": 1}'}}
"""


@pytest.mark.parametrize("save", ["", ", save: a.json"])
def test_the_end_of_a_conversation(bench, git, branches, save):
    flow = FLOW.replace("on otters}", f"on otters, output: {{format: json, repair: 2{save}}}}}")
    flow = flow.replace("steps.a.text", "steps.a.data.a")
    asked = branches(flow, rules=CORRECTED)
    if save:
        (bench.folder / "a.json").unlink()
    assert bench.run(flow.replace("page of", "more of")).exit_code == 0
    assert asked() == ["more of 1"]
    assert not save or '"a": 1' in (bench.folder / "a.json").read_text()
    git("checkout", "-qf", "try")
    assert bench.run(flow.replace("page of", "more of")).exit_code == 0
    assert asked() == ["more of 2"]


NUMBERED = """\
- {match: {text: on otters}, answer: {template: '{"a": {{ nth }}}'}}
- {answer: {text: page}}
"""


def test_the_end_of_an_older_conversation_does_not_answer_its_first_request(bench, branches):
    flow = FLOW.replace("on otters}", "on otters, output: {format: json, repair: 1}}")
    flow = flow.replace("steps.a.text", "steps.a.data.a")
    asked = branches(flow, rules=CORRECTED)
    expected = "expect: [{that: output.data.a > 1}]"
    more = flow.replace("prompt: on otters,", f"prompt: on otters, {expected},")
    assert bench.run(more).exit_code == 0
    assert asked() == ["page of 2"]


def test_an_answer_in_a_format(bench, git, branches):
    """Of its result the history has no answer, word for word."""
    flow = FLOW.replace("on otters}", "on otters, output: {format: json}}")
    flow = flow.replace("steps.a.text", "steps.a.data.a")
    asked = branches(flow, rules=NUMBERED)
    changed = flow.replace("page of", "more of")
    assert bench.run(changed).exit_code == 0
    assert asked() == ["more of 1"]
    git("checkout", "-qf", "try")
    assert bench.run(changed).exit_code == 0
    assert asked() == ["more of 2"]


def test_the_answer_of_a_fallback_model(bench, branches):
    rules = "- {match: {model: Gone}, answer: {error: {status: 404}}}\n" + OTHERWISE
    flow = FLOW.replace("prompt: on", "model: Gone, fallback: [GPT-5.2], prompt: on")
    asked = branches(flow, rules=rules)
    assert bench.run(flow.replace("page of", "more of")).exit_code == 0
    assert asked() == ["more of [V1] on otters"]


def test_a_lock_is_filled_from_it(bench, branches):
    """An entry is proven though what its answer is judged by was changed."""
    flow = FLOW.replace("on otters}", "on otters, expect: [{contains: otters}]}")
    asked = branches(flow)
    changed = flow.replace("contains: otters", "contains: on")
    bench.write("a.yaml", changed)
    found = checkup(Project(bench.folder), "//a.yaml", "a.yaml")
    environ = {"POE_BASE_URL": bench.simulator.base_url}
    options = RunOptions(environ=environ, folder=bench.folder)
    filled = asyncio.run(fill_lock(found, options))
    assert (filled.filled, filled.remaining, bench.locked()) == (("a",), (), [])
    assert (bench.run(changed).exit_code, asked()) == (0, [])


def test_an_answer_that_nothing_can_read_leaves_the_one_before(bench, scripted):
    """A lock that proves a step current says of which answer."""
    scripted("""\
    - {match: {text: on otters, nth: 1}, answer: {text: '{"a": 1}'}}
    - {answer: {text: no JSON}}
    """)
    flow = FLOW.replace("on otters}", "on otters, output: {format: json}}")
    flow = flow.replace("steps.a.text", "steps.a.data.a")
    assert bench.run(flow).exit_code == 0
    assert bench.run(flow, refresh=True, until=True, steps=("a",)).exit_code == 1
    changed = flow.replace("page of", "more of")
    assert bench.states(changed) == {"a": ("fresh", ()), "c": ("stale", ("prompt changed",))}
    assert bench.run(changed).exit_code == 0
    assert bench.prompts()[-1] == "more of 1"


def test_an_older_answer_that_somebody_altered_is_not_taken(bench, branches):
    asked = branches(FLOW)
    assert alter_history(bench, "[V1] on", "of a stranger") == 1
    assert bench.states(CHANGED)["a"][0] == "needed"
    assert bench.run(CHANGED).exit_code == 0
    assert {*warned(bench)} == NOT_IT
    assert asked() == ["on otters", "more of [V4] on otters"]


def test_older_answers_cannot_be_read(bench, branches):
    """Whatever the records hold, the answer is asked for as if there were none."""
    asked = branches(FLOW)
    with contextlib.closing(sqlite3.connect(bench.folder / STORE)) as connection, connection:
        connection.execute("UPDATE requests SET record = '{', request = 0")
        connection.execute("UPDATE instances SET record = '['")
    assert bench.run(CHANGED).exit_code == 0
    assert asked() == ["on otters", "more of [V4] on otters"]


def test_answers_of_trials_without_a_key_are_not_taken_for_real_ones(bench, branches):
    branches(FLOW)
    with contextlib.closing(sqlite3.connect(bench.folder / STORE)) as connection, connection:
        connection.execute("UPDATE runs SET simulated = 1")
    assert bench.states(CHANGED)["a"][0] == "needed"
