"""After a merge a run goes on from what either side proves, and pays for nothing twice."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from poeflow.events import FileWritten, Warned
from poeflow.flowfile.model import Limits
from poeflow.operations.check import checkup
from poeflow.operations.lock_repair import fill_lock
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project

BASE = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  old: {prompt: old, output: {save: out/old.md}}
"""
FLOW = f"""{BASE}\
  one: {{prompt: one, output: {{save: out/one.md}}}}
  some: {{prompt: some, samples: 2, output: {{save: "out/some-{{{{ sample }}}}.md"}}}}
  data: {{prompt: data, output: {{save: out/data.json, format: json}}}}
  used: {{use: inner.yaml}}
  many: {{for_each: [x, y], prompt: "{{{{ key }}}}", output: {{save: "out/{{{{ key }}}}.md"}}}}
"""
INNER = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  deep: {prompt: deep, output: {save: out/deep.md}}
"""
SAVED = ("one.md", "some-1.md", "some-2.md", "data.json", "deep.md", "x.md", "y.md")
NAMES = {"old", "one", "some", "data", "used", "used/deep", "many[x]", "many[y]"}
RULES = """\
- {match: {text: data}, answer: {template: '{"nth": {{ nth }}}'}}
- {match: {model: GPT-5.2}, answer: {template: "{{ prompt }}, version {{ nth }}"}}
"""


def merge(git, name: str = "theirs") -> None:
    """Merge a branch, which leaves conflicts."""
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "-q", "-m", "merged", name)


def commit(git, name: str) -> None:
    git("add", ".")
    git("commit", "-qm", name)


def files(bench) -> dict[str, str]:
    return {name: (bench.folder / "out" / name).read_text() for name in SAVED}


def warnings(bench) -> list[str]:
    return [event.message for event in bench.events if isinstance(event, Warned)]


def asked(bench) -> int:
    return len(bench.simulator.requests)


@pytest.fixture
def apart(bench, git, scripted):
    """Return what each of two branches has in the files of steps that both added."""
    scripted(RULES)
    bench.write(".gitignore", ".poeflow/\nrules.yaml\n")
    bench.write("inner.yaml", INNER)
    assert bench.run(BASE).exit_code == 0
    commit(git, "base")
    git("checkout", "-qb", "theirs")
    assert bench.run(FLOW).exit_code == 0
    commit(git, "theirs")
    found = {"theirs": files(bench)}
    git("checkout", "-q", "main")
    bench.forget_answers()
    assert bench.run(FLOW).exit_code == 0
    commit(git, "ours")
    found["ours"] = files(bench)
    merge(git)
    return found


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_the_side_whose_files_were_chosen_is_current(bench, git, apart, side, with_state):
    if not with_state:
        bench.forget_answers()
    git("checkout", "-q", f"--{side}", "out")
    before = asked(bench)
    assert bench.states(FLOW) == dict.fromkeys(NAMES, ("fresh", ()))
    assert bench.run(FLOW).exit_code == 0
    assert (files(bench), asked(bench)) == (apart[side], before)
    assert [one for one in bench.events if isinstance(one, FileWritten)] == []
    assert bench.locked() == []


def test_each_file_may_be_chosen_from_another_side(bench, git, apart):
    git("checkout", "-q", "--ours", "out")
    git("checkout", "-q", "--theirs", "out/one.md", "out/y.md")
    chosen = files(bench)
    before = asked(bench)
    assert bench.run(FLOW).exit_code == 0
    assert (files(bench), asked(bench), bench.locked()) == (chosen, before, [])
    assert chosen == apart["ours"] | {name: apart["theirs"][name] for name in ("one.md", "y.md")}


def test_a_chosen_file_is_what_steps_below_see_whatever_answer_is_stored(bench, git, apart):
    git("checkout", "-q", "--theirs", "out")
    before = asked(bench)
    more = f'{FLOW}  read: {{prompt: "read {{{{ steps.one.text }}}}"}}\n'
    assert bench.run(more).exit_code == 0
    assert bench.prompts()[before:] == [f"read {apart['theirs']['one.md']}".rstrip()]
    assert files(bench) == apart["theirs"]


@pytest.mark.parametrize(
    ("below", "path"),
    [
        ("prompt: 'used {{ steps.one.usage.total_tokens }}'", "out/one.md"),
        ("prompt: 'thought {{ steps.one.reasoning }}'", "out/one.md"),
        ("prompt: go on, history: one", "out/one.md"),
        ("prompt: 'of {{ steps.some.all | length }}'", "out/some-1.md"),
    ],
)
def test_a_chosen_file_stays_if_a_step_needs_more_of_its_answer(bench, git, apart, below, path):
    git("checkout", "-q", "--theirs", "out")
    before, name = asked(bench), path[4:-3].partition("-")[0]
    more = f"{FLOW}  read: {{{below}}}\n"
    message = f"{path} was chosen in a merge; the stored answer of {name} is the other side's"
    planned = {one.id: one for one in bench.statuses(more)}
    assert (planned["read"].reasons, planned["read"].calls) == ((message,), 0)
    outcome = bench.run(more)
    assert str(outcome.failures["read"]) == (
        f"{message}; choose the other file, or have {name} asked again with --refresh"
    )
    assert (files(bench), asked(bench)) == (apart["theirs"], before)
    git("checkout", "-q", "--ours", "out")
    assert bench.run(more).exit_code == 0
    assert (files(bench), asked(bench)) == (apart["ours"], before + 1)


def test_what_is_shown_of_a_chosen_file_is_never_the_other_answer(bench, git, apart):
    git("checkout", "-q", "--theirs", "out")
    shown = f"{FLOW}outputs: {{one: '{{{{ steps.one.usage.total_tokens }}}}'}}\n"
    outcome = bench.run(shown)
    assert (outcome.outputs, outcome.missing) == ({}, ("one",))
    assert files(bench) == apart["theirs"]


@pytest.mark.parametrize("chosen", ["ours", "theirs", "none"])
def test_the_same_request_in_other_words_is_current_by_the_side_too(bench, git, apart, chosen):
    if chosen != "none":
        git("checkout", "-q", f"--{chosen}", "out")
    bench.forget_answers()
    before = asked(bench)
    worded = FLOW.replace("prompt: one", 'prompt: "one{# in a word #}"')
    assert bench.run(worded).exit_code == 0
    wanted = apart["ours" if chosen == "none" else chosen]
    assert (files(bench), asked(bench), bench.locked()) == (wanted, before, [])


def test_a_chosen_answer_is_asked_again_if_the_user_says_so(bench, git, apart):
    git("checkout", "-q", "--theirs", "out")
    before = asked(bench)
    assert bench.run(FLOW, steps=("one",), refresh=True).exit_code == 0
    assert bench.prompts()[before:] == ["one"]
    assert files(bench)["one.md"] not in (apart["ours"]["one.md"], apart["theirs"]["one.md"])


@pytest.mark.parametrize("with_state", [True, False])
def test_of_two_proven_texts_between_marks_the_first_is_taken(bench, apart, with_state):
    if not with_state:
        bench.forget_answers()
    before = asked(bench)
    found = bench.statuses(FLOW)
    in_conflict = {one.id: one.reasons for one in found if one.state == "missing"}
    assert in_conflict.keys() == NAMES - {"old", "used"}
    assert in_conflict["some"] == tuple(
        f"out/some-{number}.md has conflict marks" for number in (1, 2)
    )
    assert [one.calls for one in found] == [0] * len(NAMES)
    assert "has conflict marks" in bench.locked()[0]
    assert bench.run(FLOW).exit_code == 0
    assert (files(bench), asked(bench), bench.locked()) == (apart["ours"], before, [])
    if not with_state:
        assert "out/one.md had conflict marks; our side is taken: it is current" in warnings(bench)


def test_steps_below_see_the_side_that_is_taken(bench, apart):
    bench.forget_answers()
    before = asked(bench)
    more = f'{FLOW}  read: {{prompt: "read {{{{ steps.one.text }}}}"}}\n'
    assert {one.id: one.calls for one in bench.statuses(more) if one.calls} == {"read": 1}
    assert bench.run(more).exit_code == 0
    assert bench.prompts()[before:] == [f"read {apart['ours']['one.md']}".rstrip()]
    assert files(bench) == apart["ours"]


CALLED = f"""\
poeflow: 1
defaults: {{model: GPT-5.2}}
steps:
  page:
    render: "{{{{ read('words.md') }}}}"
    expect: [{{judge: {{model: GPT-5.2, rubric: Is it polite?}}, level: warn}}]
    output: {{save: out/page.md}}
  now:
    command: [{sys.executable}, -c, "import time; print(time.time_ns())"]
    reads: [words.md]
    output: {{save: out/now.md}}
