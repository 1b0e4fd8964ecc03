"""Every fault the schema finds is a sentence with its place and what to do."""

import pytest
from flow_documents import bent, document_of
from hypothesis import given, settings

from poeflow.flowfile.schema import FLOW_SCHEMA, bundled_schema, invalid_parts, validate
from poeflow.flowfile.yaml_tree import parse


def told(step="prompt: hi", head=""):
    text = f"poeflow: 1\ndefaults: {{model: Bot}}\n{head}steps:\n  a: {{{step}}}\n"
    found = validate(parse(text, "f"), FLOW_SCHEMA)
    return [str(problem).removeprefix("f:") for problem in found]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("prompt: hi", []),
        ("prompt: ''", ["4:15: prompt is empty; fill it, or remove the key"]),
        (
            "prompt: [x]",
            ["4:15: prompt must be text or a mapping, not a list; for example {example}"],
        ),
        ("prompt: {}", ['4:7: the key "file" is missing in prompt; for example file: {file}']),
        (
            "prompt: {file: x, raw: yes}",
            ["4:30: raw must be true or false, not yes; for example true"],
        ),
        ("prompt: x, model: null", ["4:25: model has no value; it must be text; {fill}"]),
        ("prompt: x, needs: [B]", ['4:26: "B" is not a valid name; {small}']),
        ("prompt: x, samples: 0", ["4:27: samples: 0 is below 1; the minimum is 1"]),
        ("prompt: x, samples: 1001", ["4:27: samples: 1001 is above 1000; the maximum is 1000"]),
        (
            "prompt: x, timeout: soon",
            ["4:27: timeout: soon is not a duration; write 90s, 10m or 1h"],
        ),
        ("prompt: x, timeout: -1", ["4:27: timeout: -1 is not above 0; give a positive duration"]),
        (
            "prompt: x, params: {logit_bias: 3}",
            ['4:39: logit_bias must be a mapping, not 3; for example {"50256": -100}'],
        ),
        (
            "command: 3",
            [
                (
                    "4:16: command must be a list, not 3; "
                    'for example [git, log, --oneline, "{{ inputs.since }}..HEAD"]'
                ),
            ],
        ),
        ("messages: []", ["4:17: messages is empty; fill it, or remove the key"]),
        (
            "prompt: x, params: {stop: [a, b, c, d, e]}",
            ["4:33: stop has 5 items; the maximum is 4"],
        ),
        (
            "prompt: x, params: {max_tokens: '5'}",
            ["4:39: max_tokens must be a whole number, not '5'; or a template: \"{{ ... }}\""],
        ),
        ("prompt: x, output: {format: xml}", ["4:35: xml is not one of text, json, yaml, csv"]),
        (
            "prompt: x, output: {format: jsn}",
            ['4:35: jsn is not one of text, json, yaml, csv; did you mean "json"?'],
        ),
        ("render: x, samples: 2", ['4:18: "samples" is not allowed with "render"; {either}']),
        ("use: x.yaml, output: {}", ['4:20: "output" is not allowed with "use"; {or_use}']),
        (
            "prompt: x, attachments: [{url: 'ftp://x'}]",
            ["4:38: url: 'ftp://x' is not an https address; only https images can be linked"],
        ),
        ("prompt: x, tools: [{name: 'a b'}]", ['4:33: "a b" is not a valid name; {letters}']),
        (
            "prompt: x, tools: [{name: a, run: os}]",
            ["4:41: run: os has the wrong form; for example tools:get_weather"],
        ),
    ],
)
def test_a_fault_in_a_step(step, expected):
    words = {
        "{example}": "Summarize {{ read(inputs.changelog) }}",
        "{file}": "prompts/translate.md",
        "{fill}": "fill it, or remove the key",
        "{small}": "use small letters, digits and _, beginning with a letter",
        "{letters}": "use letters, digits, _ and -, beginning with a letter",
        "{either}": "remove samples: or render:",
        "{or_use}": "remove output: or use:",
    }
    for mark, word in words.items():
        expected = [line.replace(mark, word) for line in expected]
    assert told(step) == expected


def test_long_values_are_shown_in_part():
    assert told(f"prompt: x, timeout: {'soon' * 50}") == [
        f"4:27: timeout: {'soon' * 14}s... is not a duration; write 90s, 10m or 1h"
    ]


def test_homes_for_anchors_are_allowed_and_nothing_else():
    assert told(head="x-home: [1]\n") == []
    assert told(head="y-home: [1]\n")[0].startswith('3:1: unknown key "y-home"; known: defaults, ')


@settings(max_examples=150)
@given(bent())
def test_no_fault_is_without_a_place_and_words(data):
    document = document_of(data)
    found = validate(document, FLOW_SCHEMA)
    for problem in found:
        assert problem.place.path == "flow.yaml"
        assert problem.message[:1] == problem.message[:1].lower() or '"' in problem.message
        assert "does not fit the schema" not in problem.message
    assert bool(found) == bool(invalid_parts(document))


def test_nothing_is_fetched_for_a_schema():
    reference = 'prompt: x, output: {schema: {$ref: "http://127.0.0.1:9/x.json"}}'
    assert told(reference) == []
    assert "http" not in str(bundled_schema(FLOW_SCHEMA)["$defs"]).replace("https", "").replace(
        "http ", ""
    )
