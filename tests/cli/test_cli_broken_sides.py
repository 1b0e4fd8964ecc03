"""`poeflow diff` of flows that cannot be used in one of two revisions, in a real repository."""

import html
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from repositories import Repository

FLOW = """\
poeflow: 1
inputs:
  log: {type: file, default: log.md}
  n: {type: integer, default: 2}
defaults: {model: Claude-Sonnet-4.5}
steps:
  text:
    render: '{% include "part.md" %}{{ read(inputs.log) }}{{ inputs.n }}'
  each:
    for_each: {file: rows.csv, key: item.id}
    render: "{{ item.id }}"
  asked:
    prompt: Say something.
    attachments: [logo.png]
    output: {schema: {file: answer.schema.json}}
  called: {call: "FOLDER.tools:f", with: {x: hi}}
  used: {use: inner.yaml}
"""
FILES = {
    "part.md": "Be brief. {% include 'more.md' %}\n",
    "more.md": "No jargon.\n",
    "log.md": "# 1.0\n",
    "rows.csv": "id\n1\n2\n",
    "logo.png": b"\x89PNG\r\n\x1a\n",
    "answer.schema.json": '{"type": "object"}',
    "tools.py": "def f(x: str) -> str:\n    return x\n",
    "inner.yaml": "poeflow: 1\nsteps: {deep: {render: '{% include \"inner.md\" %}'}}\n",
    "inner.md": "x",
    "flow.inputs.yaml": "{n: 3}\n",
}


def gone(name):
    return lambda folder: (folder / name).unlink()


def put(name, text):
    return lambda folder: (folder / name).write_bytes(
        text.encode() if isinstance(text, str) else text
    )


def add(text):
    return lambda folder: (folder / "flow.yaml").write_bytes(
        (folder / "flow.yaml").read_bytes() + text
    )


def link(name, target):
    def change(folder):
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def made_folder(name):
    def change(folder):
        (folder / name).unlink()
        (folder / name).mkdir()
        (folder / name / "x").write_text("x")

    return change


def marked(folder):
    lock = folder / "flow.lock.json"
    text = lock.read_text()
    lock.write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n")


CASES = {
    "partial_gone": (gone("more.md"), "part.md:1:22: //partial_gone/more.md does not exist"),
    "partial_syntax": (put("more.md", "{% if %}"), "more.md:1:7: expected an expression"),
    "partial_bytes": (put("more.md", b"\xff\xfe"), "more.md is not UTF-8 text (line 1)"),
    "partial_link": (link("more.md", "/etc/hosts"), "part.md:1:22: //partial_link/more.md"),
    "yaml_error": (add(b"\n - ]: ["), "flow.yaml:19:2: not YAML"),
    "yaml_bytes": (add(b"# \xff"), "flow.yaml:18:3: byte 0xff is not UTF-8"),
    "yaml_nul": (add(b"\0"), "a NUL byte is in the file"),
    "yaml_marks": (add(b"<<<<<<< a\nx: 1\n=======\n"), "flow.yaml:"),
    "too_large": (add(b"#" * 5_000_000), "the limit is 4,194,304"),
    "key_twice": (add(b"steps: {}\n"), 'the key "steps" is here twice'),
    "unknown_key": (add(b"stepz: {}\n"), 'unknown key "stepz"'),
    "unknown_step": (
        add(b"  late: {render: '{{ steps.nope.text }}'}\n"),
        'unknown step "nope"',
    ),
    "cycle": (
        add(b"  p: {needs: [q], render: x}\n  q: {needs: [p], render: x}\n"),
        "steps need each other",
    ),
    "emptied": (put("flow.yaml", ""), "flow.yaml:1:1: the file is empty"),
    "no_flow": (put("flow.yaml", "a: 1\n"), "this is not a flow"),
    "a_list": (put("flow.yaml", "- poeflow: 1\n"), "the flow must be a mapping, not a list"),
    "a_folder": (made_folder("flow.yaml"), "flow.yaml is a folder"),
    "a_link_out": (link("flow.yaml", "/etc/hosts"), "a link that leaves the project"),
    "a_link_to_nothing": (link("flow.yaml", "nope.yaml"), "is a link to nothing"),
    "module_gone": (gone("tools.py"), "flow.yaml:16:18: //module_gone/tools.py does not exist"),
    "input_file_gone": (gone("log.md"), "flow.yaml:3:30: //input_file_gone/log.md does not exist"),
    "rows_gone": (gone("rows.csv"), "rows.csv does not exist"),
    "rows_broken": (put("rows.csv", ""), "rows.csv, line 1: there are no column names"),
    "attachment_gone": (gone("logo.png"), "logo.png does not exist"),
    "schema_gone": (gone("answer.schema.json"), "answer.schema.json does not exist"),
    "schema_broken": (put("answer.schema.json", "{"), "is not JSON or YAML"),
    "used_broken": (put("inner.yaml", "poeflow: 1\nsteps: ["), "inner.yaml:2:9: not YAML"),
    "used_partial_gone": (gone("inner.md"), "inner.md does not exist"),
    "inputs_broken": (put("flow.inputs.yaml", "{n: ["), "flow.inputs.yaml:1:6: not YAML"),
    "inputs_unfit": (put("flow.inputs.yaml", "{n: x}"), 'the input "n" must be an integer'),
    "lock_broken": (put("flow.lock.json", "{"), "flow.lock.json is not a lock"),
    "lock_newer": (put("flow.lock.json", '{"poeflow_lock": 9}'), "the format 9 of a newer"),
    "lock_marked": (marked, "flow.lock.json has conflict marks"),
}
SOUND = "sound"