"""


def test_what_is_proven_between_marks_is_neither_judged_nor_called_again(bench, git):
    ran = {"allow_tools": True}
    bench.write(".gitignore", ".poeflow/\n")
    bench.write("words.md", "one\n")
    assert bench.run(CALLED, **ran).exit_code == 0
    commit(git, "base")
    git("checkout", "-qb", "theirs")
    bench.write("words.md", "two\n")
    assert bench.run(CALLED, **ran).exit_code == 0
    commit(git, "theirs")
    theirs = (bench.folder / "out/now.md").read_text()
    git("checkout", "-q", "main")
    bench.write("words.md", "three\n")
    assert bench.run(CALLED, **ran).exit_code == 0
    commit(git, "ours")
    merge(git)
    bench.write("words.md", "two\n")
    bench.forget_answers()
    before = asked(bench)
    assert bench.states(CALLED) == {
        "page": ("missing", ("out/page.md has conflict marks",)),
        "now": ("missing", ("out/now.md has conflict marks",)),
    }
    assert bench.run(CALLED, **ran).exit_code == 0
    assert (bench.folder / "out/page.md").read_text() == "two\n"
    assert (bench.folder / "out/now.md").read_text() == theirs
    assert (asked(bench), bench.locked()) == (before, [])
    assert "out/now.md had conflict marks; their side is taken: it is current" in warnings(bench)


GOING_ON = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  first: {prompt: first, output: {save: out/first.md}}
  middle: {needs: [first], prompt: middle, output: {save: out/middle.md}}
  later: {needs: [middle], prompt: later, output: {save: out/later.md}}
  page: {render: "Page: {{ steps.first.text }}", output: {save: out/page.md}}
"""
OURS = GOING_ON.replace("t: first", "t: first by us").replace("t: later", "t: later by us")
THEIRS = GOING_ON.replace("t: first", "t: first by them").replace("t: later", "t: later by them")
BOTH = THEIRS.replace("first by them", "first by both").replace("t: middle", "t: middle by both")


