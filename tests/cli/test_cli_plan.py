"""`plan`, `run --locked`, `accept` and `cache` as they are used on the command line."""

import json
import shutil

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
    asked = online.run("plan", "a.yaml", "--render", "draft", "--output", "json")
    (status,) = json.loads(asked.stdout)
    assert status["request"]["body"]["messages"] == [{"role": "user", "content": "draft it"}]
    assert online.run("plan", "a.yaml", "--render", "draft").stdout == (
        'draft: new; the lock does not have it\n{"model":"GPT-5.2"}\n\n-- user --\ndraft it\n'
    )
    unknown = online.run("plan", "a.yaml", "--render", "polish")
    assert unknown.stdout == (
        "polish: unknown; unknown until draft has run; the lock does not have it\n"
        "its request is not known before that\n"
    )
    missing = online.run("plan", "a.yaml", "--render", "drafft")
    assert missing.returncode == 2
    assert 'did you mean "draft"?' in missing.stderr


def test_a_request_of_what_is_fresh_can_be_looked_at(online):
    loop = "  each: {for_each: [x, 'm:1'], prompt: '{{ item }} {{ steps.draft.text }}'}\n"
    loop += "  page: {render: 'all of {{ steps.each.all | length }}'}\n"
    online.write("a.yaml", FLOW + loop)
    online.run("run", "a.yaml")
    draft = (online.folder / "out.md").read_text().rstrip("\n")
    for name in ("each@m:1", "each[m:1]"):
        assert online.run("plan", "a.yaml", "--render", name).stdout == (
            f'each[m:1]: fresh\n{{"model":"GPT-5.2"}}\n\n-- user --\nm:1 {draft}\n'
        )
    assert online.run("plan", "a.yaml", "--render", "page").stdout == (
        "page: fresh\nit asks no model\n"
    )
    for command in (("plan", "a.yaml", "--render", "each"), ("cache", "explain", "a.yaml", "each")):
        done = online.run(*command)
        assert (done.returncode, done.stderr) == (
            2,
            'error: there is no instance "each"\n  it has each@m:1, each@x\n',
        )


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
        "out.md: it has conflict marks; resolve them first\n",
    )
    assert online.run("accept", "a.yaml", "--drop").stderr == "nothing was accepted\n"


TWO = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  filed: {for_each: [x], prompt: "say {{ item }}", output: {save: "{{ item }}.md"}}
  told: {prompt: tell}
