"""What is expected of texts, and what other steps see of the verdicts."""

import pytest

from poeflow.store.lockfile import LockFile

ROWS = """
poeflow: 1
defaults: {model: Claude-Sonnet-4.5}
steps:
  say:
    for_each: [cat, dog, cow]
    prompt: "{{ item }}"
    expect:
      - {contains: LETTER, level: warn}
      - {max_length: 100, level: warn, weight: 3}
  report:
    render: |
      {% for one in steps.say.all %}
      {{ one.item }} {{ one.passed | tojson }} {{ one.score }}
      {%- for v in one.verdicts if not v.passed %} {{ v.kind }} {{ v.weight }}{% endfor %}

      {% endfor %}
    expect:
      - that: steps.say.all | selectattr("passed") | list | length >= 2
"""
RULES = """\
- {match: {text: cat}, answer: {text: a cat}}
- {match: {text: dog}, answer: {text: a dog}}
- {match: {text: cow}, answer: {text: a cow}}
"""

REPORT = """
poeflow: 1
steps:
  report:
    render: "{{ 3 + 4 }} rows"
    output: {save: out.txt}
    expect:
      - {starts_with: "7", weight: 3}
      - {contains_all: [rows, columns], level: LEVEL}
"""
MISSED = 'expected to contain "rows", "columns", found "7 rows" without "columns"'


def test_a_rendered_text_that_is_not_as_expected_fails_and_writes_nothing(bench):
    outcome = bench.run(REPORT.replace("LEVEL", "error"))
    assert outcome.exit_code == 1
    assert bench.kinds() == [
        ("StepStarted", "report"),
        ("Expected", "report"),
        ("StepFailed", "report"),
    ]
    assert [event.message for event in bench.events if type(event).__name__ == "StepFailed"] == [
        f"{MISSED}; change what it renders, or expect:"
    ]
    assert not (bench.folder / "out.txt").exists()
    assert bench.states(REPORT.replace("LEVEL", "error"))["report"][0] == "stale"


def test_a_warning_about_a_rendered_text_stops_nothing_and_is_said_every_time(bench):
    flow = REPORT.replace("LEVEL", "warn")
    for _ in range(2):
        assert bench.run(flow).exit_code == 0
        assert [e.message for e in bench.events if type(e).__name__ == "Expected"] == [MISSED]
    assert (bench.folder / "out.txt").read_text() == "7 rows\n"
    assert bench.states(flow) == {"report": ("fresh", ())}


def test_a_step_sees_how_each_result_of_a_loop_was_judged(bench, scripted):
    scripted(RULES)
    outcome = bench.run(ROWS.replace("LETTER", "c"))
    assert outcome.exit_code == 0
    lines = ["cat true 1.0", "dog false 0.75 contains 1.0", "cow true 1.0", ""]
    assert outcome.results["report"].text == "\n".join(lines)
    assert len(bench.simulator.requests) == 3


def test_answers_are_judged_again_without_a_call(bench, scripted):
    scripted(RULES)
    assert bench.run(ROWS.replace("LETTER", "c")).exit_code == 0
    outcome = bench.run(ROWS.replace("LETTER", "d"))
    assert outcome.exit_code == 1
    assert str(outcome.failures["report"]) == (
        'expected that steps.say.all | selectattr("passed") | list | length >= 2,'
        ' found that steps.say.all | selectattr("passed") | list | length is 1;'
        " change what it renders, or expect:"
    )
    assert len(bench.simulator.requests) == 3
    assert bench.run(ROWS.replace("LETTER", "o")).exit_code == 0
    assert len(bench.simulator.requests) == 3


@pytest.mark.parametrize(
    ("that", "found"),
    [
        ("output.text | length >= least", "output.text | length is 5 and least is 9"),
        ("'x' in output.text", 'output.text is "short"'),
        ("output.text == 'short' and output.text | length > 8", "output.text | length is 5"),
        ("(output.text | length) == 2 + 2", "(output.text | length) is 5"),
        ("output.text | int > 3", '"short" is not a number'),
        ("output.text.startswith('x')", "it is not so"),
        ("not output.text == 'short'", "it is not so"),
        ("output.text == 'x' or output.text == 'y'", "it is not so"),
        ("{{ 3 < 4 < output.text | length - 2 }}", "it is not so"),
    ],
)
def test_an_expression_that_is_not_true_says_what_it_compared(bench, that, found):
    written = that.replace("least", "inputs.least")
    flow = f"""
poeflow: 1
inputs: {{least: {{type: integer, default: 9}}}}
steps:
  say: {{render: "{{{{ 'short' if inputs.least else '' }}}}", expect: [{{that: "{written}"}}]}}
"""
    message = f"expected that {written}, found that {found.replace('least', 'inputs.least')}"
    assert str(bench.run(flow).failures["say"]) == (
        f"{message}; change what it renders, or expect:"
    )


