"""`poeflow diff` of revisions and `poeflow why`, in real repositories."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from repositories import FLOW, Repository

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(online):
    made = Repository(online)
    made.commit()
    return made


def test_a_changed_partial_is_the_cause_and_the_rest_follows(repository):
    repository.edit("parts/more.md", "No jargon", "No slang")
    repository.commit()
    found = repository.compared("HEAD~1..HEAD")
    (flow,) = found["flows"]
    assert [found["old"]["name"], found["new"]["name"]] == ["HEAD~1", "HEAD"]
    summary, notes = flow["steps"]
    assert summary["causes"] == [
        {
            "kind": "file",
            "name": "parts/more.md",
            "place": "parts/more.md:1",
            "old": "No jargon.\n",
            "new": "No slang.\n",
        }
    ]
    assert (notes["id"], notes["causes"], notes["follows"]) == ("notes", [], ["summary"])
    assert flow["instances"] == {"changed": 2, "added": 0, "removed": 0, "pending": 0}
    assert [(one["path"], one["fate"], one["step"]) for one in flow["outputs"]] == [
        ("out/notes.md", "changed", "notes")
    ]
    assert flow["spent"]["requests"] == 2
    assert flow["to_spend"] is None
    text = repository.desk.run("diff", "HEAD~1..HEAD").stdout
    assert "file parts/more.md (parts/more.md:1):\n      No [-jargon-]{+slang+}.\n" in text
    assert "notes: only follows summary; 1 changed\n" in text


def test_it_needs_no_history_and_leaves_nothing(repository, tmp_path):
    repository.edit("notes.yaml", "Summarize it", "Sum it up")
    repository.commit()
    before = repository.desk.run("diff", "HEAD~1..HEAD", "--output", "json").stdout
    clone = tmp_path / "clone"
    repository.git("clone", "-q", str(repository.desk.folder), str(clone))
    repository.desk.folder = clone
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    repository.desk.environ["TMPDIR"] = str(temporary)
    found = repository.compared("HEAD~1..HEAD")
    expected = json.loads(before)
    assert expected["flows"][0].pop("spent") is not None
    assert found["flows"][0].pop("spent") is None, "which only the store knows"
    assert found == expected
    assert list(temporary.iterdir()) == []
    assert repository.git("status", "--porcelain") == ""


def test_each_kind_of_cause(repository):
    edits = {
        "Summarize it": "Sum it up",
        "temperature: 0.2": "temperature: 0.4",
        "max_length: 4000": "max_length: 5000",
        "[x, y]": "[x, z]",
        "default: log.md": "default: log2.md",
    }
    for old, new in edits.items():
        repository.edit("notes.yaml", old, new)
    repository.desk.write("log2.md", "# 2.0\n")
    repository.commit(runs=False)
    shared = "parameter temperature"
    assert repository.causes("HEAD~1..HEAD") == {
        "summary": (["prompt prompt", shared, "input log", "file log2.md"], []),
        "notes": (["expectation expect", shared], ["summary"]),
        "each": (["setting for_each", shared], []),
    }
    (flow,) = repository.compared("HEAD~1..HEAD")["flows"]
    places = {cause["name"]: cause["place"] for cause in flow["steps"][0]["causes"]}
    assert places["prompt"] == "notes.yaml:10"
    assert places["temperature"] == "notes.yaml:6"
    assert flow["instances"]["pending"] == 5, "the one that is gone is in the lock still"
    assert flow["to_spend"]["requests"] >= 3
    repository.edit("notes.yaml", "Claude-Sonnet-4.5", "GPT-5.2")
    repository.git("commit", "-qam", "x")
    (flow,) = repository.compared("HEAD~1..HEAD")["flows"]
    assert flow["steps"][0]["causes"] == [
        {
            "kind": "model",
            "name": "model",
            "place": "notes.yaml:6",
            "old": "Claude-Sonnet-4.5",
            "new": "GPT-5.2",
        }
    ]


def test_a_step_with_new_work_differs_though_no_cause_is_known(repository):
    (repository.desk.folder / "out/x.md").unlink()
    (flow,) = repository.compared("--since", "HEAD")["flows"]
    (step,) = flow["steps"]
    assert (step["id"], step["causes"], step["follows"]) == ("each", [], [])
    assert step["instances"] == {"changed": 0, "added": 0, "removed": 0, "pending": 1}
    assert repository.compared("HEAD..HEAD")["flows"] == []


def test_since_a_revision_the_files_on_disk_count(repository):
    assert repository.compared("--since", "main")["flows"] == []
    repository.edit("notes.yaml", "Summarize it", "Sum it up")
    assert repository.causes("--since", "main") == {
        "summary": (["prompt prompt"], []),
        "notes": ([], ["summary"]),
    }
    assert repository.compared("--since", "main")["new"] == {
        "name": "the files on disk",
        "commit": None,
    }
    repository.desk.write("other.yaml", FLOW.replace("out/", "out2/"))
    flows = repository.compared("--since", "main")["flows"]
    assert [(one["path"], one["fate"]) for one in flows] == [
        ("notes.yaml", "changed"),
        ("other.yaml", "added"),
    ]
    assert [one["path"] for one in repository.compared("--since", "main", "other.yaml")["flows"]]


def test_an_answer_asked_for_again_is_a_cause_of_its_own(repository):
    repository.desk.run("run", "notes.yaml:each", "--refresh")
    lock = json.loads((repository.desk.folder / "notes.lock.json").read_text())
    changed = repository.git("status", "--porcelain")
    if "notes.lock.json" not in changed:  # the simulator gave the same answers
        for name, row in lock["steps"]["each"]["instances"].items():
            if name:
                words = row["hashes"].split(" ")
                row["hashes"] = " ".join([*words[:2], "A" * 22, *words[3:]])
        repository.desk.write("notes.lock.json", json.dumps(lock))
    assert repository.causes("--since", "HEAD") == {"each": (["answer answer"], [])}


def test_an_edit_that_was_accepted_is_no_answer(repository):
    repository.desk.write("out/x.md", "by hand\n")
    assert repository.desk.run("accept", "notes.yaml").returncode == 0
    (flow,) = repository.compared("--since", "HEAD")["flows"]
    (step,) = flow["steps"]
    assert [(one["kind"], one["name"]) for one in step["causes"]] == [("edit", "edit")]
    assert (step["instances"]["changed"], flow["spent"]) == (1, None)
    shown = repository.desk.run("diff", "--since", "HEAD").stdout
    assert "  each: 1 changed\n    edited by hand and accepted\n  out/x.md: changed" in shown
    comment = repository.desk.run("diff", "--since", "HEAD", "--output", "markdown").stdout
    assert "1 changed; <code>edited by hand and accepted</code>" in comment
    assert "again" not in comment
    assert "request" not in comment


def test_an_edit_is_told_from_answers_beside_it(repository):
    """Of the instances of a loop one was edited, and one has another answer."""
    repository.desk.write("out/x.md", "by hand\n")
    assert repository.desk.run("accept", "notes.yaml").returncode == 0
    path = repository.desk.folder / "notes.lock.json"
    lock = json.loads(path.read_text())
    rows = lock["steps"]["each"]["instances"].items()
    row = next(one for name, one in rows if name and "accepted" not in one)
    words = row["hashes"].split(" ")
    row["hashes"] = " ".join([*words[:2], "A" * 22, *words[3:]])
    path.write_text(json.dumps(lock))
    assert repository.causes("--since", "HEAD") == {"each": (["answer answer", "edit edit"], [])}
    (flow,) = repository.compared("--since", "HEAD")["flows"]
    assert flow["spent"]["requests"] == 1
    repository.commit(runs=False)
    assert repository.desk.run("accept", "--drop", "notes.yaml").returncode == 0
    assert repository.desk.run("run", "notes.yaml").returncode == 0
    (step,) = repository.compared("--since", "HEAD")["flows"][0]["steps"]
    assert ("edit", "dropped") in [(one["kind"], one["name"]) for one in step["causes"]]


@pytest.mark.parametrize("named", [(), ("notes.yaml",), ("other/renamed.yaml",), ("other",)])
def test_a_flow_that_was_renamed_is_compared_with_itself(repository, named):
    for folder in ("parts", "log.md"):
        repository.edit("notes.yaml", folder, f"//{folder}")
    repository.edit("notes.yaml", "save: out/notes.md", 'save: "//out/notes.md"')
    repository.edit("notes.yaml", '"out/{{', '"//out/{{')
    repository.commit()
    (repository.desk.folder / "other").mkdir()
    repository.git("mv", "notes.yaml", "other/renamed.yaml")
    repository.git("mv", "notes.lock.json", "other/renamed.lock.json")
    repository.commit(runs=False)
    (flow,) = repository.compared("HEAD~1..HEAD", *named)["flows"]
    assert (flow["path"], flow["old_path"], flow["fate"]) == (
        *("other/renamed.yaml", "notes.yaml"),
        "renamed",
    )
    assert (flow["steps"], flow["outputs"], flow["spent"], flow["to_spend"]) == ([], [], None, None)
    shown = repository.desk.run("diff", "HEAD~1..HEAD", *named).stdout
    assert shown == "notes.yaml -> other/renamed.yaml: renamed\n"
    comment = repository.desk.run("diff", "HEAD~1..HEAD", "--output", "markdown").stdout
    assert (
        "<code>notes&#46;yaml</code> -&#62; <code>other&#47;renamed&#46;yaml</code>\n\nrenamed\n"
        in comment
    )


def test_a_flow_that_was_renamed_and_changed_is_known_by_its_lock(repository):
    repository.git("mv", "notes.yaml", "renamed.yaml")
    repository.git("mv", "notes.lock.json", "renamed.lock.json")
    repository.edit("renamed.yaml", "Summarize it", "Sum it up")
    repository.commit(runs=False)
    (flow,) = repository.compared("HEAD~1..HEAD")["flows"]
    assert (flow["old_path"], flow["fate"]) == ("notes.yaml", "renamed")
    assert repository.causes("HEAD~1..HEAD")["summary"] == (["prompt prompt"], [])


def test_a_copy_of_a_flow_is_a_new_one(repository):
    repository.desk.write("copy.yaml", FLOW)
    repository.edit("notes.yaml", "Summarize it", "Sum it up")
    flows = repository.compared("--since", "HEAD")["flows"]
    assert [(one["path"], one["fate"], one["old_path"]) for one in flows] == [
        ("copy.yaml", "added", None),
        ("notes.yaml", "changed", None),
    ]


def test_a_flow_without_a_lock_that_was_renamed_is_known_by_its_text(repository):
    repository.git("rm", "-q", "--cached", "notes.lock.json")
    (repository.desk.folder / "notes.lock.json").unlink()
    repository.commit(runs=False)
    repository.git("mv", "notes.yaml", "renamed.yaml")
    repository.commit(runs=False)
    (flow,) = repository.compared("HEAD~1..HEAD")["flows"]
    assert (flow["old_path"], flow["fate"]) == ("notes.yaml", "renamed")


def test_a_flow_that_is_gone_and_one_that_cannot_be_read(repository):
    repository.git("mv", "notes.yaml", "renamed.yaml")
    repository.edit("renamed.yaml", "steps.summary.text", "steps.sumary.text")
    repository.commit(runs=False)
    flows = repository.compared("HEAD~1..HEAD")["flows"]
    assert [(one["path"], one["fate"]) for one in flows] == [
        ("notes.yaml", "removed"),
        ("renamed.yaml", "added"),
    ]
    assert "renamed.yaml:14" in flows[1]["problem"]
    assert "sumary" in flows[1]["problem"]
    assert str(Path("/tmp")) not in flows[1]["problem"]


def test_the_json_has_the_shape_that_is_documented(repository):
    repository.edit("notes.yaml", "Summarize it", "Sum it up")
    schema = json.loads((ROOT / "schemas/diff.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    found = repository.compared("--since", "HEAD")
    Draft202012Validator(schema).validate(found)
    assert found["flows"]


def test_a_comment_for_a_pull_request(repository):
    repository.edit("parts/more.md", "No jargon", "```\n</details>\nNo @slang")
    done = repository.desk.run("diff", "--since", "HEAD", "--output", "markdown")
    assert done.stdout.startswith("<!-- poeflow diff -->\n### poeflow: <code>since HEAD</code>\n")
    assert "````text\n" in done.stdout
    outside = done.stdout.split("````")
    assert "@slang" not in outside[0] + outside[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope..HEAD"], 'git knows no revision "nope"'),
        (["HEAD:x..HEAD"], '"HEAD:x" is not a revision'),
        (["--since", "@{1}"], '"@{1}" is not a revision'),
        (["HEAD..HEAD", "nope.yaml"], "nope.yaml: no such flow in either revision"),
        (["--since", "HEAD", "HEAD..HEAD"], "are two comparisons"),
        (["1", "2", "3"], "two runs are compared"),
        (["--output", "markdown"], "two runs are compared, as text or json"),
        (["HEAD"], "a revision of git: --since HEAD, HEAD..HEAD"),
    ],
)
def test_what_cannot_be_compared_says_what_can(repository, arguments, words):
    done = repository.desk.run("diff", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_two_dots_in_a_key_are_not_two_revisions(online):
    repository = Repository(online)
    repository.edit("notes.yaml", "[x, y]", "['a..b']")
    repository.commit()
    repository.commit()
    done = online.run("diff", "1/each@a..b", "2/each@a..b")
    assert (done.returncode, done.stderr) == (0, "runs 1 and 2 do not differ\n")


def test_outside_git_it_is_a_usage_error(online):
    online.write("notes.yaml", FLOW)
    done = online.run("diff", "main..HEAD")
    assert done.returncode == 2
    assert "main..HEAD needs a repository of git" in done.stderr


READS = """\
poeflow: 1
steps:
  a:
    model: Claude-Sonnet-4.5
    system: {file: parts/system.md}
    prompt: '{% include "parts/tone.md" %}'
    attachments: [logo.png]
    output: {schema: {file: a.schema.json}}
  b:
    for_each: {glob: "docs/*.md"}
    render: "{{ read(item) }}"
  c:
    use: inner.yaml
  d:
    model: Claude-Sonnet-4.5
    prompt: x
    tools: [{name: f, run: "tools:f"}]
