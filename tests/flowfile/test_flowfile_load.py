"""A file becomes a flow or its problems, however large or hostile it is."""

import itertools
import json

import pytest
from flow_documents import WIDE, bent
from hypothesis import given, settings

from poeflow.flowfile.load import build, drop_invalid_parts, load_flow
from poeflow.flowfile.model import Flow
from poeflow.flowfile.yaml_tree import MAX_BYTES, Document, parse
from poeflow.problems import MAX_PROBLEMS, Place, Problem, is_more_notice, limited
from poeflow.project.project import Project

SHOWN = '{prompt: "Say hello to {{ inputs.name }}."}'
HEAD = "poeflow: 1\ndefaults: {model: Bot}\nsteps:\n"


@pytest.fixture
def loaded(tmp_path):
    def load_bytes(data):
        (tmp_path / "notes.flow.yaml").write_bytes(
            data if isinstance(data, bytes) else data.encode()
        )
        return load_flow(Project(tmp_path.resolve()), "//notes.flow.yaml", shown="f")

    return load_bytes


def lines(found):
    return [str(problem).removeprefix("f:") for problem in found.problems]


def test_a_sound_flow(loaded):
    found = loaded(f"{HEAD}  a: {{prompt: hi}}\n")
    assert (found.problems, found.draft) == ((), None)
    assert (found.file.name, found.file.path, found.file.is_sound) == (
        "notes.flow",
        "//notes.flow.yaml",
        True,
    )
    assert loaded(f"name: own\n{HEAD}  a: {{prompt: hi}}\n").file.name == "own"


def test_a_file_that_is_not_there(tmp_path):
    found = load_flow(Project(tmp_path.resolve()), "//none.yaml", shown="none.yaml")
    assert [str(p) for p in found.problems] == [
        "none.yaml:1:1: //none.yaml does not exist; check the path"
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ["1:1: the file is empty; start with `poeflow init`"]),
        (b"\xef\xbb\xbf", ["1:1: the file is empty; start with `poeflow init`"]),
        (b"\xff\xfep\0", ["1:1: the file is UTF-16; save it as UTF-8"]),
        (
            HEAD.encode() + b"  a: {prompt: \xe9}\n",
            ["4:15: byte 0xe9 is not UTF-8; save the file as UTF-8"],
        ),
        (b"poeflow: 1\0\n", ["1:11: a NUL byte is in the file"]),
        (
            b"x" * (MAX_BYTES + 2),
            ["1:1: //notes.flow.yaml has 4,194,306 bytes; the limit is 4,194,304"],
        ),
        (b"[" * 100_000, ["1:65: nested deeper than 64 levels"]),
        (b"? " * 100_000, ["1:129: nested deeper than 64 levels"]),
        (b"x", ["1:1: the flow must be a mapping, not x"]),
    ],
    ids=["empty", "bom", "utf-16", "latin-1", "nul", "large", "deep", "keys", "text"],
)
def test_what_is_no_flow_is_one_problem(loaded, data, expected):
    found = loaded(data)
    assert (found.file, found.draft) == (None, None)
    assert [
        line[: len(text)] for line, text in zip(lines(found), expected, strict=True)
    ] == expected


def test_a_fault_in_the_shape_leaves_a_draft(loaded):
    found = loaded(f"{HEAD}  a: {{promt: hi, needs: [b, 7]}}\n  b: {{prompt: ho}}\n  c: 5\n")
    assert lines(found) == [
        '4:7: unknown key "promt"; did you mean "prompt"?',
        '4:29: item 2 of needs must be text, not 7; quote it: "7"',
        f'6:6: step "c" must be a mapping, not 5; for example {SHOWN}',
    ]
    assert found.file is None
    assert found.draft.is_sound is False
    steps = found.draft.flow.steps
    assert (steps["a"].prompt, steps["a"].needs, steps["c"].kind) == ("hi", ["b"], "model")


def test_a_doubled_key_leaves_a_draft_too(loaded):
    found = loaded(f"{HEAD}  a: {{prompt: hi, prompt: ho}}\n")
    assert lines(found) == ['4:19: the key "prompt" is here twice, first in line 4; keep one']
    assert (found.file, found.draft.flow.steps["a"].prompt) == (None, "hi")


