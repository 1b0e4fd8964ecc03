"""Answers are exported by one person and imported by another, in files and in pipes."""

import json
import shutil

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft: {prompt: on otters, output: {save: out.md}}
  polish: {prompt: "polish {{ steps.draft.text }}"}
"""


def forget(desk) -> None:
    """Leave what a clean clone has."""
    shutil.rmtree(desk.folder / ".poeflow")
    (desk.folder / "a.lock.json").unlink()


def test_what_one_exports_another_runs_without_asking(online, simulator):
    online.write("a.yaml", FLOW)
    first = online.run("run", "a.yaml")
    assert (first.returncode, len(simulator.requests)) == (0, 2)
    done = online.run("cache", "export", "answers.jsonl")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "exported 2 answers\n")
    forget(online)
    (online.folder / "out.md").unlink()
    done = online.run("cache", "import", "answers.jsonl")
    assert (done.returncode, done.stderr) == (0, "imported 2 answers, 0 were stored before\n")
    again = online.run("run", "a.yaml")
    assert (again.returncode, again.stdout, len(simulator.requests)) == (0, first.stdout, 2)
    done = online.run("cache", "import", "answers.jsonl")
    assert done.stderr == "imported 0 answers, 2 were stored before\n"


def test_answers_go_through_pipes(online, simulator):
    online.write("a.yaml", FLOW)
    online.run("run", "a.yaml")
    lines = online.run("cache", "export", "-").stdout
    assert [json.loads(line)["format"] for line in lines.splitlines()] == [1, 1]
    forget(online)
    assert online.run("cache", "import", "-", stdin=lines).returncode == 0
    assert online.run("run", "a.yaml", "--force").returncode == 0
    assert len(simulator.requests) == 2


def test_a_line_that_was_altered_is_named_and_not_taken(online, simulator):
    online.write("a.yaml", FLOW)
    online.run("run", "a.yaml")
    first, second = online.run("cache", "export", "-").stdout.splitlines()
    forget(online)
    altered = second.replace("simulated", "tampered!")
    assert altered != second
    done = online.run("cache", "import", "-", stdin=f"{first}\n{altered}\n")
    assert done.returncode == 2
    assert "stdin>:2 is not an answer, or its hash does not match" in done.stderr


def test_an_export_that_fails_leaves_the_file_that_was_there(online):
    online.write("a.yaml", FLOW)
    online.run("run", "a.yaml")
    online.write("answers.jsonl", "before")
    (online.folder / ".poeflow" / "lock").unlink()
    (online.folder / ".poeflow" / "lock").mkdir()
    assert online.run("cache", "export", "answers.jsonl").returncode == 8
    assert (online.folder / "answers.jsonl").read_text() == "before"


def test_a_file_that_cannot_be_written_is_a_matter_of_the_disk(online):
    done = online.run("cache", "export", "none/answers.jsonl")
    assert done.returncode == 8
    assert done.stderr.startswith("error: could not open file")


def test_that_simulated_answers_are_left_out_is_said(online):
    online.write("a.yaml", FLOW)
    online.run("run", "a.yaml", "--offline")
    assert online.run("cache", "export", "answers.jsonl").stderr == (
        "exported 0 answers; those of --offline runs are left out\n"
    )


def test_keys_of_the_environment_are_masked(online):
    online.write(
        "a.yaml",
        FLOW.replace("on otters", "'on {{ inputs.x }}'").replace(
            "steps", "inputs: {x: {default: y}}\nsteps", 1
        ),
    )
    environ = dict(online.environ)
    key = environ["POE_API_KEY"]
    online.environ["POE_API_KEY"] = "another-key-12345"
    assert online.run("run", "a.yaml", "--input", f"x={key}").returncode == 0
    online.environ |= environ
    lines = online.run("cache", "export", "-").stdout
    assert lines.count("\n") == 2
    assert key not in lines


SEVERAL = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a: {prompt: on otters, samples: 2, expect: [{judge: {rubric: kind}, level: warn}]}
  again: {prompt: "on seals, {{ repeat.number }}", repeat: {max: 3, until: repeat.number == 3}}
  b: {prompt: "%s {{ steps.a.all | length }} {{ steps.again.text }}"}
"""


def test_what_a_lock_mentions_is_kept_with_samples_judges_and_turns(online, simulator):
    online.write("a.yaml", SEVERAL % "of")
    assert online.run("run", "a.yaml").returncode == 0
    asked = len(simulator.requests)
    done = online.run("cache", "prune", "--unreferenced")
    assert done.stderr == "dropped 0 entries, 0.0 MB\n"
    online.write("a.yaml", SEVERAL % "from")
    assert online.run("run", "a.yaml").returncode == 0
    assert len(simulator.requests) == asked + 1
    done = online.run("cache", "prune", "--unreferenced")
    assert done.stderr.startswith("dropped 1 entries")


def test_a_sample_that_a_later_run_added_is_kept(online, simulator):
    online.write("a.yaml", SEVERAL % "of")
    online.run("run", "a.yaml")
    online.write("a.yaml", SEVERAL.replace("samples: 2", "samples: 3") % "of")
    online.run("run", "a.yaml")
    asked = len(simulator.requests)
    online.run("cache", "prune", "--unreferenced")
    online.write("a.yaml", SEVERAL.replace("samples: 2", "samples: 3") % "from")
    online.run("run", "a.yaml")
    assert len(simulator.requests) == asked + 1