"""


def test_what_is_missing_does_not_change_the_form_of_the_rest(online):
    online.write("a.yaml", TWO)
    whole = json.loads(online.run("run", "a.yaml").stdout)
    shutil.rmtree(online.folder / ".poeflow")
    assert json.loads(online.run("run", "a.yaml").stdout) == {"filed": whole["filed"]}
    told = online.run("run", "a.yaml:told", "--only")
    assert (told.returncode, told.stdout) == (0, "")
    assert "told is current, and its answer is not here" in told.stderr


def test_a_fresh_clone_that_is_current_needs_no_key(online, simulator):
    online.write("a.yaml", FLOW)
    made = online.run("run", "a.yaml").stdout
    shutil.rmtree(online.folder / ".poeflow")
    del online.environ["POE_API_KEY"]
    clone = online.run("run", "a.yaml:draft", "--only")
    assert (clone.returncode, clone.stdout) == (0, (online.folder / "out.md").read_text())
    whole = online.run("run", "a.yaml")
    assert (whole.returncode, whole.stdout) == (0, "")
    assert "polish is current, and its answer is not here" in whole.stderr
    assert online.run("run", "a.yaml", "--refresh").returncode == 5
    assert made
    assert len(simulator.requests) == 2


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
    unknown = online.run("run", "a.yaml:polsh")
    assert (unknown.returncode, unknown.stderr) == (
        2,
        'error: there is no step "polsh" in a\n  did you mean "polish"?\n',
    )


def test_an_instance_is_named_whatever_its_key_holds(online, simulator):
    keys = ["m:free", "me@home", "a/b", "a]/b[c", "b#2", "x[0]"]
    step = f"{{for_each: {json.dumps(keys)}, model: GPT-5.2, prompt: 'on {{{{ item }}}}'}}"
    online.write("a.yaml", f"poeflow: 1\nsteps: {{a: {step}}}\n")
    texts = json.loads(online.run("run", "a.yaml").stdout)
    for key in keys:
        for name in (f"a@{key}", f"a[{key}]"):
            only = online.run("run", f"a.yaml:{name}", "--only")
            assert (only.returncode, only.stdout) == (0, f"{texts[key]}\n")
            assert f"-- user --\non {key}\n" in online.run("show", f"1/{name}").stdout
    assert len(simulator.requests) == len(keys)


def test_a_key_that_is_not_there_is_told_before_anything_is_asked(online, simulator):
    loop = "  each: {for_each: [x, y], prompt: '{{ item }}'}\n"
    late = "  late: {for_each: '[steps.draft.status]', prompt: '{{ item }}'}\n"
    online.write("a.yaml", FLOW + loop + late)
    for how in ("--only", "--until", "--refresh"):
        done = online.run("run", "a.yaml:each@zzz", how)
        assert (done.returncode, done.stdout, done.stderr) == (
            2,
            "",
            "error: no key of each matches zzz\n  each has x, y\n",
        )
    once = online.run("run", "a.yaml:draft@x", "--only")
    assert once.stderr == (
        "error: no key of draft matches x\n  draft runs once: name it without a key\n"
    )
    assert simulator.requests == ()
    done = online.run("run", "a.yaml:late@zzz", "--until")
    assert done.returncode == 2
    assert "late: failed after 0.0 s: no key of late matches zzz; late has ok\n" in done.stderr
    assert len(simulator.requests) == 1


def test_a_pattern_that_matches_no_key_is_told(online, simulator):
    online.write("a.yaml", FLOW)
    none = online.run("run", "a.yaml", "--key", "z*")
    hint = "  --key chooses among the instances of loops\n"
    assert none.stderr == f"error: --key z*: no step runs over several items\n{hint}"
    assert none.returncode == 2
    loops = "  each: {for_each: [x, y], prompt: '{{ item }}'}\n  b: {for_each: [z], render: b}\n"
    online.write("a.yaml", FLOW + loops)
    done = online.run("run", "a.yaml", "--key", "q*")
    assert (done.returncode, done.stderr) == (
        2,
        "error: no key of each, b matches q*\n  each has x, y; b has z\n",
    )
    assert simulator.requests == ()
    assert online.run("run", "a.yaml", "--key", "z*").returncode == 0
    late = "  late: {for_each: '[steps.draft.status]', render: '{{ item }}'}\n"
    online.write("a.yaml", FLOW + late)
    done = online.run("run", "a.yaml", "--key", "q*")
    assert done.returncode == 2
    assert "run: failed after 0.0 s: no key of late matches q*; late has ok" in done.stderr


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
        "  each    2 stale, 1 new: render changed (2); the lock does not have it (1)",
        "b/b.yaml",
        "  draft   new: the lock does not have it",
        "  polish  unknown: unknown until draft has run; the lock does not have it",
    ]
    statuses = json.loads(online.run("status", "a.yaml", "--output", "json").stdout)
    assert [status["state"] for status in statuses["a.yaml"]][:2] == ["fresh", "fresh"]
    online.write("b/b.yaml", "poeflow: 1\n")
    assert online.run("status", "b").returncode == 3


LOOP = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say: {for_each: "{{ range(120) | list }}", prompt: "say {{ item }}"}
"""


def test_a_part_of_a_loop_is_planned_and_looked_at(online, simulator):
    online.write("a.yaml", LOOP)
    planned = online.run("plan", "a.yaml", "--first", "20")
    assert len(planned.stdout.splitlines()) == 20
    assert planned.stderr == (
        "20 new: 20 calls, about 170 prompt tokens, answers of unknown length, cost unknown\n"
    )
    planned = online.run("plan", "a.yaml", "--key", "11*", "--output", "json")
    statuses = json.loads(planned.stdout)
    assert [status["id"] for status in statuses] == [f"say[{n}]" for n in (11, *range(110, 120))]
    assert statuses[0]["estimate"] == {
        "prompt_tokens": 9,
        "answer_tokens": 0,
        "answer_from": None,
        "cost_usd": None,
    }
    looked = online.run("status", "a.yaml", "--first", "3").stdout.splitlines()
    assert looked == ["a.yaml", "  say  3 new: the lock does not have it"]
    assert len(simulator.requests) == 0


def test_a_large_run_says_what_it_will_send_before_it_does(online):
    online.write("a.yaml", LOOP)
    first, second, *_ = online.run("run", "a.yaml").stderr.splitlines()
    assert first == "120 requests to send, about 1,070 prompt tokens"
    assert second == "say: 120 to do"
    planned = online.run("plan", "a.yaml")
    assert planned.stderr == "120 fresh: no calls\n"