@pytest.mark.parametrize(
    "rules",
    [
        'output: {repair: 2}, expect: [{that: "output.text | int > inputs.least | int"}]',
        'repeat: {max: 4, until: "output.text | int > inputs.least | int"}',
    ],
)
@pytest.mark.parametrize("least", ["three", ""])
def test_another_value_that_is_no_number_is_no_fault_of_the_answer(bench, scripted, rules, least):
    scripted("- {answer: {text: '5'}}\n")
    flow = f"""
poeflow: 1
inputs: {{least: {{default: "{least}"}}}}
steps:
  say: {{model: GPT-5.2, prompt: hi, {rules}}}
"""
    assert f'"{least}" is not a number; write int(0)' in str(bench.run(flow).failures["say"])
    assert len(bench.simulator.requests) == 1


def test_a_step_that_reads_verdicts_is_stale_once_they_change(bench, scripted):
    scripted(RULES)
    flow = ROWS + "  tell: {prompt: 'on {{ steps.report.text }}', output: {save: out.md}}\n"
    assert bench.run(flow.replace("LETTER", "o")).exit_code == 0
    first = bench.states(flow.replace("LETTER", "o"))
    assert {state for state, _ in first.values()} == {"fresh"}
    assert bench.locked() == []
    assert bench.run(flow.replace("LETTER", "c")).exit_code == 0
    assert bench.prompts()[3:] == [
        "on cat false 0.75 contains 1.0\ndog true 1.0\ncow true 1.0\n",
        "on cat true 1.0\ndog false 0.75 contains 1.0\ncow true 1.0\n",
    ]
    bench.forget_answers()
    assert {state for state, _ in bench.states(flow.replace("LETTER", "c")).values()} == {"fresh"}


def entries(bench):
    return dict(LockFile(bench.folder / "a.lock.json", shown="a.lock.json").read().instances)


def test_the_lock_of_rows_whose_verdicts_nobody_reads_is_as_it_was(bench, scripted):
    scripted(RULES)
    begin = ROWS.replace("LETTER", "c").partition("  report:")[0]
    bench.run(
        begin + "  report: {render: \"{{ steps.say.all | map(attribute='text') | list }}\"}\n"
    )
    unread = entries(bench)
    bench.run(begin + "  report: {render: \"{{ steps.say.all | sum(attribute='score') }}\"}\n")
    read = entries(bench)
    rows = ("say[cat]", "say[dog]", "say[cow]")
    assert [unread[row].result for row in rows] == [read[row].result for row in rows]
    assert [unread[row].extras == read[row].extras for row in rows] == [False] * 3
    without = begin.partition("    expect:")[0] + "  report: {render: x, needs: [say]}\n"
    bench.run(without)
    assert [entries(bench)[row].extras for row in rows] == [unread[row].extras for row in rows]
    assert len(bench.simulator.requests) == 3


def test_a_chain_and_a_single_step_are_judged_too(bench, scripted):
    scripted(RULES)
    flow = """
poeflow: 1
defaults: {model: Claude-Sonnet-4.5}
steps:
  say: {for_each: [cat, dog], prompt: "{{ item }}", expect: [{contains: c, level: warn}]}
  again: {for_each: steps.say, render: "{{ item }} {{ source.passed | tojson }}"}
  one: {prompt: cow, expect: [{similar_to: "a cat", level: warn}]}
  never: {if: false, prompt: cow, expect: [{contains: a}]}
outputs:
  chain: "{{ steps.again.all | map(attribute='text') | list }}"
  score: "{{ steps.one.score }}"
  key: "{{ steps.say['dog'].verdicts[0].message }}"
  never: "{{ steps.never.score }}"
"""
    expected = {
        "chain": ["cat true", "dog false"],
        "score": 0.6,
        "key": 'expected to contain "c", found "a dog"',
        "never": None,
    }
    assert bench.run(flow).outputs == expected
    assert bench.run(flow).outputs == expected
    assert len(bench.simulator.requests) == 3
    state = {name: state for name, (state, _) in bench.states(flow).items()}
    assert set(state.values()) == {"fresh", "skipped"}