@pytest.fixture
def half_done(bench, git):
    """Leave a merge in which both sides changed steps, and no answers but those of files."""
    bench.write(".gitignore", ".poeflow/\n")
    assert bench.run(GOING_ON).exit_code == 0
    commit(git, "base")
    git("checkout", "-qb", "theirs")
    assert bench.run(THEIRS).exit_code == 0
    commit(git, "theirs")
    git("checkout", "-q", "main")
    assert bench.run(OURS).exit_code == 0
    commit(git, "ours")
    merge(git)
    bench.forget_answers()
    assert "<<<<<<<" in (bench.folder / "out/first.md").read_text()
    return asked(bench)


def stopped(bench, git):
    assert bench.run(BOTH, limits=Limits(max_requests=1)).exit_code == 9


def stopped_and_added(bench, git):
    stopped(bench, git)
    git("add", "a.lock.json")


def stopped_and_committed(bench, git):
    stopped(bench, git)
    commit(git, "merged")


def filled(bench, git):
    bench.write("a.yaml", BOTH)
    found = checkup(Project(bench.folder), "//a.yaml", "a.yaml")
    environ = {"POE_BASE_URL": bench.simulator.base_url}
    asyncio.run(fill_lock(found, RunOptions(environ=environ, folder=bench.folder)))


