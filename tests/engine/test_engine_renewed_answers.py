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


MORE = """\
  b: {model: b, prompt: "also {{ steps.a.text }}", output: {save: out/b.txt}}
  d: {model: d, prompt: "then {{ steps.b.text }}", output: {save: out/d.txt}}
  e: {model: e, prompt: "last {{ steps.a.status }}"}
"""
SHOWN = "outputs: {c: '{{ steps.c.text }}'}\n"


@pytest.mark.parametrize("end", ["", SHOWN])
def test_what_the_old_answer_proved_is_run_again(bench, wire, end):
    wire.answers |= {"b": [said("b")], "d": [said("d")], "e": [said("e")]}
    flow = FLOW + MORE + end
    bench.run(flow)
    bench.forget_answers()
    models(wire)
    changed = flow.replace("use {{", "please use {{")
    assert bench.run(changed).exit_code == 0
    assert sorted(models(wire)) == ["a", "b", "c"]
    assert bench.locked() == []
    bench.forget_answers()
    assert bench.locked() == []


def test_what_that_changes_is_run_again_too(bench, wire):
    wire.answers |= {"b": [said(f"b{n}") for n in range(9)], "d": [said("d")], "e": [said("e")]}
    bench.run(FLOW + MORE)
    bench.forget_answers()
    models(wire)
    assert bench.run((FLOW + MORE).replace("use {{", "please use {{")).exit_code == 0
    assert sorted(models(wire)) == ["a", "b", "c", "d"]
    assert bench.locked() == []


def test_an_answer_that_is_the_same_runs_nothing_again(bench, wire):
    wire.answers |= {"a": [said("a")], "b": [said("b")], "d": [said("d")], "e": [said("e")]}
    bench.run(FLOW + MORE)
    bench.forget_answers()
    models(wire)
    assert bench.run((FLOW + MORE).replace("use {{", "please use {{")).exit_code == 0
    assert sorted(models(wire)) == ["a", "c"]
    assert bench.locked() == []


def test_in_a_loop_over_answers_only_the_item_with_another_is_run_again(bench, wire):
    wire.answers |= {"x": [said("x")], "y": [said(f"y{n}") for n in range(9)], "b": [said("b")]}
    flow = LOOP.replace("model: a", "model: '{{ item }}'") + (
        '  b: {for_each: steps.a, model: b, prompt: "also {{ source.text }}"}\n'
    )
    bench.run(flow)
    bench.forget_answers()
    models(wire)
    assert bench.run(flow.replace("use {{", "please use {{")).exit_code == 0
    assert sorted(models(wire)) == ["b", "c", "c", "x", "y"]
    assert bench.locked() == []


def test_in_a_flow_that_is_used(bench, wire):
    wire.answers |= {"b": [said("b")], "d": [said("d")], "e": [said("e")]}
    child = FLOW + MORE + "outputs: {b: '{{ steps.b.text }}', c: '{{ steps.c.text }}'}\n"
    bench.write("child.yaml", child)
    flow = "poeflow: 1\nsteps:\n  u: {use: child.yaml}\n  z: {render: '{{ steps.u.outputs.c }}'}\n"
    bench.run(flow)
    bench.forget_answers()
    models(wire)
    bench.write("child.yaml", child.replace("use {{", "please use {{"))
    assert bench.run(flow).exit_code == 0
    assert sorted(models(wire)) == ["a", "b", "c"]
    assert bench.locked() == []
