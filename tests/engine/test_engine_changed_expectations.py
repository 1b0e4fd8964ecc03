"""A change of what a step expects is seen, with its answer stored and without."""

import pytest

from poeflow.engine.recipe_parts import Recipe

FLOW = """\
poeflow: 1
inputs: {word: {default: e}}
steps:
  a:
    model: GPT-5.2
    prompt: hello
    expect: [EXPECTED]
    output: {save: a.md}
"""
GOOD = 'contains: "a"'


def lock(bench) -> bytes:
    return (bench.folder / "a.lock.json").read_bytes()


def flow(*expected: str) -> str:
    return FLOW.replace("EXPECTED", ", ".join("{" + one + "}" for one in expected))


@pytest.fixture
def cloned(bench):
    """Return a function that runs a flow and leaves what a clone has; it returns the requests."""

    def follow(text: str, **options) -> int:
        assert bench.run(text, **options).exit_code == 0
        bench.forget_answers()
        return len(bench.prompts())

    return follow


def test_rules_judge_the_text_of_the_saved_file(bench, cloned):
    asked = cloned(flow(GOOD))
    changed = flow('contains: "NOTTHERE"')
    state, (reason,) = bench.states(changed)["a"]
    assert (state, reason[:38]) == ("stale", 'expected to contain "NOTTHERE", found ')
    assert bench.locked()[0].startswith("a: stale: expected to contain")
    assert bench.run(changed).exit_code == 1
    assert len(bench.prompts()) == asked


def test_rules_that_it_meets_leave_it_current_and_go_to_the_lock(bench, cloned):
    asked, before = cloned(flow(GOOD)), lock(bench)
    changed = flow(GOOD, "min_length: 2", 'contains: "NOTTHERE", level: warn')
    assert bench.states(changed) == {"a": ("fresh", ())}
    assert bench.run(changed).exit_code == 0
    assert (b'"warnings"' in before, b'"warnings"' in lock(bench)) == (False, True)
    bench.forget_answers()
    assert bench.locked() == []
    assert len(bench.prompts()) == asked


@pytest.mark.parametrize(
    "expected", [GOOD, 'contains: "{{ inputs.word }}"', "judge: {rubric: Good?, threshold: 0}"]
)
def test_what_did_not_change_is_current_without_the_answer(bench, cloned, expected):
    asked, before = cloned(flow(expected)), lock(bench)
    assert bench.states(flow(expected)) == {"a": ("fresh", ())}
    assert bench.run(flow(expected)).exit_code == 0
    assert lock(bench) == before
    assert len(bench.prompts()) == asked


@pytest.mark.parametrize(
    ("expected", "changed"),
    [
        ("judge: {rubric: Good?, threshold: 0}", "judge: {rubric: Bad?, threshold: 0}"),
        ("judge: {rubric: Good?, threshold: 0}", "judge: {rubric: Good?, threshold: 0.01}"),
        (GOOD, "max_seconds: 600"),
    ],
)
def test_what_a_text_alone_does_not_decide_is_asked_again(bench, cloned, expected, changed):
    asked = cloned(flow(expected))
    assert bench.states(flow(changed)) == {"a": ("stale", ("expect changed",))}
    assert bench.locked() == ["a: stale: expect changed"]
    assert bench.run(flow(changed)).exit_code == 0
    assert bench.prompts()[asked] == "hello"


def test_a_rule_cannot_judge_a_text_that_no_file_has(bench, cloned):
    unsaved = flow(GOOD).replace("    output: {save: a.md}\n", "")
    cloned(unsaved)
    assert bench.states(unsaved) == {"a": ("fresh", ())}
    changed = unsaved.replace('"a"', '"e"')
    assert bench.states(changed) == {"a": ("stale", ("expect changed",))}


def test_what_is_not_expected_any_more_needs_no_file(bench, cloned):
    unsaved = flow(GOOD).replace("    output: {save: a.md}\n", "")
    cloned(unsaved)
    assert bench.states(unsaved.replace("    expect: [{" + GOOD + "}]\n", ""))["a"][0] == "fresh"