def chosen_by_hand(bench, git):
    git("checkout", "-q", "--ours", "a.lock.json")
    git("add", "a.lock.json")


def chosen_and_committed(bench, git):
    chosen_by_hand(bench, git)
    commit(git, "merged")


@pytest.mark.parametrize(
    "way",
    [
        *(stopped, stopped_and_added, stopped_and_committed),
        *(filled, chosen_by_hand, chosen_and_committed),
    ],
)
def test_what_was_begun_goes_on_as_if_it_had_not_stopped(bench, git, half_done, way):
    way(bench, git)
    assert "<<<<<<<" not in (bench.folder / "a.lock.json").read_text()
    assert "<<<<<<<" in (bench.folder / "out/later.md").read_text()
    assert bench.run(BOTH).exit_code == 0
    assert bench.prompts()[half_done:] == ["first by both", "middle by both"]
    assert "<<<<<<<" not in "".join(map(Path.read_text, bench.folder.glob("out/*")))
    assert bench.locked() == []


@pytest.mark.parametrize("with_state", [True, False])
def test_a_committed_merge_has_what_only_its_sides_had(bench, git, apart, with_state):
    git("checkout", "-q", "--theirs", "out")
    git("checkout", "-q", "HEAD~1", "--", "a.lock.json")
    commit(git, "merged")
    if not with_state:
        bench.forget_answers()
    before = asked(bench)
    assert [one.calls for one in bench.statuses(FLOW)] == [0] * len(NAMES)
    assert bench.run(FLOW).exit_code == 0
    assert (files(bench), asked(bench), bench.locked()) == (apart["theirs"], before, [])


def test_what_the_side_proves_that_the_lock_does_not_have_is_current(bench, git, half_done):
    chosen_by_hand(bench, git)
    states = bench.states(THEIRS)
    assert states["middle"] == ("fresh", ())
    for name in ("first", "later"):
        assert states[name] == ("missing", (f"out/{name}.md has conflict marks",))
    assert bench.run(THEIRS).exit_code == 0
    assert (asked(bench), bench.locked()) == (half_done, [])


@pytest.mark.parametrize("way", [stopped, chosen_by_hand])
def test_marks_that_were_committed_are_replaced(bench, git, half_done, way):
    way(bench, git)
    commit(git, "merged")
    assert bench.run(BOTH).exit_code == 0
    assert "<<<<<<<" not in "".join(map(Path.read_text, bench.folder.glob("out/*")))


@pytest.mark.parametrize("way", [stopped, filled, chosen_by_hand])
def test_what_a_person_wrote_between_marks_stays_when_a_run_goes_on(bench, git, half_done, way):
    path = bench.folder / "out/later.md"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "my own words\n", *lines[2:]]))
    way(bench, git)
    before = path.read_text()
    assert bench.run(BOTH).exit_code == 0
    kept = "//out/later.md has conflict marks; it is kept (see `poeflow accept`)"
    assert kept in warnings(bench)
    assert path.read_text() == before


def test_a_page_loses_its_marks_when_what_it_shows_was_accepted(bench, git, half_done):
    bench.write("out/first.md", "my own words\n")
    assert bench.accept(OURS, "out/first.md").paths == ("//out/first.md",)
    assert "<<<<<<<" not in (bench.folder / "a.lock.json").read_text()
    assert "<<<<<<<" in (bench.folder / "out/page.md").read_text()
    assert bench.accept(OURS).refused == {}
    assert bench.run(OURS).exit_code == 0
    assert (bench.folder / "out/page.md").read_text() == "Page: my own words\n"
    assert (asked(bench), bench.locked()) == (half_done, [])


