"""Files that decide an instance and are no part of its text: the lock has them, too."""

import json
import sys

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
FRESH = ("fresh", ())


def test_each_instance_has_the_file_of_the_schema(bench):
    code = "print('{}')"
    flow = HEAD + (
        "  a:\n    for_each: [x, y]\n"
        f'    command: [{sys.executable}, -c, "{code}"]\n    reads: []\n'
        "    output: {format: json, schema: {file: s.json}}\n"
        "  b:\n    for_each: [x, y]\n    render: '{}'\n"
        "    output: {format: json, schema: {file: s.json}}\n"
    )
    bench.write("s.json", json.dumps({"type": "object"}))
    bench.run(flow, allow_tools=True)
    assert set(bench.states(flow).values()) == {FRESH}
    bench.write("s.json", json.dumps({"type": "object", "required": ["zz"]}))
    bench.forget_answers()
    states = bench.states(flow)
    assert {name: state for name, (state, _) in states.items()} == dict.fromkeys(
        ("a[x]", "a[y]", "b[x]", "b[y]"), "stale"
    )