def test_a_day_has_a_budget_for_all_its_runs_and_plan_says_what_is_left(
    online, simulator, tmp_path_factory
):
    online.write("poeflow.toml", '[prices."GPT-5.2"]\nprompt = 1000\ncompletion = 1000\n')
    config = tmp_path_factory.mktemp("home") / "config.toml"
    config.write_text("max_cost_usd_per_day = 1.05\nmax_cost_usd_per_month = 50\n")
    online.environ["POEFLOW_CONFIG"] = str(config)
    for name in "ab":
        online.write(
            f"{name}.yaml", f"poeflow: 1\nsteps: {{x: {{model: GPT-5.2, prompt: {name}}}}}"
        )
    left = ["today: 1.05 of 1.05 USD left (your configuration), 0 used"]
    left += ["this month: 50 of 50 USD left (your configuration), 0 used"]
    assert online.run("plan", "b.yaml").stderr.splitlines()[-2:] == left
    assert online.run("run", "a.yaml").returncode == 0
    assert "today: 1.05" not in online.run("plan", "b.yaml").stderr
    assert " of 1.05 USD left (your configuration), 0.0" in online.run("plan", "b.yaml").stderr
    stopped = online.run("run", "b.yaml", "--max-cost-usd-per-day", "7")
    assert stopped.returncode == 9
    assert "all runs of today may use 1.05 USD (estimated, your configuration)" in stopped.stderr
    online.environ["POEFLOW_CONFIG"] = "/dev/null"
    stopped = online.run("run", "b.yaml", "--max-cost-usd-per-month", "0.5")
    assert stopped.returncode == 9
    assert "raise --max-cost-usd-per-month, or run later" in stopped.stderr
    assert len(simulator.requests) == 1
    limits = ("--max-cost-usd-per-day", "7", "--max-cost-usd-per-month", "0.5")
    day, month = online.run("plan", "b.yaml", *limits).stderr.splitlines()[-2:]
    assert day.startswith("today: 6.")
    assert day.endswith(" of 7 USD left (the command line), 0.056 used")
    assert month == "this month: 0.444 of 0.5 USD left (the command line), 0.056 used"
    assert online.run("run", "b.yaml", "--max-cost-usd-per-day", "7").returncode == 0


def test_plan_counts_what_has_no_known_cost(online):
    online.write("a.yaml", "poeflow: 1\nsteps: {x: {model: GPT-5.2, prompt: hi}}")
    assert online.run("run", "a.yaml").returncode == 0
    (day,) = online.run("plan", "a.yaml", "--max-cost-usd-per-day", "7").stderr.splitlines()[-1:]
    assert day.endswith("; 1 request of unknown cost")


ALIKE = """\
poeflow: 1
steps:
  row: {model: GPT-5.2, for_each: "range(21) | list", prompt: "Say {{ item }}."}
  few: {model: GPT-5.2, for_each: "range(20) | list", prompt: "Say {{ item }}, too."}
"""


def test_many_that_are_alike_are_one_line_of_what_is_not_proven(online):
    online.write("a.yaml", ALIKE)
    assert online.run("run", "a.yaml").returncode == 0
    online.write("a.yaml", ALIKE.replace("Say", "Tell"))
    done = online.run("run", "a.yaml", "--locked")
    assert (done.returncode, done.stderr.splitlines()) == (
        4,
        [
            "a.yaml: row[0] and 20 more: stale: prompt changed",
            *(f"a.yaml: few[{number}]: stale: prompt changed" for number in range(20)),
        ],
    )


def test_what_is_not_cached_is_asked_in_every_run_and_locked_all_the_same(online, simulator):
    online.write(
        "a.yaml",
        "poeflow: 1\n"
        "steps:\n"
        "  news: {model: GPT-5.2, prompt: hi, cache: false, output: {save: news.md}}\n"
        '  rows: {model: GPT-5.2, for_each: [x, "y"], prompt: "say {{ item }}", cache: false}\n'
        '  title: {model: GPT-5.2, prompt: "sum up {{ steps.news.text }}"}\n',
    )
    assert online.run("run", "a.yaml").returncode == 0
    assert len(simulator.requests) == 4
    planned = online.run("plan", "a.yaml")
    again = "a run asks for it again: it has cache: false"
    assert planned.stdout.splitlines() == [
        f"news     fresh    {again}",
        f"rows[x]  fresh    {again}",
        f"rows[y]  fresh    {again}",
    ]
    assert planned.stderr.startswith("4 fresh: 3 or more calls, ")
    assert online.run("run", "a.yaml", "--locked").returncode == 0
    assert len(simulator.requests) == 4
    assert online.run("run", "a.yaml").returncode == 0
    assert len(simulator.requests) == 7
    assert online.run("run", "a.yaml:title", "--only").returncode == 0
    assert len(simulator.requests) == 7


