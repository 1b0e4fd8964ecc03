"""The schema of `poeflow diff --output json` is that of the data; `--rewrite-cases` writes it."""

import json
from pathlib import Path

import msgspec

from poeflow.store.revisions.comparisons import Comparison

PATH = Path(__file__).parents[2] / "schemas/diff.schema.json"


def ordered(value):
    """Return a schema with its alternatives in one order: versions of msgspec differ in it."""
    if isinstance(value, list):
        return [ordered(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: ordered(one) for key, one in value.items()}
    if "anyOf" in found:
        found["anyOf"].sort(key=lambda one: (one == {"type": "null"}, json.dumps(one)))
    return found


def spelled():
    """Return the JSON Schema of a comparison, with the docstrings of its shapes."""
    found = msgspec.json.schema(Comparison)
    for shape in found["$defs"].values():
        shape["additionalProperties"] = False
        shape["description"] = " ".join(shape["description"].replace("`", "").split())
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What differs between two revisions, as poeflow diff --output json prints it",
    }
    return json.dumps(head | ordered(found), indent=2) + "\n"


def test_the_schema_is_that_of_the_data(request):
    if request.config.getoption("--rewrite-cases"):
        PATH.write_text(spelled(), "utf-8")
    assert PATH.read_text("utf-8") == spelled()
