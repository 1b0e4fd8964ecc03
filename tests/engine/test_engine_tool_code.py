"""What the code of tools decides: a step is stale when it changes, and its tools run again."""

import re
from pathlib import Path

import pytest
from stored_answers import change_answers

from poeflow.errors import UsageError

OLDER = Path(__file__).with_name("older_tools.lock.json")
FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a:
    prompt: look
    output: {save: a.txt}
    tools:
      - {name: look, parameters: {type: object, properties: {}}, run: looking:look}
"""
SAMPLES = FLOW.replace("output: {save: a.txt}", "samples: {count: 2}")
TOOL = 'def look():\n    return "red"\n'
RULES = """\
- {match: {last: tool}}
- {match: {text: look}, answer: {tool_calls: [{name: look, arguments: {}}]}}
"""
STALE = ("stale", ("reads //looking.py changed",))
ALLOWED = {"allow_tools": True}


@pytest.fixture
def looking(bench, scripted, monkeypatch):
    """A project with one tool, whose result the bot repeats."""
    monkeypatch.chdir(bench.folder)
    bench.write("looking.py", TOOL)
    scripted(RULES)
    return bench


def asked(bench) -> list[str]:
    """Return the last message of each request."""
    requests = [request.json["messages"] for request in bench.simulator.requests]
    return [messages[-1]["content"].strip('"') for messages in requests]


def seen(bench) -> str:
    """Return the color in the answer, which repeats what the tool returned."""
    return re.findall("red|blue|green", (bench.folder / "a.txt").read_text())[0]


def test_a_step_is_stale_when_the_code_of_its_tool_changes(looking):
    looking.run(FLOW, **ALLOWED)
    assert looking.locked() == []
    looking.write("looking.py", TOOL.replace("red", "blue"))
    assert looking.states(FLOW) == {"a": STALE}
    assert looking.locked() != []
    looking.run(FLOW, **ALLOWED)
    assert (seen(looking), asked(looking)) == ("blue", ["look", "red", "blue"])
    assert looking.locked() == []


def test_code_that_the_tool_imports_counts(looking):
    looking.write("looking.py", "from colors import RED\n\ndef look():\n    return RED\n")
    looking.write("colors.py", 'RED = "red"\n')
    looking.run(FLOW, **ALLOWED)
    looking.write("colors.py", 'RED = "blue"\n')
    assert looking.states(FLOW) == {"a": ("stale", ("reads //colors.py changed",))}
    looking.run(FLOW, **ALLOWED)
    assert (seen(looking), looking.locked()) == ("blue", [])


def test_code_that_never_runs_decides_nothing(looking):
    flow = FLOW.replace("output: {save: a.txt}", "tools_mode: return")
    looking.run(flow)
    assert "looking.py" not in (looking.folder / "a.lock.json").read_text()
    looking.write("looking.py", TOOL.replace("red", "blue"))
    assert looking.states(flow) == {"a": ("fresh", ())}


def test_a_tool_that_gives_the_same_asks_nothing(looking):
    looking.run(FLOW, **ALLOWED)
    looking.write("looking.py", "# says what it sees\n" + TOOL)
    looking.run(FLOW, **ALLOWED)
    assert (seen(looking), asked(looking)) == ("red", ["look", "red"])
    assert looking.states(FLOW) == {"a": ("fresh", ())}


def test_how_often_is_asked_is_known_only_when_the_tool_has_run(looking):
    looking.run(FLOW, **ALLOWED)
    looking.write("looking.py", f"# looks\n{TOOL}")
    (status,) = looking.statuses(FLOW)
    assert (status.calls, status.most_calls > 0) == (0, True)
    before = len(looking.simulator.requests)
    looking.run(FLOW, **ALLOWED)
    assert len(looking.simulator.requests) == before


def test_code_that_is_back_asks_nothing(looking):
    looking.run(FLOW, **ALLOWED)
    looking.write("looking.py", TOOL.replace("red", "blue"))
    looking.run(FLOW, **ALLOWED)
    looking.write("looking.py", TOOL)
    looking.run(FLOW, **ALLOWED)
    assert (seen(looking), asked(looking)) == ("red", ["look", "red", "blue"])
    assert looking.locked() == []


def test_a_clone_without_answers_asks_again(looking):
    looking.run(FLOW, **ALLOWED)
    looking.forget_answers()
    assert looking.states(FLOW) == {"a": ("fresh", ())}
    looking.write("looking.py", TOOL.replace("red", "blue"))
    assert looking.states(FLOW) == {"a": STALE}
    looking.run(FLOW, **ALLOWED)
    assert seen(looking) == "blue"


def test_samples_run_their_tools_again(looking):
    looking.run(SAMPLES, **ALLOWED)
    looking.write("looking.py", TOOL.replace("red", "blue"))
    assert looking.states(SAMPLES) == {"a": STALE}
    looking.run(SAMPLES, **ALLOWED)
    assert asked(looking) == ["look", "look", "red", "red", "blue", "blue"]


def test_changed_code_needs_the_permission_again(looking):
    looking.run(FLOW, **ALLOWED)
    assert looking.run(FLOW).exit_code == 0
    looking.write("looking.py", TOOL.replace("red", "blue"))
    with pytest.raises(UsageError, match="add --allow-tools"):
        looking.run(FLOW)
    assert seen(looking) == "red"


def test_a_lock_of_a_poeflow_that_ignored_the_code_stays_true(looking):
    looking.run(FLOW, offline=True, **ALLOWED)
    looking.write(".poeflow/offline/a.lock.json", OLDER.read_bytes())
    assert looking.states(FLOW, offline=True) == {"a": ("fresh", ())}
    looking.write("looking.py", TOOL.replace("red", "blue"))
    assert looking.locked(offline=True) == []


def test_an_altered_answer_is_still_found(looking):
    looking.run(FLOW, **ALLOWED)
    change_answers(looking.folder, paint_it_green)
    (looking.folder / "a.txt").unlink()
    looking.run(FLOW, **ALLOWED)
    assert (seen(looking), asked(looking)) == ("red", ["look", "red", "look", "red"])


def paint_it_green(answer: dict) -> None:
    message = answer["choices"][0]["message"]
    message["content"] = (message["content"] or "").replace("red", "green")


def test_a_module_that_is_imported_from_elsewhere_is_not_looked_at(looking, tmp_path_factory):
    outside = tmp_path_factory.mktemp("shared") / "shared.py"
    outside.write_text("RED = 'red'\n")
    (looking.folder / "shared.py").symlink_to(outside)
    looking.write("looking.py", "import shared\n\ndef look():\n    return shared.RED\n")
    assert looking.run(FLOW, **ALLOWED).exit_code == 0
    assert looking.states(FLOW) == {"a": ("fresh", ())}
