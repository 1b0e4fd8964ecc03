"""Answers that a clone asks again because a step that runs reads them, and that are others then."""

import pytest
from wire_server import WireServer, said

FLOW = """\
poeflow: 1
steps:
  a: {model: a, prompt: hello}
  c: {model: c, prompt: "use {{ steps.a.text }}", output: {save: out/c.txt}}
"""
LOOP = """\
poeflow: 1
steps:
  a: {for_each: [x, y], model: a, prompt: "hello {{ item }}"}
  c: {for_each: steps.a, model: c, prompt: "use {{ source.text }}", output: {save: "out/{{ key }}"}}
"""
FOLD = """\
poeflow: 1
steps:
  a:
    for_each: {in: [x, y], carry: previous.text}
    model: a
    prompt: "{{ item }} after {{ carry or 'none' }}"
"""


@pytest.fixture
def wire(bench):
    """A server whose model a answers otherwise each time."""
    with WireServer() as server:
        server.answers = {"a": [said(f"a{n}") for n in range(1, 20)], "c": [said("c")]}
        bench.simulator = server
        yield server


def models(wire) -> list[str]:
    """Return the models that were asked since the last call."""
    asked = [request["model"] for request in wire.requests]
    wire.requests.clear()
    return asked


@pytest.mark.parametrize(("flow", "count"), [(FLOW, 1), (LOOP, 2)])
def test_the_lock_has_the_new_answer_for_what_was_made_of_it(bench, wire, flow, count):
    bench.run(flow)
    bench.forget_answers()
    models(wire)
    changed = flow.replace("use", "please use")
    assert bench.run(changed).exit_code == 0
    assert sorted(models(wire)) == ["a"] * count + ["c"] * count
    assert bench.locked() == []
    bench.forget_answers()
    assert bench.locked() == []
    assert bench.run(changed).exit_code == 0
    assert models(wire) == []


def test_the_lock_has_what_was_carried_anew(bench, wire):
    bench.run(FOLD)
    bench.forget_answers()
    models(wire)
    changed = FOLD.replace("{{ item }}", "{{ 'z' if item == 'y' else item }}")
    assert bench.run(changed).exit_code == 0
    assert models(wire) == ["a", "a"]
    assert bench.locked() == []
    bench.forget_answers()
    assert bench.locked() == []
