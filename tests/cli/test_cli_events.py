"""The events that `poeflow run --output jsonl` writes, by their schema."""

import json
import shutil
from pathlib import Path

import jsonschema

from poeflow.simulator.server import Simulator

ROOT = Path(__file__).parents[2]
FLOWS = ("triage", "refine", "digest", "quality", "translations", "media", "expectations", "tools")
JSONL = ("--output", "jsonl")
EVERY = {
    *("run_started", "step_expanded", "step_started", "request_sent", "text_arrived"),
    *("retry_planned", "fell_back", "expected", "file_written", "step_finished"),
    *("step_failed", "step_skipped", "warned", "run_finished", "run_estimated", "tool_called"),
}
TROUBLE = """\
poeflow: 1
defaults: {model: GPT-5.2, retry: {attempts: 2}}
steps:
  slow: {prompt: slow}
  other: {prompt: gone, model: gone, fallback: [Grok-4]}
  bad: {prompt: bad}
  after: {prompt: "{{ steps.bad.text }}"}
  warned: {prompt: hi, expect: [{contains: never, level: warn}]}
  odd: {prompt: odd, output: {format: json, default: {}}}
  many:
    for_each: "range(120) | list"
    prompt: "{{ item }}"
    output: {save: "out/{{ item }}.md"}
"""
RULES = """\
simulator: 1
rules:
- {match: {text: slow, nth: 1}, fault: "429"}
- {match: {model: gone}, fault: "404"}
- {match: {text: bad}, fault: "400"}
- {match: {text: odd}, answer: {text: no JSON}}
"""


def events_of(done) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_event_of_real_runs_is_as_its_schema_says(desk):
    schema = json.loads(desk.run("schema", "--events").stdout)
    validator = jsonschema.Draft202012Validator(schema)
    shutil.copytree(ROOT / "flows", desk.folder / "flows", dirs_exist_ok=True)
    names = [f"flows/{name}.yaml" for name in FLOWS]
    heard = events_of(desk.run("run", *names, "--offline", "--allow-tools", *JSONL))
    assert sum(one["event"] == "run_finished" for one in heard) == len(FLOWS)
    desk.write("a.yaml", TROUBLE)
    script = desk.write("rules.yaml", RULES)
    with Simulator(script=script) as simulator:
        desk.environ |= {"POE_API_KEY": "canary-key-0123456789", "POE_BASE_URL": simulator.base_url}
        heard += events_of(desk.run("run", "a.yaml", "--keep-going", *JSONL))
    for event in heard:
        validator.validate(event)
    assert {one["event"] for one in heard} == EVERY
    names = [one["$ref"].rpartition("/")[2] for one in schema["oneOf"]]
    defined = [schema["$defs"][name] for name in names]
    assert {name for one in defined for name in one["properties"]["event"]["enum"]} == EVERY
    (wrong,) = list(validator.iter_errors({**heard[0], "at": "now"}))
    assert wrong.validator == "oneOf"
