"""Loops without items, and loops that are skipped whole: a clone proves them without an answer."""

import json

import pytest

from poeflow.operations.lock_repair import merged
from poeflow.store.lockfile import Lock, LockFile

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
LIST = "  list: {prompt: list, output: {format: json}}\n"
FIX = "  fix: {for_each: steps.list.data, prompt: 'fix {{ item }}'}\n"
PAGE = "  page: {render: '{{ steps.fix.all | length }}'}\n"
OTHER = "  other: {prompt: other}\n"
CHECK = "  check: {for_each: steps.fix, prompt: '{{ source.text }} {{ steps.other.text }}'}\n"
NONE = "  fix: {for_each: [], prompt: 'fix {{ item }} {{ steps.other.text }}'}\n"
MATRIX = "  fix: {matrix: {axes: {a: steps.list.data, b: [1, 2]}}, prompt: '{{ matrix.a }}'}\n"
KEPT = "  fix: {for_each: {in: steps.list.data, where: item != 'a'}, prompt: '{{ item }}'}\n"
IF = "  fix: {if: steps.list.data, for_each: steps.list.data, prompt: 'fix {{ item }}'}\n"
SAVED = IF.replace("}}'}", "}}', output: {save: 'out/{{ item }}.md'}}")
USED = "  fix: {use: child.yaml, with: {tags: '{{ steps.list.data }}'}}\n"
INNER = "  fix: {use: inner.yaml}\n"
OUTPUTS = "  page: {render: '{{ steps.fix.outputs | tojson }}'}\n"
CHILD = """\
poeflow: 1
inputs: {tags: {type: array}}
defaults: {model: GPT-5.2}
steps:
  n: {for_each: inputs.tags, prompt: "tag {{ item }}"}
  r: {render: "{{ steps.n.all | length }}"}
"""
FLOWS = {
    "alone": HEAD + LIST + FIX,
    "read": HEAD + LIST + FIX + PAGE,
    "chain": HEAD + LIST + FIX + OTHER + CHECK + PAGE,
    "matrix": HEAD + LIST + MATRIX + PAGE,
    "where": HEAD + LIST + KEPT + PAGE,
    "literal": HEAD + OTHER + NONE + PAGE,
    "literal chain": HEAD + OTHER + NONE.replace(" {{ steps.other.text }}", "") + CHECK,
    "skipped": HEAD + LIST + IF + PAGE,
    "skipped, saved": HEAD + LIST + SAVED + PAGE,
    "skipped chain": HEAD + LIST + IF + OTHER + CHECK + PAGE,
    "passed": HEAD + LIST + USED + OUTPUTS,
    "within": HEAD + INNER + OUTPUTS,
}
ITEM = "- {match: {text: list}, answer: {json: [a]}}\n"
NO_ITEM = ITEM.replace("[a]", "[]")
MORE = '- {match: {}, answer: {template: "heard {{ prompt }}"}}\n'


@pytest.fixture
def empty(bench, scripted):
    """Return a project whose list is empty."""
    scripted(NO_ITEM + MORE)
    bench.write("child.yaml", CHILD)
    bench.write("inner.yaml", HEAD + LIST + FIX + PAGE)
    return bench


def lock(bench):
    return json.loads((bench.folder / "a.lock.json").read_bytes())


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_a_clone_proves_all_and_asks_nothing(empty, scripted, flow):
    if "where" in flow:
        scripted(ITEM + MORE)
    assert empty.run(flow).exit_code == 0
    assert empty.locked() == []
    before, sent = lock(empty), len(empty.prompts())
    empty.forget_answers()
    assert empty.locked() == []
    assert {state for state, _ in empty.states(flow).values()} <= {"fresh", "skipped"}
    assert empty.run(flow).exit_code == 0
    assert (lock(empty), len(empty.prompts())) == (before, sent)


def test_the_lock_says_that_there_are_no_items(empty):
    empty.run(FLOWS["alone"])
    row = lock(empty)["steps"]["fix"]["instances"]["fix"]
    assert row.split()[0] == "empty"
    empty.run(FLOWS["skipped"])
    row = lock(empty)["steps"]["fix"]["instances"]["fix"]
    assert row.split()[0] == "skipped"


def test_what_decides_the_items_is_compared(empty):
    empty.run(FLOWS["read"])
    changed = FLOWS["read"].replace("steps.list.data,", "steps.list.data | list,")
    assert empty.states(changed)["fix"] == ("stale", ("for_each changed",))
    assert empty.locked() == ["fix: stale: for_each changed"]
    empty.forget_answers()
    assert empty.states(changed)["list"][0] == "needed"
    assert empty.run(changed).exit_code == 0
    assert empty.locked() == []