def test_a_changed_module_of_a_function_is_seen(bench, cloned):
    bench.write("checks.py", "def fine(text):\n    return True\n")
    expecting = flow('call: "checks:fine"')
    allowed = {"allow_tools": True}
    cloned(expecting, **allowed)
    assert bench.states(expecting) == {"a": ("fresh", ())}
    bench.write("checks.py", "def fine(text):\n    return False\n")
    assert bench.states(expecting) == {"a": ("stale", ("reads //checks.py changed",))}
    assert bench.run(expecting, **allowed).exit_code == 1
    assert bench.prompts() == ["hello", "hello"]


def test_an_input_that_an_expectation_reads_counts(bench, cloned):
    expecting = flow('contains: "{{ inputs.word }}"')
    cloned(expecting)
    changed = expecting.replace("default: e", "default: NOTTHERE")
    assert bench.states(changed)["a"][1][0].startswith('expected to contain "NOTTHERE"')


def test_a_prompt_that_is_written_differently_is_still_the_same(bench, cloned):
    cloned(flow("judge: {rubric: Good?, threshold: 0}"))
    again = flow("judge: {rubric: Good?, threshold: 0}").replace("hello", "\"{{ 'hello' }}\"")
    assert bench.states(again) == {"a": ("fresh", ())}


@pytest.mark.parametrize(
    ("written", "part"),
    [("save: b.md", "output"), ("save: a.md}\n    samples: {count: 2", "samples")],
)
def test_another_file_or_more_samples_are_made(bench, cloned, written, part):
    cloned(flow(GOOD))
    changed = flow(GOOD).replace("save: a.md", written)
    state, reasons = bench.states(changed)["a"]
    assert (state, reasons[0].partition(" ")[0]) == ("stale", part)


def test_a_later_turn_that_asks_something_else_is_seen(bench, cloned):
    repeated = """\
poeflow: 1
steps:
  a:
    model: GPT-5.2
    prompt: "{% if previous %}again{% else %}hello{% endif %}"
    repeat: {until: "repeat.number == 2", max: 3}
    output: {save: a.md}
"""
    cloned(repeated)
    assert bench.states(repeated) == {"a": ("fresh", ())}
    for old, new, part in (("again", "more", "prompt"), ("== 2", "== 3", "repeat")):
        state, reasons = bench.states(repeated.replace(old, new))["a"]
        assert (state, reasons) == ("stale", (f"{part} changed",))


JUDGED = "judge: {rubric: {file: r.md}, threshold: 0}, level: LEVEL"


@pytest.mark.parametrize("is_clone", [False, True])
@pytest.mark.parametrize("level", ["error", "warn", "score"])
def test_a_changed_file_with_a_rubric_is_seen_at_each_level(bench, level, is_clone):
    expecting = flow(JUDGED.replace("LEVEL", level))
    bench.write("r.md", "Is it good?")
    assert bench.run(expecting).exit_code == 0
    if is_clone:
        bench.forget_answers()
    assert bench.states(expecting) == {"a": ("fresh", ())}
    bench.write("r.md", "Is it bad?")
    (status,) = bench.statuses(expecting)
    assert (status.state, status.reasons) == ("stale", ("file //r.md changed",))
    assert bench.locked() == ["a: stale: file //r.md changed"]
    assert bench.run(expecting).exit_code == 0
    asked = bench.prompts()[2:]
    assert len(asked) == (2 if is_clone else 1)  # a new answer may equal one that is judged
    assert (status.calls, status.most_calls) == (1, 3 if is_clone else 2)
    assert bench.states(expecting) == {"a": ("fresh", ())}


@pytest.mark.parametrize(
    "expected",
    [
        "contains: \"{{ read('w.txt') | trim }}\"",
        "that: \"(read('w.txt') | trim) in output.text\"",
    ],
)
def test_a_changed_file_that_a_rule_reads_is_seen(bench, expected):
    bench.write("w.txt", "a")
    assert bench.run(flow(expected)).exit_code == 0
    bench.write("w.txt", "NOTTHERE")
    assert bench.states(flow(expected))["a"][0] == "stale"
    assert bench.locked() != []
    bench.forget_answers()
    assert bench.states(flow(expected))["a"][0] == "stale"


