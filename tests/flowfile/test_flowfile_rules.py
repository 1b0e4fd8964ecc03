"""What no schema can say: names that must exist, keys that must agree, tails that were lost."""

import msgspec
import pytest

from poeflow.flowfile.model import Flow
from poeflow.flowfile.rules import rule_problems
from poeflow.flowfile.yaml_tree import parse


def told(text):
    document = parse(text, "f")
    flow = msgspec.convert(document.root.data, Flow)
    return [str(problem).removeprefix("f:") for problem in rule_problems(flow, document)]


def flow(steps, head="defaults: {model: Bot}"):
    return f"poeflow: 1\n{head}\nsteps:\n{steps}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (flow("  a: {prompt: x}"), []),
        (flow("  a: {render: x}", head="description: x"), []),
        (
            flow("  a: {prompt: x}", head="description: x"),
            ['4:3: step "a" has no model; add model: to the step or to defaults:'],
        ),
        (
            flow("  one: {prompt: x}\n  b: {prompt: x, needs: [on, one], history: oen}"),
            [
                '5:26: unknown step "on"; did you mean "one"?',
                '5:45: unknown step "oen"; did you mean "one"?',
            ],
        ),
        (
            flow("  a: {prompt: x, model: writr}", head="models: {writer: {model: Bot}}"),
            ['4:25: unknown model alias "writr"; did you mean "writer"?'],
        ),
        (flow("  a: {prompt: x, model: Writr}", head="models: {writer: {model: Bot}}"), []),
        (flow("  a: {prompt: x, model: grok}", head="models: {writer: {model: Bot}}"), []),
        (
            flow(
                "  a: {prompt: x, model: w, extra_body: {k: 1}}",
                head="models: {w: {model: Bot, params: {top_p: 1}, extra_body: {top_p: 1}}}",
            ),
            ['2:59: "top_p" is in params too; keep it in one ("a" gets both)'],
        ),
        (
            flow("  a: {prompt: x, model: v}", head="models: {v: {model: w}, w: {model: Bot}}"),
            ['2:21: "w" is an alias, not a bot; write the bot itself: "Bot"'],
        ),
        (flow("  a: {prompt: x, model: v}", head="models: {v: {model: v}}"), []),
        (
            flow("  a: {prompt: x, timeout: 0s}", head="defaults: {model: Bot, timeout: 0.0m}"),
            [
                "2:33: timeout: 0.0m is not above 0; give a positive duration",
                "4:27: timeout: 0s is not above 0; give a positive duration",
            ],
        ),
    ],
)
def test_names_and_keys_must_agree(text, expected):
    assert told(text) == expected


@pytest.mark.parametrize(
    ("step", "places"),
    [
        ("  a:\n    prompt: one #2\n", ["5:13"]),
        ("  a:\n    prompt: one#2\n", []),
        ("  a:\n    prompt: 'one' #2\n", []),
        ("  a:\n    prompt: one\n    # two\n", []),
        ("  a:\n    prompt: | # two\n      one # three\n", []),
        ("  a:\n    prompt: one  # a comment\n", []),
        ("  a:\n    prompt: {file: x} #2\n", []),
        ("  a:\n    prompt: x\n    timeout: 5 # minutes\n    model: Bot # the good one\n", []),
        ("  a:\n    messages:\n      - role: user\n        content: one #2\n", ["7:18"]),
    ],
)
def test_a_text_that_lost_its_tail_is_warned_about(step, places):
    lines = told(flow(step))
    assert [line.split(": ")[0] for line in lines] == places
    assert all("warning: the text after # is a comment and not part of " in line for line in lines)