def test_a_file_that_decides_the_items_is_compared(empty, scripted):
    scripted(ITEM + MORE)
    empty.write("words.txt", "b")
    flow = HEAD + LIST + KEPT.replace("!= 'a'", "in read('words.txt')")
    empty.run(flow)
    empty.forget_answers()
    assert empty.locked() == []
    empty.write("words.txt", "a")
    assert empty.locked() != []


def test_what_is_done_with_the_items_does_not_matter(empty):
    empty.run(FLOWS["read"])
    empty.forget_answers()
    changed = FLOWS["read"].replace("fix {{ item }}", "mend {{ item }}")
    assert empty.states(changed) == {"list": ("fresh", ()), "page": ("fresh", ())}
    assert empty.locked() == []


def test_items_take_the_place_of_none_and_none_of_items(empty, scripted):
    empty.run(FLOWS["read"])
    scripted(ITEM + MORE)
    again = FLOWS["read"].replace("prompt: list", "prompt: list again")
    assert empty.run(again).outputs == {"page": "1"}
    assert lock(empty)["steps"]["fix"]["instances"].keys() == {"", "[a]"}
    scripted(NO_ITEM + MORE)
    assert empty.run(FLOWS["read"].replace("list,", "list anew,")).outputs == {"page": "0"}
    assert lock(empty)["steps"]["fix"]["instances"].keys() == {"", "fix"}
    empty.forget_answers()
    assert empty.locked() == []


def test_a_loop_that_has_items_now_is_not_called_gone(empty, scripted):
    empty.run(FLOWS["alone"])
    scripted(ITEM + MORE)
    again = FLOWS["alone"].replace("prompt: list", "prompt: list again")
    empty.run(again, steps=("list",), until=True)
    assert empty.states(again) == {
        "list": ("fresh", ()),
        "fix[a]": ("new", ("the lock does not have it",)),
    }


def test_a_loop_that_is_gone_is(empty):
    empty.run(FLOWS["alone"])
    gone = ("stale", ("it is not in the flow any more",))
    assert empty.states(HEAD + LIST) == {"list": ("fresh", ()), "fix": gone}


def test_a_step_that_was_a_loop_is_stale(empty):
    empty.run(FLOWS["alone"])
    flow = HEAD + LIST + "  fix: {prompt: 'fix {{ steps.list.text }}'}\n"
    assert empty.states(flow)["fix"][0] == "stale"
    assert "it had no items" in empty.states(flow)["fix"][1]
    assert empty.run(flow).outputs == {"fix": "heard fix []"}


@pytest.mark.parametrize("name", ["read", "literal"])
def test_a_part_of_the_flow_runs_without_it(empty, name):
    empty.run(FLOWS[name])
    before = lock(empty)
    empty.forget_answers()
    again = FLOWS[name].replace("| length", "| length + 1")
    assert empty.run(again, steps=("page",), only=True).outputs == {"page": "1"}
    assert len(empty.prompts()) == 1
    empty.run(FLOWS[name], steps=("page",), only=True)
    assert lock(empty) == before


def test_an_older_lock_does_not_say_so_and_a_run_adds_it(empty):
    empty.run(FLOWS["read"])
    new = lock(empty)
    old = {**new, "steps": {name: one for name, one in new["steps"].items() if name != "fix"}}
    empty.write("a.lock.json", json.dumps(old))
    assert empty.locked() == []
    assert empty.run(FLOWS["read"]).exit_code == 0
    assert lock(empty) == new
    assert len(empty.prompts()) == 1


def test_of_both_sides_of_a_merge_the_one_counts_whose_list_it_is(empty, scripted):
    scripted(NO_ITEM.replace("list}", "list, nth: 1}") + ITEM + MORE)
    file = LockFile(empty.folder / "a.lock.json", shown="a.lock.json")
    sides = []
    for is_refresh in (False, True):
        empty.run(FLOWS["read"], refresh=is_refresh)
        sides.append(file.read())
    both = merged(Lock(inputs="", instances={}), *sides)
    assert all({"fix", "fix[a]"} <= one.instances.keys() for one in both)
    for mixed, side in zip(both, sides, strict=True):
        file.write(mixed)
        empty.forget_answers()
        sent = len(empty.prompts())
        assert empty.run(FLOWS["read"]).exit_code == 0
        assert (file.read(), len(empty.prompts())) == (side, sent)


def test_what_runs_over_a_loop_that_was_skipped_whole_is_skipped(empty):
    flow = HEAD + LIST + IF + CHECK.replace(" {{ steps.other.text }}", "") + PAGE
    outcome = empty.run(flow)
    assert (outcome.exit_code, outcome.outputs) == (0, {"page": "0"})
    assert outcome.skipped["check"] == "fix was skipped"