def test_the_persona_of_a_judge_in_a_file_counts(bench):
    text = flow("judge: {rubric: Good?, system: {file: p.md}, threshold: 0}, level: warn")
    bench.write("p.md", "You are strict.")
    assert bench.run(text).exit_code == 0
    bench.write("p.md", "You are kind.")
    assert bench.states(text) == {"a": ("stale", ("file //p.md changed",))}


def test_the_model_that_an_alias_gives_to_a_judge_counts(bench):
    judged = flow('judge: {model: strict, rubric: "Good?", threshold: 0}, level: warn')
    text = judged.replace("steps:", "models: {strict: {model: Claude-Sonnet-4.5}}\nsteps:")
    assert bench.run(text).exit_code == 0
    assert bench.states(text) == {"a": ("fresh", ())}
    changed = text.replace("Claude-Sonnet-4.5", "Grok-4")
    stale = {"a": ("stale", ("judge model strict changed",))}
    assert bench.states(changed) == stale
    asked = len(bench.prompts())
    assert bench.run(changed).exit_code == 0
    assert len(bench.prompts()) == asked + 1, "the judge alone is asked"
    assert bench.states(changed) == {"a": ("fresh", ())}


def test_an_older_lock_lacks_that_model_and_proves_as_before():
    now = Recipe(parts={"prompt": "a", "judge model strict": "b"})
    assert now.as_in({"prompt": "a"}) == Recipe(parts={"prompt": "a"})
    assert now.as_in({"prompt": "a", "judge model strict": "c"}) == now


JUDGES = """\
poeflow: 1
defaults: {model: GPT-5.2}
inputs: {j: {default: smart}}
models: {smart: {model: Grok-4, params: {temperature: 0.1}}, other: {model: GPT-5.2}}
steps:
  a: {prompt: hi, STEP expect: [{judge: {JUDGE rubric: Good?, threshold: 0}, level: warn}]}
  b: {render: hi, expect: [{judge: {rubric: Good?, threshold: 0, model: Grok-4}, level: warn}]}
"""
OF_STEP = "model: smart, params: {temperature: 0.5},"


@pytest.mark.parametrize(
    ("step", "judge", "before", "after", "model"),
    [
        ("", "model: '{{ inputs.j }}',", "Grok-4,", "o3,", "{{ inputs.j }}"),
        (OF_STEP, "", "0.1", "0.2", "smart"),
        ("", "model: o3,", "other:", "o3:", "o3"),
    ],
)
def test_all_that_decides_the_request_of_a_judge_counts(bench, step, judge, before, after, model):
    text = JUDGES.replace("STEP", step).replace("JUDGE", judge)
    assert bench.run(text).exit_code == 0
    assert set(bench.states(text).values()) == {("fresh", ())}
    changed = text.replace(before, after)
    reasons = (f"judge model {model} changed",)
    assert bench.states(changed) == {"a": ("stale", reasons), "b": ("fresh", ())}
    asked = len(bench.prompts())
    assert bench.run(changed).exit_code == 0
    assert len(bench.prompts()) == asked + 1, "the judge alone is asked"
    assert set(bench.states(changed).values()) == {("fresh", ())}


def test_the_provider_of_a_judge_counts(bench, tmp_path_factory):
    text = JUDGES.replace("STEP", "provider: poe,").replace("JUDGE", "model: smart,")
    config = tmp_path_factory.mktemp("home") / "config.toml"
    config.write_text('[providers.mine]\nbase_url = "http://127.0.0.1:9/v1"\n')
    environ = {"POE_API_KEY": "some-key-12345", "POEFLOW_CONFIG": str(config)}
    environ |= {"POE_BASE_URL": bench.simulator.base_url}
    assert bench.run(text, environ=environ).exit_code == 0
    assert set(bench.states(text, environ=environ).values()) == {("fresh", ())}
    changed = text.replace("defaults: {", "defaults: {provider: mine, ")
    stale = ("stale", ("judge model's provider changed",))
    assert bench.states(changed, environ=environ) == {"a": stale, "b": stale}
    assert bench.locked(environ=environ) != []
