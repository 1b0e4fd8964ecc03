"""A judge whose model is missing is asked as one of the fallback models of that."""

import pytest

VERDICT = """\
- {match: {model: GPT-5.2}, fault: "404"}
- {match: {text: "kind"}, answer: {json: {score: 0.9, reason: it is}}}
- {match: {text: say}, answer: {text: hello}}
"""
MODELS = """\
poeflow: 1
models:
  first:
    model: GPT-5.2
    system: You are a critic.
    fallback: [second]
    retry: {attempts: 1}
  second: {model: Claude-Sonnet-4.5, system: You are a clerk., params: {top_p: 0.5}}
"""
BY_STEP = "steps:\n  a: {model: GPT-5.2, fallback: [Grok-4], prompt: say, expect: [JUDGE]}\n"
BY_ALIAS = "steps:\n  a: {model: first, prompt: say, expect: [JUDGE]}\n"
OTHER_JUDGE = "steps:\n  a: {model: Grok-4, prompt: say, expect: [JUDGE]}\n"
OF_TEXT = "steps:\n  a: {render: hello, expect: [JUDGE]}\n"


def asked(bench) -> list[str]:
    return [request.json["model"] for request in bench.simulator.requests]


@pytest.mark.parametrize(
    ("steps", "judge", "models"),
    [
        (BY_STEP, "rubric: kind", ["GPT-5.2", "Grok-4"] * 2),
        (BY_ALIAS, "rubric: kind", ["GPT-5.2", "Claude-Sonnet-4.5"] * 2),
        (OTHER_JUDGE, "rubric: kind, model: first", ["Grok-4", "GPT-5.2", "Claude-Sonnet-4.5"]),
        (OF_TEXT, "rubric: kind, model: first", ["GPT-5.2", "Claude-Sonnet-4.5"]),
    ],
)
def test_a_judge_has_the_fallback_models_of_its_step_or_alias(
    bench, scripted, steps, judge, models
):
    scripted(VERDICT)
    flow = MODELS + steps.replace("JUDGE", f"{{judge: {{{judge}}}}}")
    assert bench.run(flow).failures == {}
    assert asked(bench) == models
    assert bench.states(flow) == {"a": ("fresh", ())}
    bench.run(flow)
    changed = flow.replace("prompt: say", "prompt: say, continue_on_error: false")
    bench.run(changed)
    assert asked(bench) == models


def test_a_fallback_model_judges_as_the_same_persona_with_its_own_parameters(bench, scripted):
    scripted(VERDICT)
    judge = "{judge: {rubric: kind, model: first}}"
    bench.run(MODELS + OF_TEXT.replace("JUDGE", judge))
    first, second = (request.json for request in bench.simulator.requests)
    assert first["messages"] == second["messages"]
    assert first["messages"][0]["content"].startswith("You are a critic.")
    assert ("top_p" in first, second["top_p"]) == (False, 0.5)


def test_a_fallback_model_without_a_verdict_is_asked_again_as_such(bench, scripted):
    scripted(
        '- {match: {model: GPT-5.2}, fault: "404"}\n'
        "- {match: {text: kind}, answer: {text: well}}\n"
        "- {match: {model: Claude-Sonnet-4.5}, answer: {json: {score: 1, reason: it is}}}\n"
    )
    judge = "{judge: {rubric: kind, model: first}}"
    assert bench.run(MODELS + OF_TEXT.replace("JUDGE", judge)).failures == {}
    assert asked(bench) == ["GPT-5.2", "Claude-Sonnet-4.5"] * 2
    last = bench.simulator.requests[-1].json["messages"]
    assert [message["role"] for message in last][-2:] == ["assistant", "user"]


def test_a_judge_that_names_a_model_has_no_fallback(bench, scripted):
    scripted(VERDICT)
    judge = "{judge: {rubric: kind, model: GPT-5.2}}"
    steps = BY_STEP.replace("model: GPT-5.2", "model: Grok-4").replace("[Grok-4]", "[second]")
    outcome = bench.run(MODELS + steps.replace("JUDGE", judge))
    assert "(404)" in str(outcome.failures["a"])
    assert asked(bench) == ["Grok-4", "GPT-5.2"]
