"""Files that decide an instance and are no part of its text: the lock has them, too."""

import json
import sys

import duckdb
import pytest

from poeflow.engine.recipe_parts import Recipe

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


LATE_IF = """\
  a: {prompt: hi}
  b: {needs: [a], if: "read('flag.txt') | trim == 'yes' and steps.a.text != ''", prompt: ho}
"""
SKIPPED = "read('flag.txt') | trim == 'yes' and steps.a.text != '' does not hold"


def test_a_condition_over_a_step_that_reads_a_file(bench):
    flow = HEAD + LATE_IF
    bench.write("flag.txt", "yes")
    bench.run(flow)
    assert bench.states(flow) == {"a": FRESH, "b": FRESH}
    bench.write("flag.txt", "no")
    assert bench.states(flow)["b"] == ("stale", (SKIPPED,))
    assert bench.locked() != []
    assert bench.run(flow).skipped == {"b": SKIPPED}
    assert bench.states(flow) == {"a": FRESH, "b": ("skipped", ())}
    bench.write("flag.txt", "yes")
    assert bench.states(flow)["b"][0] == "stale"
    sent = len(bench.prompts())
    assert bench.run(flow).skipped == {}
    assert bench.states(flow) == {"a": FRESH, "b": FRESH}
    assert len(bench.prompts()) == sent


def test_a_clone_sees_that_the_file_of_a_condition_changed(bench):
    flow = HEAD + LATE_IF
    bench.write("flag.txt", "no")
    bench.run(flow)
    bench.forget_answers()
    assert bench.states(flow) == {"a": FRESH, "b": ("skipped", ())}
    bench.write("flag.txt", "yes")
    assert bench.states(flow)["b"][0] in ("stale", "unknown")
    bench.write("flag.txt", "no")
    bench.run(flow)
    assert bench.prompts() == ["hi"]


EARLY_IF = HEAD + "  a: {if: \"read('flag.txt') | trim == 'yes'\", render: text}\n"


def test_a_condition_that_is_known_before_a_run(bench):
    bench.write("flag.txt", "no")
    bench.run(EARLY_IF)
    assert bench.states(EARLY_IF) == {"a": ("skipped", ())}
    bench.write("flag.txt", "yes")
    assert bench.states(EARLY_IF) == {"a": ("stale", ("it was skipped",))}
    assert bench.run(EARLY_IF).outputs == {"a": "text"}
    assert bench.states(EARLY_IF) == {"a": FRESH}
    bench.write("flag.txt", "no")
    assert bench.states(EARLY_IF)["a"][0] == "stale"
    assert bench.locked() != []


LOOP = (
    HEAD
    + """\
  a: {prompt: hi}
  b:
    for_each: {in: "[{'id': 1, 'note': read('note.txt'), 'x': steps.a.text}]", key: item.id}
    prompt: "b {{ item.note }}"
"""
)
CHAINED = "  c: {for_each: steps.b, prompt: 'c {{ item.note }} {{ source.status }}'}\n"


@pytest.mark.parametrize("is_clone", [False, True])
def test_the_items_of_a_loop_over_a_step(bench, is_clone):
    flow = LOOP + CHAINED
    bench.write("note.txt", "one")
    bench.run(flow)
    assert set(bench.states(flow).values()) == {FRESH}
    if is_clone:
        bench.forget_answers()
        assert set(bench.states(flow).values()) == {FRESH}
    bench.write("note.txt", "two")
    states = bench.states(flow)
    assert {name: state for name, (state, _) in states.items() if name != "a"} == (
        {"b": "unknown", "c": "unknown"} if is_clone else {"b[1]": "stale", "c[1]": "unknown"}
    )
    assert bench.locked() != []
    bench.run(flow)
    assert bench.prompts()[-2:] == ["b two", "c two ok"]
    assert set(bench.states(flow).values()) == {FRESH}


CARRY = (
    HEAD
    + """\
  a:
    for_each: {in: [x, y], carry: "previous.text ~ read('note.txt')"}
    prompt: "{{ item }} {{ carry or '' }}"
"""
)


@pytest.mark.parametrize("is_clone", [False, True])
def test_what_is_carried_from_item_to_item(bench, scripted, is_clone):
    scripted("- {match: {text: x}, answer: {text: X}}\n- {match: {text: y}, answer: {text: Y}}\n")
    bench.write("note.txt", "one")
    bench.run(CARRY)
    assert set(bench.states(CARRY).values()) == {FRESH}
    if is_clone:
        bench.forget_answers()
        assert set(bench.states(CARRY).values()) == {FRESH}
    bench.write("note.txt", "two")
    assert bench.states(CARRY)["a[y]"][0] in ("stale", "unknown")
    assert bench.locked() != []
    bench.run(CARRY)
    assert bench.prompts()[-1] == "y Xtwo"
    assert set(bench.states(CARRY).values()) == {FRESH}


SAVES = [
    "out/{{ read('note.txt') | trim }}.txt",
    "out/{{ steps.a.text }}{{ read('note.txt') | trim }}.txt",
]


@pytest.mark.parametrize("path", SAVES)
@pytest.mark.parametrize("kind", ["prompt", "render"])
def test_the_path_of_an_output(bench, scripted, path, kind):
    scripted("- {match: {text: hi}, answer: {text: A}}\n- {answer: {text: B}}\n")
    flow = HEAD + "  a: {prompt: hi}\n"
    flow += f'  b:\n    needs: [a]\n    {kind}: ho\n    output:\n      save: "{path}"\n'
    bench.write("note.txt", "one")
    bench.run(flow)
    assert bench.states(flow) == {"a": FRESH, "b": FRESH}
    bench.write("note.txt", "two")
    assert bench.states(flow)["b"][0] == "stale"
    assert bench.locked() != []
    bench.run(flow)
    text = "B" if kind == "prompt" else "ho"
    assert [one.read_text() for one in bench.folder.glob("out/*two.txt")] == [f"{text}\n"]
    assert bench.prompts() == ["hi", "ho"][: 2 if kind == "prompt" else 1]
    assert bench.states(flow)["b"] == FRESH