def test_a_failure_that_is_tolerated_has_its_verdicts(bench, scripted):
    scripted(RULES)
    flow = """
poeflow: 1
defaults: {model: Claude-Sonnet-4.5}
steps:
  say:
    for_each: [cat, dog]
    prompt: "{{ item }}"
    continue_on_error: true
    expect: [{contains: c, weight: 2}, {contains: a}]
outputs:
  scores: "{{ steps.say.all | map(attribute='score') | list }}"
  kinds: "{{ steps.say.all | map(attribute='verdicts') | map('length') | list }}"
"""
    outcome = bench.run(flow)
    assert outcome.outputs == {"scores": [1.0, 0.333333], "kinds": [2, 2]}
    assert list(outcome.tolerated) == ["say[dog]"]


def test_samples_have_their_verdicts(bench, scripted):
    scripted("""\
- {match: {text: say, nth: 1}, answer: {text: a}}
- {match: {text: say, nth: 2}, answer: {text: b}}
""")
    flow = """
poeflow: 1
defaults: {model: Claude-Sonnet-4.5}
limits: {concurrency: 1}
steps:
  say: {prompt: say, samples: {count: 2, pass_rate: 0.5}, expect: [{contains: b}]}
outputs: {all: "{{ steps.say.all | map(attribute='score') | list }}", one: "{{ steps.say.score }}"}
"""
    assert bench.run(flow).outputs == {"all": [0.0, 1.0], "one": 1.0}


def test_a_cost_is_judged_by_the_prices_there_are_and_again_without_a_call(bench):
    flow = """
poeflow: 1
defaults: {model: GPT-5.2}
steps: {say: {prompt: hi, expect: [{max_cost: 0.5}]}}
"""
    bench.write("poeflow.toml", "[prices.'GPT-5.2']\nrequest = 0.5\n")
    assert bench.run(flow).exit_code == 0
    bench.write("poeflow.toml", "[prices.'GPT-5.2']\nrequest = 0.75\n")
    assert str(bench.run(flow).failures["say"]) == (
        "expected a cost of at most $0.5, found $0.75;"
        " ask again with --failed, or change the prompt or expect:"
    )
    assert len(bench.simulator.requests) == 1


def test_a_reason_of_a_judge_is_seen_by_other_steps(bench, scripted):
    scripted("""\
- {match: {model: Grok-4}, answer: {text: '{"reason": "too short {{ 1 }}", "score": 0.25}'}}
- {answer: {text: tea}}
""")
    flow = """
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say:
    prompt: say
    expect:
      - {judge: {rubric: good, model: Grok-4}, level: score}
      - {contains: tea}
  again: {render: "{{ steps.say.verdicts[1].reason }} {{ steps.say.score }}"}
"""
    for _ in range(2):
        assert bench.run(flow).results["again"].text == "too short {{ 1 }} 0.625"
        kinds = {type(event).__name__ for event in bench.events}
        assert "Expected" not in kinds, "what only counts is not reported"
    assert len(bench.simulator.requests) == 2


def test_a_judge_of_several_rubrics_is_asked_once_and_sees_what_is_attached(bench, scripted):
    scripted("""\
- match: {model: Grok-4}
  answer: {json: {polite: {reason: kind, score: 1}, brief: {reason: long, score: 0.2}}}
- {answer: {text: tea}}
""")
    flow = """
poeflow: 1
inputs: {who: {default: editor}}
defaults: {model: GPT-5.2}
steps:
  say:
    prompt: say
    attachments: [a.txt]
    expect:
      - judge:
          rubrics: {polite: "Is it polite, {{ inputs.who }}?", brief: {file: brief.md}}
          system: You are a strict {{ inputs.who }}.
          model: Grok-4
          attachments: true
        level: score
  again:
    render: "{{ steps.say.verdicts | map(attribute='rubric') | join(' ') }} {{ steps.say.score }}"
"""
    bench.write("a.txt", "attached")
    bench.write("brief.md", "Is it brief?\n")
    for _ in range(2):
        assert bench.run(flow).results["again"].text == "polite brief 0.6"
    assert len(bench.simulator.requests) == 2
    system, user = bench.simulator.requests[1].json["messages"]
    assert system["content"].startswith("You are a strict editor.\n\nYou judge")
    assert [part["type"] for part in user["content"]] == ["text", "file"]
    assert "Is it polite, editor?" in user["content"][0]["text"]