@pytest.fixture
def repository(online):
    made = Repository(online)
    for name in (*CASES, SOUND, "untouched"):
        online.write(f"{name}/flow.yaml", FLOW.replace("FOLDER", name))
        for file, text in FILES.items():
            online.write(f"{name}/{file}", text)
    locked = [f"{name}/flow.yaml" for name in CASES if name.startswith("lock_")]
    done = online.run("run", *locked, "--allow-tools")
    assert done.returncode == 0, done.stderr
    made.commit(runs=False)
    return made


def verdicts(found):
    flows = {flow["path"]: flow for flow in found["flows"] if flow["path"].endswith("/flow.yaml")}
    return {path.partition("/")[0]: flow for path, flow in flows.items()}


def test_a_side_that_cannot_be_used_has_a_verdict_and_a_reason(repository):
    folder = repository.desk.folder
    for name, (change, _) in CASES.items():
        change(folder / name)
    (folder / SOUND / "more.md").write_text("No slang.\n")
    repository.commit(runs=False)
    schema = Path(__file__).parents[2] / "schemas/diff.schema.json"
    for span, key, other in (
        (("HEAD~1..HEAD",), "problem", "old_problem"),
        (("HEAD..HEAD~1",), "old_problem", "problem"),
        (("--since", "HEAD~1"), "problem", "old_problem"),
    ):
        whole = repository.compared(*span)
        Draft202012Validator(json.loads(schema.read_text())).validate(whole)
        found = verdicts(whole)
        sound = found.pop(SOUND)
        assert (sound["fate"], sound["problem"], sound["old_problem"]) == ("changed", "", "")
        assert [step["id"] for step in sound["steps"]] == ["text"]
        assert found.keys() == CASES.keys()
        for name, (_, words) in CASES.items():
            flow = found[name]
            assert (name, flow["fate"], flow[other]) == (name, "broken", "")
            assert words in flow[key], name
            assert str(Path("/tmp")) not in flow[key], name
            counts = flow["instances"]
            assert (counts["changed"], counts["added"], counts["removed"]) == (0, 0, 0), name


def test_a_broken_side_is_named_as_text_and_in_a_comment(repository):
    gone("more.md")(repository.desk.folder / "partial_gone")
    put("flow.yaml", "poeflow: 1\nsteps: [\n")(repository.desk.folder / "yaml_error")
    repository.commit(runs=False)
    done = repository.desk.run("diff", "HEAD..HEAD~1")
    assert done.returncode == 0
    assert done.stderr == "2 flows differ, 2 broken; instances 7 not run yet\n"
    assert done.stdout.startswith("partial_gone/flow.yaml: broken; instances 7 not run yet")
    reason = "yaml_error/flow.yaml:3:1: not YAML: the file ends where a value is expected"
    assert f"\nyaml_error/flow.yaml: broken\n  in HEAD: {reason}" in done.stdout
    assert "  text: 1 not run yet\n    file partial_gone/more.md (partial_gone" in done.stdout
    assert "input n" not in done.stdout, "it is the same, though the flow cannot run"
    comment = repository.desk.run("diff", "HEAD~1..HEAD", "--output", "markdown").stdout
    assert f"</code>\n\nbroken\n\n- ✗ in <code>HEAD</code>: <code>{reason}" in html.unescape(
        comment
    )


def test_settings_that_cannot_be_read_concern_every_flow(repository):
    repository.desk.write("poeflow.toml", "= 3\n")
    found = verdicts(repository.compared("--since", "HEAD"))
    assert found.keys() == {*CASES, SOUND, "untouched"}
    assert {flow["fate"] for flow in found.values()} == {"broken"}
    assert all("poeflow.toml:1:1: this is not TOML" in one["problem"] for one in found.values())


def test_a_flow_that_is_new_and_one_that_lacks_an_input_are_not_broken(repository):
    desk = repository.desk
    desk.write("new.yaml", "poeflow: 1\nsteps: [\n")
    repository.edit("sound/flow.yaml", "  log: {", "  topic: {type: string}\n  log: {")
    flows = {flow["path"]: flow for flow in repository.compared("--since", "HEAD")["flows"]}
    assert (flows["new.yaml"]["fate"], flows["new.yaml"]["steps"]) == ("added", [])
    assert "new.yaml:3:1: not YAML" in flows["new.yaml"]["problem"]
    sound = flows["sound/flow.yaml"]
    assert (sound["fate"], sound["old_problem"]) == ("changed", "")
    assert 'the input "topic" is missing' in sound["problem"]