LINES = """\
- {answer: {template: "{{ prompt }}, version {{ nth }}\\n\\nin the middle\\n\\nthe end"}}
"""


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_an_accepted_edit_of_either_side_is_what_an_answer_is_merged_into(
    bench, git, scripted, side, is_committed
):
    scripted(LINES)
    flow = f"{BASE}  one: {{prompt: one, output: {{save: out/one.md}}}}\n"
    bench.write(".gitignore", ".poeflow/\nrules.yaml\n")
    assert bench.run(flow).exit_code == 0
    commit(git, "base")

    def changed(name: str) -> str:
        text = flow.replace("prompt: one", f"prompt: one by {name}")
        assert bench.run(text).exit_code == 0
        commit(git, f"by {name}")
        return text

    def edited(text: str) -> None:
        path = bench.folder / "out/one.md"
        path.write_text(path.read_text().replace("the end", "my own end"))
        bench.accept(text)
        commit(git, "edited")

    git("checkout", "-qb", "theirs")
    texts = {"theirs": changed("them")}
    if side == "theirs":
        edited(texts["theirs"])
    git("checkout", "-q", "main")
    texts["ours"] = changed("us")
    if side == "ours":
        edited(texts["ours"])
    merge(git)
    git("checkout", "-q", f"--{side}", "out")
    if is_committed:
        commit(git, "merged")
    bench.forget_answers()
    before, other = asked(bench), texts["ours" if side == "theirs" else "theirs"]
    worded = other.replace("prompt: one by us", "prompt: 'one by us{# in a word #}'")
    worded = worded.replace("prompt: one by them", "prompt: 'one by them{# in a word #}'")
    assert bench.run(worded, merge_edits=True).exit_code == 0
    [prompt] = bench.prompts()[before:]
    found = (bench.folder / "out/one.md").read_text()
    assert found == f"{prompt}, version {before + 1}\n\nin the middle\n\nmy own end\n"
    assert bench.locked() == []


AGAIN = f"""{BASE}\
  draft:
    use: turn.yaml
    with: {{turn: "{{{{ 'b' if previous else 'a' }}}}"}}
    repeat: {{until: outputs.turn == 'b', max: 3}}
"""
TURN = """\
poeflow: 1
inputs: {turn: {default: a}}
defaults: {model: GPT-5.2}
steps:
  write: {prompt: "turn {{ inputs.turn }}", output: {save: "out/{{ inputs.turn }}.md"}}
outputs: {turn: "{{ inputs.turn }}", text: "{{ steps.write.text }}"}
"""


@pytest.mark.parametrize("side", ["ours", "theirs", "none"])
def test_every_turn_of_a_flow_is_taken_from_a_side(bench, git, scripted, side):
    scripted(RULES)
    bench.write(".gitignore", ".poeflow/\nrules.yaml\n")
    bench.write("turn.yaml", TURN)
    assert bench.run(BASE).exit_code == 0
    commit(git, "base")
    git("checkout", "-qb", "theirs")
    assert bench.run(AGAIN).exit_code == 0
    commit(git, "theirs")
    git("checkout", "-q", "main")
    bench.forget_answers()
    assert bench.run(AGAIN).exit_code == 0
    commit(git, "ours")
    merge(git)
    bench.forget_answers()
    before = asked(bench)
    if side != "none":
        git("checkout", "-q", f"--{side}", "out")
    assert bench.run(AGAIN).exit_code == 0
    assert (asked(bench), bench.locked()) == (before, [])
    first = 2 if side == "theirs" else 4
    assert (bench.folder / "out/a.md").read_text() == f"turn a, version {first}\n"
    assert (bench.folder / "out/b.md").read_text() == f"turn b, version {first + 1}\n"
