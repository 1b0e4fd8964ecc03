"""`plan`, `run --locked`, `accept` and `cache` as they are used on the command line."""

import json

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft: {prompt: draft it, output: {save: out.md}}
  polish: {prompt: "polish {{ steps.draft.text }}"}
"""


def test_a_plan_says_what_would_be_sent_and_why(online):
    online.write("a.yaml", FLOW)
    planned = online.run("plan", "a.yaml")
    assert planned.returncode == 0
    assert planned.stdout == (
        "draft   new      the lock does not have it\n"
        "polish  unknown  unknown until draft has run; the lock does not have it\n"
    )
    assert planned.stderr.startswith("1 new, 1 unknown: 1 or more calls, about ")
    assert not (online.folder / ".poeflow").exists()


def test_a_request_can_be_looked_at_before_it_is_sent(online):
    online.write("a.yaml", FLOW)
    (fact,) = json.loads(online.run("plan", "a.yaml", "--render", "draft").stdout)
    assert fact["request"]["body"]["messages"] == [{"role": "user", "content": "draft it"}]
    missing = online.run("plan", "a.yaml", "--render", "drafft")
    assert missing.returncode == 2
    assert 'did you mean "draft"?' in missing.stderr


def test_a_run_proves_and_accepts(online):
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml", "--locked").returncode == 4
    assert online.run("run", "a.yaml").returncode == 0
    key = online.environ.pop("POE_API_KEY")
    proven = online.run("run", "a.yaml", "--locked")
    assert (proven.returncode, proven.stderr) == (0, "a.yaml: current\n")
    online.write("out.md", "my words\n")
    edited = online.run("run", "a.yaml", "--locked")
    assert (edited.returncode, edited.stderr) == (
        4,
        "a.yaml: draft: edited: out.md was edited\n",
    )
    assert online.run("accept", "a.yaml").stderr == "accepted out.md\n"
    below = online.run("run", "a.yaml", "--locked")
    assert below.stderr == "a.yaml: polish: stale: steps.draft.text changed\n"
    assert online.run("accept", "a.yaml").stderr == "nothing was edited\n"
    online.environ["POE_API_KEY"] = key
    assert online.run("run", "a.yaml").returncode == 0
    assert online.run("run", "a.yaml", "--locked").returncode == 0


def test_files_that_cannot_be_accepted_are_named_with_the_reason(online):
    online.write("a.yaml", FLOW)
    online.run("run", "a.yaml")
    unknown = online.run("accept", "a.yaml", "nope.md")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: nope.md is written by no step of a\n")
    online.write("out.md", "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> b\n")
    marked = online.run("accept", "a.yaml")
    assert (marked.returncode, marked.stderr) == (
        1,
        "out.md: it holds the marks of a merge; resolve them first\n",
    )
    assert online.run("accept", "a.yaml", "--drop").stderr == "nothing was accepted\n"


def test_the_cache_explains_and_is_pruned(online):
    online.write("a.yaml", FLOW)
    online.run("run", "a.yaml")
    assert online.run("cache", "explain", "a.yaml", "draft").stdout == (
        "draft: fresh\n  its stored answer is used\n"
    )
    online.write("a.yaml", FLOW.replace("draft it", "draft this"))
    told = online.run("cache", "explain", "a.yaml", "draft").stdout
    assert told.startswith("draft: stale\n  prompt changed\n")
    assert '-        "content": "draft it",' in told.replace("          ", "        ")
    online.run("run", "a.yaml")
    assert online.run("cache", "prune", "--unreferenced").stderr.startswith("dropped 2 entries")
    assert online.run("run", "a.yaml", "--max-requests", "0").returncode == 0
    assert online.run("cache", "prune").returncode == 2
    assert online.run("cache", "prune", "--older", "0s").stderr.startswith("dropped 2 entries")


def test_one_step_is_asked_again_by_its_name(online, simulator):
    online.write("a.yaml", FLOW)
    online.run("run", "a.yaml")
    assert len(simulator.requests) == 2
    assert online.run("run", "a.yaml:polish", "--refresh").returncode == 0
    assert [r.json["messages"][0]["content"][:6] for r in simulator.requests][2:] == ["polish"]
    unclear = online.run("run", "a.yaml:polish")
    assert (unclear.returncode, len(simulator.requests)) == (2, 3)
    assert "add --only, --until or --refresh" in unclear.stderr


def test_a_part_of_a_flow_is_run_by_its_name(online, simulator):
    online.write("a.yaml", FLOW)
    for words, told in (
        (("a.yaml:polish", "--only"), "draft was left out, and has no result"),
        (("a.yaml", "--only"), "for example flow.yaml:draft --only"),
        (("a.yaml:draft", "--only", "--until"), "--only and --until are two things"),
        (("a.yaml:daft", "--until"), 'did you mean "draft"?'),
    ):
        done = online.run("run", *words)
        assert (done.returncode, told in done.stderr) == (2, True)
    assert len(simulator.requests) == 0
    done = online.run("run", "a.yaml:draft", "--until")
    assert (done.returncode, len(simulator.requests)) == (0, 1)
    assert done.stdout.strip()
    assert online.run("run", "a.yaml:polish", "--only").returncode == 0
    assert len(simulator.requests) == 2


def test_problems_as_json_are_json_whatever_they_hold(online):
    online.write("ä.yaml", "poeflow: 1\nstepß: {}\n")
    (first, *_) = json.loads(online.run("check", "ä.yaml", "--output", "json").stdout)
    assert "stepß" in first["message"] or "steps" in first["message"]


def test_the_status_of_flows_is_a_line_a_step(online, simulator):
    online.write("a.yaml", FLOW + "  each: {for_each: [x, y], render: '{{ item }}'}\n")
    online.write("b/b.yaml", FLOW.replace("draft it", "write it"))
    assert online.run("run", "a.yaml").returncode == 0
    online.write("a.yaml", FLOW + "  each: {for_each: [x, y, z], render: '{{ item }}!'}\n")
    done = online.run("status")
    assert (done.returncode, done.stderr, len(simulator.requests)) == (0, "", 2)
    assert done.stdout.splitlines() == [
        "a.yaml",
        "  draft   fresh",
        "  polish  fresh",
        "  each    2 stale, 1 new: render changed; the lock does not have it",
        "b/b.yaml",
        "  draft   new: the lock does not have it",
        "  polish  unknown: unknown until draft has run; the lock does not have it",
    ]
    facts = json.loads(online.run("status", "a.yaml", "--output", "json").stdout)
    assert [fact["state"] for fact in facts["a.yaml"]][:2] == ["fresh", "fresh"]
    online.write("b/b.yaml", "poeflow: 1\n")
    assert online.run("status", "b").returncode == 3