"""
INNER = """\
poeflow: 1
steps:
  deep:
    for_each: {file: rows.csv, key: item.id}
    render: '{{ item.id }}{% include "parts/more.md" %}'
"""


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("parts/system.md", ["f.yaml:5:20: step a: system"]),
        ("parts/tone.md", ["f.yaml:6:13: step a: prompt"]),
        (
            "parts/more.md",
            [
                "f.yaml:6:13: step a: prompt, through parts/tone.md",
                "inner.yaml:5:13: step c/deep: render",
                "inner.yaml:5:13: step deep: render",
            ],
        ),
        ("logo.png", ["f.yaml:7:19: step a: attachments[0]"]),
        ("a.schema.json", ["f.yaml:8:22: step a: output.schema"]),
        ("docs/new.md", ["f.yaml:10:22: step b: for_each.glob, by the pattern docs/*.md"]),
        ("tools.py", ["f.yaml:17:28: step d: tools[0].run"]),
        (
            "rows.csv",
            ["inner.yaml:4:22: step c/deep: for_each", "inner.yaml:4:22: step deep: for_each"],
        ),
        ("f.inputs.yaml", ["f.yaml:1:1: the whole flow: its inputs file"]),
    ],
)
def test_why_a_file_is_read(desk, file, lines):
    desk.write("f.yaml", READS)
    desk.write("inner.yaml", INNER)
    desk.write("parts/system.md", "You are kind.\n")
    desk.write("parts/tone.md", "Be brief. {% include 'more.md' %}\n")
    desk.write("parts/more.md", "No jargon.\n")
    desk.write("docs/a.md", "x")
    desk.write("rows.csv", "id\n1\n")
    desk.write("logo.png", b"\x89PNG\r\n\x1a\n")
    desk.write("a.schema.json", '{"type": "object"}')
    desk.write("tools.py", "def f():\n    raise SystemExit\n")
    desk.write("f.inputs.yaml", "{}")
    done = desk.run("why", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == lines


def test_why_knows_what_only_a_run_knows(repository):
    repository.desk.write(
        "f.yaml", 'poeflow: 1\nsteps: {a: {render: \'{{ read("l" ~ "og.md") }}\'}}'
    )
    repository.desk.run("run", "f.yaml")
    found = json.loads(repository.desk.run("why", "log.md", "f.yaml", "--output", "json").stdout)
    assert found == [
        {
            "flow": "f.yaml",
            "step": "a",
            "why": "the last run",
            "pattern": None,
            "through": [],
            "path": "f.yaml",
            "line": 2,
            "column": 9,
        }
    ]
    done = repository.desk.run("why", "nothing.md")
    told = "nothing.md does not exist, and no flow reads it; 2 flows looked at\n"
    assert (done.stdout, done.stderr) == ("", told)


def test_why_names_a_file_that_is_near_one_that_is_not_there(repository):
    for written, near in (("parts/tne.md", "parts/tone.md"), ("more.md", "parts/more.md")):
        done = repository.desk.run("why", written)
        told = f"{written} does not exist, and no flow reads it; 1 flow looked at"
        assert done.stderr == f'{told}; did you mean "{near}"?\n'
    (repository.desk.folder / "tone.txt").touch()
    done = repository.desk.run("why", "tone.txt")
    assert (done.returncode, done.stderr) == (0, "no flow reads tone.txt; 1 flow looked at\n")


def test_a_flow_with_a_secret_is_compared_with_and_without_it(repository):
    secret = "customer-secret-4711"
    repository.desk.write("keys.txt", f"POEFLOW_SECRET_TOKEN={secret}\n")
    repository.desk.write(".gitignore", ".poeflow\nhome\nkeys.txt\n")
    repository.edit("notes.yaml", "  log: {", "  token: {secret: true}\n  log: {")
    repository.edit("notes.yaml", "Rewrite: ", "Rewrite for {{ inputs.token }}: ")
    repository.commit(runs=False)
    given = ("--env-file", "keys.txt")
    assert repository.desk.run("run", "notes.yaml", *given).returncode == 0
    repository.commit(runs=False)
    repository.edit("notes.yaml", "Rewrite for", "Write for")
    repository.commit(runs=False)
    (flow,) = repository.compared("HEAD~1..HEAD", *given)["flows"]
    assert (flow["problem"], flow["steps"][0]["instances"]["pending"]) == ("", 1)
    assert [(one["id"], len(one["causes"])) for one in flow["steps"]] == [("notes", 1)]
    (without,) = repository.compared("HEAD~1..HEAD")["flows"]
    assert "set POEFLOW_SECRET_TOKEN" in without["problem"]
    assert [one["causes"] for one in without["steps"]] == [flow["steps"][0]["causes"]]
    assert secret not in json.dumps([flow, without])


def test_line_ends_that_git_makes_in_a_checkout_are_no_change(repository):
    repository.git("config", "core.autocrlf", "true")
    repository.git("rm", "-q", "-r", "--cached", ".")
    repository.git("reset", "-q", "--hard")
    assert b"\r\n" in (repository.desk.folder / "parts/more.md").read_bytes()
    assert repository.compared("--since", "HEAD")["flows"] == []
    repository.edit("log.md", "1.0", "2.0")
    assert repository.causes("--since", "HEAD") == {
        "summary": (["file log.md"], []),
        "notes": ([], ["summary"]),
    }
    [flow] = repository.compared("--since", "HEAD")["flows"]
    assert flow["outputs"] == []


@pytest.mark.parametrize("written", [("HEAD~1..HEAD",), ("--since", "HEAD~1")])
def test_changes_in_a_project_below_are_named(repository, written):
    for folder in ("one", "two"):
        repository.desk.write(f"{folder}/poeflow.toml", "")
        repository.desk.write(f"{folder}/flows/notes.yaml", FLOW)
    repository.commit(runs=False)
    repository.edit("two/flows/notes.yaml", "Summarize", "Sum up")
    repository.edit("notes.yaml", "Rewrite", "Write")
    repository.commit(runs=False)
    told = repository.desk.run("diff", *written).stderr
    message = "two is a project of its own, and has changes: compare it in that folder"
    assert told.splitlines()[:-1] == [f"warning: {message}"]
    assert [one["path"] for one in repository.compared(*written)["flows"]] == ["notes.yaml"]