def test_no_judge_is_asked_about_a_step_the_run_is_not_about(bench, scripted):
    scripted("""\
- {match: {model: Grok-4}, answer: {text: '{"reason": "so", "score": 1}'}}
- {answer: {text: tea}}
""")
    flow = """
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say: {prompt: say, expect: [{judge: {rubric: RUBRIC, model: Grok-4}}]}
  again: {render: "{{ steps.say.score }}"}
"""
    assert bench.run(flow.replace("RUBRIC", "good")).exit_code == 0
    flow = flow.replace("{{ steps.say", "so: {{ steps.say")
    only = bench.run(flow.replace("RUBRIC", "good"), only=True, steps=("again",))
    assert only.results["again"].text == "so: 1.0"
    flow = flow.replace("so:", "then:")
    other = bench.run(flow.replace("RUBRIC", "better"), only=True, steps=("again",))
    assert str(other.failures["again"]).startswith("the answer of say is not here")
    assert len(bench.simulator.requests) == 2


TEXTS = """
poeflow: 1
models: {strict: {model: Grok-4}}
steps:
  read:
    for_each: [kind words, harsh words]
    render: "{{ item }}"
    expect:
      - {contains: words}
      - {judge: {rubric: kind, model: strict}, level: LEVEL}
  report: {render: "{{ steps.read.all | map(attribute='score') | join(' ') }}"}
"""
KIND = """\
- {match: {text: kind words}, answer: {text: '{"reason": "so", "score": 1}'}}
- {match: {text: harsh words}, answer: {text: '{"reason": "rude", "score": 0.1}'}}
"""


def test_a_rendered_text_is_judged_by_a_model_once(bench, scripted):
    scripted(KIND)
    flow = TEXTS.replace("LEVEL", "score")
    planned = {one.id: one for one in bench.statuses(flow)}
    assert [
        (kind.purpose, kind.least, kind.most) for kind in planned["read[kind words]"].kinds
    ] == [("judge", 1, 2)]
    assert planned["read[kind words]"].kinds[0].model == "Grok-4"
    assert bench.run(flow).results["report"].text == "1.0 0.55"
    assert len(bench.simulator.requests) == 2
    assert "Question" not in bench.prompts()[0]
    assert bench.run(flow).exit_code == 0
    assert bench.run(flow.replace("join(' ')", "join(',')")).results["report"].text == "1.0,0.55"
    assert len(bench.simulator.requests) == 2
    bench.forget_answers()
    assert {state for state, _ in bench.states(flow.replace("' '", "','")).values()} == {"fresh"}
    assert bench.run(flow.replace("' '", "','")).exit_code == 0
    assert len(bench.simulator.requests) == 2, "the lock proves it, and no judge is asked again"


def test_a_text_that_a_judge_finds_fault_with_fails_until_it_is_another(bench, scripted):
    scripted(KIND)
    flow = TEXTS.replace("LEVEL", "error")
    for _ in range(2):
        outcome = bench.run(flow)
        assert str(outcome.failures["read[harsh words]"]) == (
            "expected a score of at least 0.5, found 0.1: rude; change what it renders, or expect:"
        )
        assert len(bench.simulator.requests) == 2
    assert bench.run(flow.replace("harsh words", "very kind words")).exit_code == 0
    assert len(bench.simulator.requests) == 3


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ('{for_each: steps.say, render: "{{ source.score }}"}', "again[b]"),
        ('{render: "{{ steps.say.all | pass_rate }}"}', "again"),
        ("""{render: "{{ (steps.say.all | sort(attribute='key'))[0].score }}"}""", "again"),
        ("""{render: "{{ (steps.say.all | max(attribute='key')).score }}"}""", "again"),
        ("""{render: "{{ (steps.say.all | list)[-1]['score'] }}"}""", "again"),
    ],
)
def test_one_text_that_reads_verdicts_is_enough(bench, step, name):
    flow = """
poeflow: 1
steps:
  say: {for_each: [a, b], render: "{{ item }}", expect: [{contains: c, level: score}]}
  again: """
    outcome = bench.run(f"{flow}{step}\n")
    assert outcome.results[name].text == "0.0"


EDITED = """
poeflow: 1
defaults: {model: Claude-Sonnet-4.5}
steps:
  say:
    prompt: say
    output: {save: out.md}
    expect: [%s{contains: cat, level: score}, {that: "'a' in output.text", level: score}]
  told:
    render: >-
      {{ steps.say.score }} {{ steps.say.passed | tojson }} {{ steps.say.verdicts | length }}
outputs: {told: "{{ steps.told.text }}"}
"""