def test_a_run_says_first_that_a_limit_will_stop_it(online, simulator):
    steps = 'say: {model: GPT-5.2, for_each: "range(230) | list", prompt: "say {{ item }}"}'
    online.write("a.yaml", f"poeflow: 1\nsteps: {{{steps}}}\n")
    online.environ["CI"] = "true"
    warning = "about {} requests are needed, and only {} of {} are left ({})"
    lines = online.run("run", "a.yaml").stderr.splitlines()
    assert warning.format(230, 200, 200, "the default in CI") in lines[1]
    assert len(simulator.requests) == 200
    more = steps.replace("230", "380")
    online.write("a.yaml", f"poeflow: 1\nsteps: {{{more}}}\n")
    stopped = online.run("run", "a.yaml", "--max-requests", "120")
    assert stopped.returncode == 9
    assert ", and only 120 of 120 are left (the command line): " in stopped.stderr
    assert len(simulator.requests) == 320
    done = online.run("run", "a.yaml")
    assert (done.returncode, done.stderr.count("are left")) == (0, 0)


def test_a_limit_that_is_just_enough_for_all_flows_of_a_command_stops_none(online, simulator):
    steps = 'say: {model: GPT-5.2, for_each: "range(101) | list", prompt: "say {{ item }} again"}'
    for name in "ab":
        online.write(f"{name}.yaml", f"poeflow: 1\nsteps: {{{steps.replace('again', name)}}}\n")
    done = online.run("run", "a.yaml", "b.yaml", "--max-requests", "202")
    assert (done.returncode, done.stderr.count("are left")) == (0, 0)
    stopped = online.run("run", "a.yaml", "b.yaml", "--max-requests", "201", "--refresh")
    assert stopped.returncode == 9
    [warning] = [line for line in stopped.stderr.splitlines() if "are left" in line]
    assert "about 101 requests are needed, and only 100 of 201 are left" in warning
    assert len(simulator.requests) == 202 + 201


UNCACHED = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  told: {command: [echo, hello], reads: []}
  a: {prompt: first}
  b: {prompt: "again {{ steps.told.text }}", history: a, cache: false}
"""


def test_what_is_not_cached_is_asked_with_all_that_it_reads(online, simulator):
    online.write("a.yaml", UNCACHED)
    assert online.run("run", "a.yaml", "--allow-tools").returncode == 0
    *_, first = simulator.requests
    for is_here in (True, False, False):
        if not is_here:
            shutil.rmtree(online.folder / ".poeflow")
        done = online.run("run", "a.yaml", "--allow-tools")
        assert done.returncode == 0, done.stderr
        *_, last = simulator.requests
        assert last.json["messages"] == first.json["messages"]


def test_what_is_not_cached_is_not_asked_beside_what_failed(online, simulator):
    online.write(
        "a.yaml",
        "poeflow: 1\n"
        "steps:\n"
        "  row:\n"
        "    model: GPT-5.2\n"
        "    for_each: [p, q]\n"
        "    prompt: '{{ item }}'\n"
        "    cache: false\n"
        "    expect: [{that: \"item == 'p'\"}]\n",
    )
    assert online.run("run", "a.yaml").returncode == 1
    assert len(simulator.requests) == 2
    assert online.run("run", "a.yaml", "--failed").returncode == 1
    assert len(simulator.requests) == 3


def test_plan_knows_what_becomes_of_an_answer_that_is_not_cached(online, simulator):
    one = "a: {model: GPT-5.2, prompt: hi, cache: false, output: {save: a.md}}"
    online.write("a.yaml", f"poeflow: 1\nsteps:\n  {one}\n")
    reader = '  b: {model: GPT-5.2, prompt: "say {{ steps.a.text }}"}\n'
    online.write("b.yaml", f"poeflow: 1\nsteps:\n  {one.replace('a.md', 'b.md')}\n{reader}")
    for flow, calls in (("a.yaml", "1 fresh: 1 call, "), ("b.yaml", "2 fresh: 1 or more calls, ")):
        assert online.run("run", flow).returncode == 0
        assert online.run("plan", flow).stderr.startswith(calls)
    skipped = "  c: {if: steps.a.text == 'no', model: GPT-5.2, prompt: hi, cache: false}\n"
    online.write("c.yaml", f"poeflow: 1\nsteps:\n  a: {{render: x}}\n{skipped}")
    assert online.run("run", "c.yaml").returncode == 0
    assert online.run("plan", "c.yaml").stderr == "1 fresh, 1 skipped: no calls\n"
    (online.folder / "a.md").write_text("better\n")
    assert online.run("accept", "a.yaml").returncode == 0
    assert online.run("plan", "a.yaml").stderr == "1 fresh: no calls\n"
    count = len(simulator.requests)
    assert online.run("run", "a.yaml").returncode == 0
    assert len(simulator.requests) == count
