"""What `poeflow diff` names as the causes: in settings, aliases, files and modules."""

import pytest
from repositories import Repository

ROLES = """\
poeflow: 1
models:
  writer: {model: Claude-Sonnet-4.5, fallback: [spare]}
  spare: {model: GPT-5.2, params: {temperature: 0.1}}
  strict: {model: GPT-5.2, system: Be strict., params: {temperature: 0.3}}
steps:
  a:
    model: writer
    prompt: x
    expect: [{judge: {rubric: Is it short?, model: strict}}]
  b:
    model: Claude-Sonnet-4.5
    prompt: y
  c:
    matrix: {axes: {who: [writer]}}
    model: "{{ matrix.who }}"
    prompt: z
"""


@pytest.mark.parametrize(
    ("old", "new", "causes"),
    [
        (
            "strict: {model: GPT-5.2",
            "strict: {model: GPT-5.1",
            {"a": ["model judge strict"], "c": ["model strict"]},
        ),
        (
            "Be strict",
            "Be kind",
            {"a": ["prompt judge strict system"], "c": ["prompt strict system"]},
        ),
        (
            "0.3",
            "0.4",
            {"a": ["parameter judge strict temperature"], "c": ["parameter strict temperature"]},
        ),
        (
            "0.1",
            "0.2",
            {"a": ["parameter fallback spare temperature"], "c": ["parameter spare temperature"]},
        ),
        (
            "spare: {model: GPT-5.2",
            "spare: {model: GPT-5.1",
            {"a": ["model fallback spare"], "c": ["model spare"]},
        ),
    ],
)
def test_the_models_of_judges_and_fallbacks_are_causes(desk, old, new, causes):
    repository = Repository(desk)
    desk.write("notes.yaml", ROLES)
    repository.commit(runs=False)
    repository.edit("notes.yaml", old, new)
    found = repository.causes("--since", "HEAD")
    assert {step: own for step, (own, _) in found.items()} == causes


INPUTS = """\
poeflow: 1
inputs:
  topic: {default: sun}
steps:
  a:
    model: writer
    prompt: "About {{ inputs.topic }}"
"""


def test_inputs_and_settings_that_are_gone_are_causes(desk):
    repository = Repository(desk)
    desk.write("notes.yaml", INPUTS)
    desk.write("notes.inputs.yaml", "topic: rain\n")
    desk.write("poeflow.toml", '[models.writer]\nmodel = "GPT-5.2"\n')
    repository.commit(runs=False)
    (desk.folder / "notes.inputs.yaml").unlink()
    assert repository.causes("--since", "HEAD") == {"a": (["input topic"], [])}
    repository.commit(runs=False)
    (desk.folder / "poeflow.toml").unlink()
    assert repository.causes("--since", "HEAD") == {"a": (["model model"], [])}


def test_settings_in_another_tools_file_are_causes(desk):
    repository = Repository(desk)
    (desk.folder / "poeflow.toml").unlink()
    desk.write("notes.yaml", INPUTS)
    desk.write("pyproject.toml", '[tool.poeflow.models.writer]\nmodel = "GPT-5.2"\n')
    repository.commit(runs=False)
    why = desk.run("why", "pyproject.toml").stdout
    assert why == "notes.yaml:1:1: the whole flow: the project's settings\n"
    repository.edit("pyproject.toml", "GPT-5.2", "GPT-5.1")
    assert repository.causes("--since", "HEAD") == {"a": (["model model"], [])}
    desk.write("pyproject.toml", "[tool.other]\n")
    assert repository.causes("--since", "HEAD") == {"a": (["model model"], [])}
    assert desk.run("why", "pyproject.toml").stdout == ""
    assert desk.run("why", "poeflow.toml").stdout == why


def test_the_module_that_judges_is_known_before_a_run(desk):
    repository = Repository(desk)
    judged = "{prompt: x, model: GPT-5.2, expect: [{max_length: 9}, {call: 'checks.tone:ok'}]}"
    desk.write("notes.yaml", f"poeflow: 1\nsteps:\n  a: {judged}\n")
    desk.write("checks/tone.py", "def ok(output):\n    return True\n")
    repository.commit(runs=False)
    line = "notes.yaml:3:67: step a: expect[1].call\n"
    assert desk.run("why", "checks/tone.py").stdout == line
    repository.edit("checks/tone.py", "True", "False")
    assert repository.causes("--since", "HEAD") == {"a": (["file checks/tone.py"], [])}
    assert "1 of 1 flow reads a file" in desk.run("check", "--since", "HEAD").stderr
    (desk.folder / "checks/tone.py").unlink()
    assert repository.causes("--since", "HEAD") == {"a": (["file checks/tone.py"], [])}


CREW = """\
poeflow: 1
models:
  writer: {model: GPT-5.2, system: {file: writer.md}, tools: {file: tools.yaml}}
  strict: {model: GPT-5.1, system: {file: strict.md}}
  idle: {model: GPT-5.1, system: {file: idle.md}}
defaults: {system: {file: all.md}}
steps:
  named: {model: writer, prompt: x}
  own: {model: writer, system: y, tools: [], prompt: x}
  judged: {model: GPT-5.2, prompt: x, expect: [{judge: {rubric: y, model: strict}}]}
  plain: {render: z}
outputs:
  told: "{{ read('out.md') }}"
"""


@pytest.mark.parametrize(
    ("file", "steps"),
    [
        ("writer.md", ["named"]),
        ("tools.yaml", ["named"]),
        ("strict.md", ["judged"]),
        ("idle.md", []),
        ("all.md", ["judged"]),
        ("out.md", []),
    ],
)
def test_the_files_of_an_alias_concern_the_steps_that_name_it(desk, file, steps):
    repository = Repository(desk)
    desk.write("notes.yaml", CREW)
    for name in ("writer.md", "strict.md", "idle.md", "all.md", "out.md"):
        desk.write(name, "Be kind.\n")
    desk.write("tools.yaml", "[{name: one}]\n")
    repository.commit(runs=False)
    shown = desk.run("why", file).stdout.splitlines()
    readers = [line.split(": ")[1] for line in shown]
    is_named = steps and file != "all.md"
    assert readers == ([f"step {step}" for step in steps] if is_named else ["the whole flow"])
    desk.write(file, "[{name: two}]\n" if file == "tools.yaml" else "Be strict.\n")
    causes = repository.causes("--since", "HEAD")
    assert [step for step, (own, _) in causes.items() if f"file {file}" in own] == steps