@pytest.mark.parametrize(
    "judge",
    ["", '{judge: {rubric: "Good?"}, level: score}, ', "{max_seconds: 100, level: score}, "],
)
def test_rules_judge_an_accepted_text_again_and_nothing_else_does(bench, scripted, judge):
    scripted("""\
        - {match: {text: "Good?"}, answer: {text: '{"score": 1, "reason": "yes"}'}}
        - {answer: {text: a cat}}
    """)
    flow = EDITED % judge
    expected = f"1.0 true {3 if judge else 2}"
    assert bench.run(flow).outputs["told"] == expected
    sent = len(bench.prompts())
    for text, judgement in {"a dog": "0.5 false 2", "otter": "0.0 false 2"}.items():
        bench.write("out.md", f"{text}\n")
        assert bench.accept(flow).paths == ("//out.md",)
        assert bench.run(flow).outputs["told"] == judgement
        assert bench.locked() == []
    assert len(bench.prompts()) == sent
    bench.accept(flow, drop=True)
    assert bench.run(flow).outputs["told"] == expected
    assert bench.locked() == []
    assert len(bench.prompts()) == sent


def test_an_accepted_text_that_only_a_judge_could_judge_has_passed(bench, scripted):
    scripted("""\
        - {match: {text: "Good?"}, answer: {text: '{"score": 0.75, "reason": "so so"}'}}
        - {answer: {text: a cat}}
    """)
    flow = EDITED.replace("[%s", '[{judge: {rubric: "Good?"}, level: score}] #')
    assert bench.run(flow).outputs["told"] == "0.75 true 1"
    bench.write("out.md", "mine\n")
    bench.accept(flow)
    assert bench.run(flow).outputs["told"] == "1.0 true 0"


@pytest.mark.parametrize("level", ["warn", "score"])
def test_what_does_not_fail_a_step_or_a_sample_counts_in_what_passed(bench, scripted, level):
    scripted("- {answer: {text: a dog}}")
    flow = f"""
poeflow: 1
defaults: {{model: GPT-5.2}}
steps:
  say:
    prompt: "say {{{{ sample }}}}"
    samples: {{count: 2, pass_rate: 1}}
    expect: [{{contains: cat, level: {level}}}, {{contains: dog}}]
  turn:
    prompt: turn
    repeat: {{max: 2}}
    expect: [{{contains: cat, level: {level}}}, {{contains: dog, weight: 3}}]
outputs:
  samples: "{{{{ steps.say.all | pass_rate }}}}"
  passed: "{{{{ steps.turn.passed }}}}"
  score: "{{{{ steps.turn.score }}}}"
"""
    assert bench.run(flow).outputs == {"samples": 0.0, "passed": False, "score": 0.75}
    assert len(bench.prompts()) == 3


HOLES = """
poeflow: 1
steps:
  say:
    for_each: {file: rows.csv, key: item.id}
    model: GPT-5.2
    prompt: "on {{ item.id }}"
    expect: [%s]
  told: {render: "{{ steps.say.all | map(attribute='passed') | list | tojson }}"}
"""
ROWS_WITH_HOLES = 'id,wanted\na,answer\nb,\nc," "\n'


@pytest.mark.parametrize(
    ("kind", "instead"),
    [
        ("contains", "item.wanted in output.text"),
        ("not_contains", "item.wanted not in output.text"),
        ("starts_with", "output.text.startswith(item.wanted)"),
        ("ends_with", "output.text.endswith(item.wanted)"),
        ("matches", "output.text | regex_find(item.wanted)"),
    ],
)
def test_a_hole_in_a_table_is_met_by_no_answer(bench, scripted, kind, instead):
    scripted("- {answer: {text: answer}}")
    bench.write("rows.csv", ROWS_WITH_HOLES)
    expected = f'{kind}: "{{{{ item.wanted }}}}"'
    failures = bench.run(HOLES % f"{{{expected}, level: score}}", keep_going=True).failures
    then = f"{instead} if item.wanted else true"
    assert {name: str(error) for name, error in failures.items()} == dict.fromkeys(
        ("say[b]", "say[c]"),
        f"a.yaml:8:{17 + len(kind)}: {kind} renders to nothing; give it a text; where nothing is"
        f' expected, write that: "{then}"',
    )
    bench.write("rows.csv", ROWS_WITH_HOLES.replace('" "', ""))
    told = "[false, true, true]" if kind == "not_contains" else "[true, true, true]"
    outcome = bench.run(HOLES % f'{{that: "{then}", level: score}}')
    assert (outcome.outputs, len(bench.prompts())) == ({"told": told}, 3)


def test_a_text_with_nothing_to_resemble_is_no_expectation(bench, scripted):
    scripted("- {answer: {text: answer}}")
    bench.write("rows.csv", ROWS_WITH_HOLES)
    failures = bench.run(HOLES % '{similar_to: "{{ item.wanted }}"}', keep_going=True).failures
    told = "expect: similar_to has no text; check its template"
    assert {name: str(error) for name, error in failures.items()} == {
        "say[b]": told,
        "say[c]": told,
    }
