"""What checking an answer takes: bounded by what its schema and the answer hold together."""

import resource
import subprocess
import sys

import msgspec
import pytest

from poeflow.answers.schemas import compile_schema

TOLD = "checking it against its schema takes too long; make it shorter"
WORDS = [f"w{n}" for n in range(20_000)]
KEYS = {f"key{n}": n for n in range(6_000)}
LARGE = [n * (2**61 - 1) for n in range(1, 30_000)]
"""Numbers of one hash."""
DRIVER = """
import json, resource, sys
from poeflow.answers.schemas import compile_schema
resource.setrlimit(resource.RLIMIT_CPU, (8, 8))
schema, data = json.load(sys.stdin)
print(json.dumps(compile_schema(schema).faults(data)))
"""


@pytest.mark.parametrize(
    ("schema", "data", "faults"),
    [
        ({"items": {"enum": WORDS}}, ["w19999"] * 30_000, [TOLD]),
        ({"items": {"enum": [[word, "x"] for word in WORDS]}}, [["w19999", "x"]] * 9_000, [TOLD]),
        ({"patternProperties": {f"^k.*{n}$": {} for n in range(1_000)}}, KEYS, [TOLD]),
        (
            {
                "patternProperties": {f"^k.*{n}$": True for n in range(1_000)},
                "additionalProperties": True,
            },
            KEYS,
            [TOLD],
        ),
        ({"items": {"pattern": "(a|b|c){1,900}"}}, ["abc" * 3_000] * 300, [TOLD]),
        ({"items": {"properties": dict.fromkeys(WORDS[:9000], True)}}, [{}] * 60_000, [TOLD]),
        ({"uniqueItems": True}, LARGE, []),
    ],
    ids=["enum", "lists", "names", "others", "pattern", "properties", "unique"],
)
def test_a_check_costs_no_more_than_one_answer_may(schema, data, faults):
    """In a process of 8 s of CPU time."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=msgspec.json.encode([schema, data]),
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)),
    )
    assert msgspec.json.decode(done.stdout or b'"nothing"') == faults, done.stderr.decode()[-500:]


def test_long_answers_of_honest_schemas_are_checked_whole():
    word = {"type": "string", "enum": WORDS[:200], "pattern": "^w[0-9]+$"}
    row = {
        "type": "object",
        "properties": {"a": word, "b": {"type": "number"}},
        "patternProperties": {"^x-": {"type": "string"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    schema = compile_schema({"type": "array", "items": row, "uniqueItems": True})
    rows = [{"a": f"w{n % 200}", "b": n, "x-y": "z"} for n in range(5_000)]
    assert schema.faults(rows) == ()
    assert schema.faults([*rows, {"a": "v", "b": 1}]) != ()


def test_numbers_beyond_floats_are_told_apart():
    schema = compile_schema({"uniqueItems": True})
    assert schema.faults([2**60, 2**60 + 1, -(2**60)]) == ()
    assert schema.faults([2**60, float(2**60)]) != ()