@settings(max_examples=100, deadline=None)
@given(bent())
def test_what_is_mended_is_valid_and_every_node_keeps_its_place(data):
    document = parse(json.dumps(data), "f")
    result = drop_invalid_parts(document)
    if result is None:
        return
    assert isinstance(build(result), Flow)
    assert len(places_of(result.root) - places_of(document.root)) == 0


def places_of(node):
    below = [*node.values.values(), *node.items]
    return {(node.line, node.column)}.union(*map(places_of, below))


def test_the_wide_flow_needs_no_mending():
    document = parse(WIDE, "f")
    assert drop_invalid_parts(document) is document


def test_an_empty_document_cannot_be_mended():
    assert drop_invalid_parts(Document(path="f", text="", root=None)) is None


@pytest.mark.parametrize(
    "step",
    [
        "  s{n}: {{render: 1}}",
        "  s{n}: {{render: x, foo{n}: 1}}",
        "  s{n}: {{render: x, needs: [t{n}]}}",
    ],
    ids=["types", "keys", "needs"],
)
def test_thousands_of_faults_are_told_up_to_a_limit(loaded, step):
    body = "".join(step.format(n=number) + "\n" for number in range(3_000))
    found = loaded(HEAD + body)
    assert len(found.problems) <= MAX_PROBLEMS + 1
    assert f"there are more problems than these {MAX_PROBLEMS}" in {
        problem.message for problem in found.problems
    }


def test_few_problems_are_all_told_sorted_and_once():
    a, b = Problem(Place("f", 2), "a"), Problem(Place("f", 1), "b")
    assert limited([a, b, a]) == (b, a)
    assert limited([]) == ()


def test_many_problems_end_in_a_word():
    many = [Problem(Place("f", line), "x") for line in range(1, MAX_PROBLEMS + 2)]
    last = Problem(
        Place("f", MAX_PROBLEMS),
        f"there are more problems than these {MAX_PROBLEMS}",
        "correct these and check again",
    )
    assert limited(many[:-1]) == tuple(many[:-1])
    assert limited(many) == (*many[:MAX_PROBLEMS], last)
    assert limited(itertools.cycle(many)) == (*many[:MAX_PROBLEMS], last)


def test_the_word_for_more_is_said_once_however_often_problems_are_joined():
    one = limited(Problem(Place("f", line), "x") for line in range(1, MAX_PROBLEMS + 2))
    other = limited(Problem(Place("f", line), "y") for line in range(1, MAX_PROBLEMS + 2))
    joined = limited((*one, *other))
    assert len(joined) == MAX_PROBLEMS + 1
    assert [is_more_notice(problem) for problem in joined] == [False] * MAX_PROBLEMS + [True]


def test_too_many_warnings_are_no_error():
    lines = range(1, MAX_PROBLEMS + 2)
    found = limited(Problem(Place("f", line), "x", "", "warning") for line in lines)
    assert {problem.level for problem in found} == {"warning"}


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("notes.inputs.yaml", "topic: x\n", "a file of inputs"),
        ("notes.lock.json", '{"poeflow_lock": 2}', "the lock of a flow"),
        ("notes.lock.json", '{"poeflow_lock": 2, "steps": {"a": {}}}', "the lock of a flow"),
        ("flow.schema.json", '{"$schema": "x"}', "a JSON Schema"),
        ("answer.json", '{"$id": "x", "type": "object"}', "a JSON Schema"),
        ("prompts/style.md", "Write plainly: {{ x }}\n", "a .md file"),
        ("logo.png", "\x89PNG\0", "a .png file"),
        ("Makefile", "all:\n\techo\n", "a text file"),
    ],
)
def test_what_is_clearly_no_flow_is_told_in_one_problem(tmp_path, name, text, what):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode("latin-1"))
    found = load_flow(Project(tmp_path.resolve()), f"//{name}", shown=name)
    hint = "name flows, which are YAML files with poeflow: 1, or their folder"
    told = f"{name}:1:1: this is {what}, not a flow; {hint}"
    assert [str(problem) for problem in found.problems] == [told]


def test_a_mapping_of_something_else_is_no_flow(loaded):
    hint = "begin it with poeflow: 1, or see `poeflow init`"
    told = f"1:1: this is not a flow: it has no poeflow and no steps; {hint}"
    assert lines(loaded("on: push\njobs: {}\n")) == [told]