@pytest.mark.parametrize(("path", "asked"), [(SAVES[0], 2), (SAVES[1], 3)])
def test_a_clone_takes_an_output_to_another_path_that_needs_no_step(bench, scripted, path, asked):
    scripted("- {match: {text: hi}, answer: {text: A}}\n- {answer: {text: B}}\n")
    flow = HEAD + "  a: {prompt: hi, output: {save: a.txt}}\n"
    flow += f'  b:\n    needs: [a]\n    prompt: ho\n    output:\n      save: "{path}"\n'
    bench.write("note.txt", "one")
    bench.run(flow)
    bench.forget_answers()
    assert bench.states(flow) == {"a": FRESH, "b": FRESH}
    bench.write("note.txt", "two")
    assert bench.states(flow)["b"][0] == "stale"
    bench.run(flow)
    assert [one.read_text() for one in bench.folder.glob("out/*two.txt")] == ["B\n"]
    assert bench.prompts() == ["hi", "ho", "ho"][:asked]


def test_the_folder_of_media(bench):
    flow = HEAD.replace("GPT-5.2", "GPT-Image-1.5") + (
        "  a:\n    prompt: draw\n    output:\n      media: \"pics/{{ read('note.txt') | trim }}\"\n"
    )
    bench.write("note.txt", "one")
    bench.run(flow)
    assert bench.states(flow) == {"a": FRESH}
    bench.write("note.txt", "two")
    reasons = ("it writes pics/two/ now", "its answer is in the cache")
    assert bench.states(flow)["a"] == ("stale", reasons)
    bench.run(flow)
    assert len(list(bench.folder.glob("pics/two/*"))) == 1
    assert bench.states(flow)["a"] == FRESH
    assert [one.json is None for one in bench.simulator.requests].count(False) == 1


def test_the_paths_of_samples(bench):
    flow = HEAD + (
        "  a:\n    samples: 2\n    prompt: hi\n"
        "    output:\n      save: \"{{ sample }}{{ read('note.txt') | trim }}.txt\"\n"
    )
    bench.write("note.txt", "one")
    bench.run(flow)
    assert bench.states(flow) == {"a": FRESH}
    bench.write("note.txt", "two")
    assert bench.states(flow)["a"][0] == "stale"
    bench.run(flow)
    assert sorted(path.name for path in bench.folder.glob("*two.txt")) == ["1two.txt", "2two.txt"]
    assert bench.states(flow)["a"] == FRESH
    assert len(bench.prompts()) == 2


@pytest.mark.parametrize("is_clone", [False, True])
def test_a_table_that_is_no_text(bench, is_clone):
    def write(answer: str) -> None:
        select = f"SELECT 'a' AS \"user\", '{answer}' AS assistant"
        with duckdb.connect() as connection:
            connection.execute(f"COPY ({select}) TO '{bench.folder / 'e.parquet'}'")

    flow = HEAD + (
        "  a: {messages: [{few_shot: {file: e.parquet}}, {role: user, content: x}]}\n"
        "  b: {prompt: y}\n"
    )
    write("b")
    bench.run(flow)
    assert bench.states(flow) == {"a": FRESH, "b": FRESH}
    if is_clone:
        bench.forget_answers()
        assert bench.states(flow) == {"a": FRESH, "b": FRESH}
    write("c")
    assert bench.states(flow) == {"a": ("stale", ("reads //e.parquet changed",)), "b": FRESH}
    assert bench.locked() != []
    bench.run(flow)
    last = bench.simulator.requests[-1].json["messages"]
    assert [message["content"] for message in last] == ["a", "c", "x"]
    assert bench.states(flow) == {"a": FRESH, "b": FRESH}


ITEMS = (
    HEAD
    + """\
  x:
    for_each: {in: [apple, pear, 3], key: loop.index}
    prompt: "hi {{ key }}"
    output: {save: "x/{{ key }}.txt"}
  all: {render: "{% for one in steps.x.all %}{{ one.item }} {% endfor %}"}
  one: {render: "{{ steps.x['1'].item }}"}
  texts: {render: "{{ steps.x.all | map(attribute='text') | join }}"}
"""
)


@pytest.mark.parametrize("is_clone", [False, True])
def test_an_item_that_its_key_does_not_show(bench, is_clone):
    assert bench.run(ITEMS).outputs["all"] == "apple pear 3 "
    assert set(bench.states(ITEMS).values()) == {FRESH}
    if is_clone:
        bench.forget_answers()
        assert set(bench.states(ITEMS).values()) == {FRESH}
    changed = ITEMS.replace("apple", "plum")
    states = bench.states(changed)
    assert {name: states[name] for name in ("x[1]", "x[2]", "x[3]")} == dict.fromkeys(
        ("x[1]", "x[2]", "x[3]"), FRESH
    )
    assert "fresh" not in (states["all"][0], states["one"][0])
    assert bench.locked() != []
    found = bench.run(changed).outputs
    assert len(bench.prompts()) == 3
    assert (found["all"], found["one"]) == ("plum pear 3 ", "plum")
    assert set(bench.states(changed).values()) == {FRESH}


def test_an_older_lock_lacks_the_items_and_proves_as_before():
    now = Recipe(parts={"steps.x.all": "a", "steps.x items": "b", "judge model's provider": "c"})
    assert now.as_in({"steps.x.all": "a"}) == Recipe(parts={"steps.x.all": "a"})
    assert now.as_in(now.parts) == now
