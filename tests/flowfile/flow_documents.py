"""Flows as plain data, bent out of shape in one place or several."""

import copy
import json
from pathlib import Path

from hypothesis import strategies as st

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import Document, parse

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
FLOWS = sorted([*(ROOT / "flows").glob("*.yaml"), *(CASES / "valid").glob("*.yaml")])
CASE_FILES = sorted((CASES / "invalid").glob("*.yaml"))

WIDE = """\
poeflow: 1
name: wide
description: Every key of the format once.
x-home: [1]
inputs:
  a: {type: number, description: x, default: 1, enum: [1, 2], minimum: 0, maximum: 9}
  b: {type: array, items: {type: string}}
models:
  w: {model: m, provider: poe, params: {seed: 1}, extra_body: {k: [1, {z: t}]}, fallback: [x],
      system: {file: a.md}, timeout: {attempt: 5, step: 1m}, retry: {attempts: 2},
      requests_per_minute: 1, tokens_per_minute: 1, tools: [{name: f}],
      output: {format: json, schema: {}, repair: 1}}
defaults:
  model: w
  provider: poe
  params: {top_p: 1}
  extra_body: {k: 1}
  system: {file: a.md}
  timeout: 90s
  retry: {attempts: 2}
  stream: true
  cache: true
limits:
  {concurrency: 1, requests_per_minute: 1, tokens_per_minute: 1, max_requests: 0,
   max_tokens: 0, max_cost_usd: 0.5, max_points: 0}
steps:
  ask:
    description: x
    needs: [render]
    if: true
    for_each: {in: [1], key: item, carry: previous.text}
    continue_on_error: false
    timeout: 2.5
    retry: {}
    cache: false
    prompt: {file: a.md, raw: true}
    model: w
    provider: poe
    fallback: [x, y]
    system: be brief
    history: render
    attachments: [a.png, {path: b, as: file, resize: 99, pages: "1-3, 7", name: n, media_type: a/b},
      {url: "https://x/y"}, {from: steps.x.media}]
    params:
      {max_tokens: 1, max_completion_tokens: 1, temperature: 1, top_p: 0.5, stop: [a], n: 1,
       seed: -1, presence_penalty: 0, frequency_penalty: 0, logprobs: true, top_logprobs: 1,
       logit_bias: {"1": 2}, reasoning_effort: x, response_format: {}, service_tier: x,
       store: false, metadata: {}, user: x, stream_options: {}}
    extra_body: {k: v}
    tools: [{name: f, description: x, parameters: {}, run: "a.b:c"}]
    tool_choice: auto
    tools_mode: run
    parallel_tool_calls: true
    stream: false
    samples: {count: 2, pass_rate: 0.5}
    repeat: {max: 2, until: a, else: keep}
    output:
      {format: json, schema: {}, one_of: [a], repair: 1, extract: fenced, accept: [length],
       default: [a], reasoning: keep, save: x, media: y, tracked: false}
    expect:
      - {contains: a, level: warn, weight: 2}
      - {contains_any: [a], weight: 2, level: score}
      - {contains_all: [a]}
      - {starts_with: a}
      - {ends_with: a}
      - {similar_to: a}
      - {similar_to: {text: a, threshold: 0.5}}
      - {is_json: true}
      - {max_cost: 0}
      - {max_seconds: 1}
      - {call: "checks:is_polite"}
      - {not_contains: a}
      - {equals: 1}
      - {matches: a}
      - {min_length: 1}
      - {max_length: 1}
      - {json_schema: {}}
      - {that: a}
      - {judge: {rubric: a, model: w, threshold: 0.5}}
      - {judge: {rubric: {file: a}, system: a, attachments: true,
         examples: [{answer: a, score: 1, reason: b}]}}
      - {judge: {rubrics: {a: b, c: {file: d}}, system: {file: a}}}
  talk:
    timeout: {attempt: 5, step: 1m}
    matrix: {axes: {a: [1], b: e, c: {file: x}}, include: [{a: 1}], exclude: [{a: 2}]}
    messages:
      - {role: user, content: [{text: a}, {attach: b}, {attach: {path: c}}]}
      - {role: assistant, content: {file: x}}
      - {role: assistant, name: n, tool_calls: [{id: c}]}
      - {role: tool, content: x, tool_call_id: c}
      - {few_shot: [{user: a, assistant: b}]}
      - {few_shot: inputs.x}
      - {few_shot: {file: x.yaml, user: q, assistant: a}}
  thread: {messages: {file: x.json}}
  said: {messages: inputs.x}
  more: {prompt: x, samples: 2}
  render: {render: x, for_each: e}
  rows: {render: {file: x}, for_each: {file: rows.csv, where: x, group_by: x, limit: 1}}
  files: {render: x, for_each: {glob: a, sample: 1, seed: 1}}
  log: {command: [git, log, ""], stdin: {file: x}, env: [HOME], reads: ["docs/*.md"]}
  words: {call: "a.b:c", with: {a: 1}, reads: [a.py]}
  other: {use: other.yaml, with: {a: [1]}, for_each: [1]}
outputs: {o: "{{ x }}", p: {q: [1]}}
"""


def document_of(data: Json) -> Document:
    """Return a document that holds `data`; JSON is YAML."""
    return parse(json.dumps(data, ensure_ascii=False), "flow.yaml")


def wide() -> dict[str, Json]:
    return copy.deepcopy(parse(WIDE, "flow.yaml").root.data)


_WORDS = st.sampled_from(
    [
        "",
        "x",
        "{{ x }}",
        "{% x %}",
        "prompt",
        "file",
        "path",
        "url",
        "https://x",
        "1",
        "90s",
        "json",
    ]
)
_NUMBERS = st.one_of(
    st.integers(-3, 25), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
_SCALARS = st.one_of(_WORDS, _NUMBERS, st.booleans(), st.none(), st.just(1.0))
VALUES = st.recursive(
    _SCALARS,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(_WORDS, v, max_size=3),
    max_leaves=5,
)


def _places(data, way=()):
    yield way
    if isinstance(data, dict | list):
        children = data.items() if isinstance(data, dict) else enumerate(data)
    else:
        children = ()
    for key, value in children:
        yield from _places(value, (*way, key))


PLACES = [place for place in _places(wide()) if place]
KEYS = sorted({str(key) for place in PLACES for key in place if isinstance(key, str)})


@st.composite
def bent(draw):
    """The wide flow with one to three places changed, removed or added to."""
    data = wide()
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(PLACES))
        owner = data
        for key in way:
            is_there = isinstance(owner, dict) and key in owner
            is_there |= isinstance(owner, list) and isinstance(key, int) and key < len(owner)
            owner = owner[key] if is_there else None
        if isinstance(owner, dict):
            _bend_mapping(draw, owner, last)
        elif isinstance(owner, list) and isinstance(last, int) and last < len(owner):
            owner[last] = draw(VALUES)
    return data


def _bend_mapping(draw, owner, key):
    match draw(st.sampled_from(["change", "remove", "add"])):
        case "change":
            owner[key] = draw(VALUES)
        case "remove":
            owner.pop(key, None)
        case "add":
            owner[draw(st.sampled_from(KEYS))] = draw(VALUES)
