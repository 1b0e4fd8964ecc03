"""The schema for editors checks what the bundled one does, explains each key, has snippets."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from poeflow.flowfile.schema import bundled_schema
from poeflow.operations.editors.editor_schema import SNIPPETS, for_editors

ROOT = Path(__file__).parents[2]
BUNDLED = bundled_schema("flow.schema.json")
EDITORS = for_editors(bundled_schema("flow.schema.json"))
FLOWS = [
    *sorted((ROOT / "flows").glob("*.yaml")),
    *sorted((ROOT / "tests/cases/valid").glob("*.yaml")),
    *sorted((ROOT / "tests/cases/invalid").glob("*.yaml")),
]
ADDED = {"markdownDescription", "defaultSnippets"}


def properties(node, place=()):
    """Yield every key that a schema describes, with its place and schema."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "properties" and isinstance(value, dict):
                for name, shape in value.items():
                    if isinstance(shape, dict) and "description" in shape:
                        yield (*place, name), shape
            if key not in ("examples", "default", "const", "defaultSnippets"):
                yield from properties(value, (*place, key))
    elif isinstance(node, list):
        for value in node:
            yield from properties(value, place)


@pytest.mark.parametrize(
    "name", ["flow", "project", "lock", "simulator-script"], ids=lambda name: name
)
def test_each_schema_is_one(name):
    Draft202012Validator.check_schema(bundled_schema(f"{name}.schema.json"))


def test_that_for_editors_is_one():
    Draft202012Validator.check_schema(EDITORS)
    project = for_editors(bundled_schema("project.schema.json"), is_of_flows=False)
    Draft202012Validator.check_schema(project)


def test_nothing_but_what_editors_show_is_added():
    def without(node):
        if isinstance(node, dict):
            is_shape = isinstance(node.get("description"), str)
            left = ADDED | ({"default"} if is_shape else set())
            return {key: without(value) for key, value in node.items() if key not in left}
        return [without(one) for one in node] if isinstance(node, list) else node

    def as_never(node):
        if node == {"not": {}}:
            return False
        if isinstance(node, dict):
            return {key: as_never(value) for key, value in node.items()}
        return [as_never(one) for one in node] if isinstance(node, list) else node

    assert without(EDITORS) == without(as_never(BUNDLED))


def test_both_say_the_same_of_every_flow():
    one, other = Draft202012Validator(BUNDLED), Draft202012Validator(EDITORS)
    verdicts = []
    for path in FLOWS:
        try:
            document = yaml.safe_load(path.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeError, ValueError):
            continue
        verdicts.append(one.is_valid(document))
        assert other.is_valid(document) == verdicts[-1], path
    assert set(verdicts) == {True, False}
    assert len(verdicts) > 100


def test_every_key_has_a_description_in_markdown_and_an_example():
    found = dict(properties(EDITORS))
    assert len(found) > 150
    for place, shape in found.items():
        assert shape["markdownDescription"], place
        assert "examples" in shape or "$ref" in shape or "enum" in shape, place


def test_markdown_shows_what_is_written_in_a_flow_as_code():
    step = EDITORS["$defs"]["step"]["properties"]
    assert step["prompt"]["markdownDescription"] == (
        "The user message: a template, or `{file: path}`.\n\n"
        "*Part of the request: a change of it makes results stale.*"
    )
    assert "Default: `[]`" in step["expect"]["markdownDescription"]
    assert "makes nothing stale" in step["retry"]["markdownDescription"]
    plain = re.sub(
        r"`[^`]*`", "", " ".join(s["markdownDescription"] for _, s in properties(EDITORS))
    )
    assert not re.search(r"(?<!\\)[<>{}\[\]]", plain)


def filled(body):
    """Return a snippet as it stands when nothing is typed into it."""
    if isinstance(body, dict):
        return {filled(key): filled(value) for key, value in body.items()}
    if isinstance(body, list):
        return [filled(one) for one in body]
    return re.sub(r"\$\{\d+:([^}]*)\}", r"\1", body) if isinstance(body, str) else body


@pytest.mark.parametrize(
    ("place", "snippet"),
    [(place, one) for place, several in SNIPPETS.items() for one in several],
    ids=lambda value: value["label"] if isinstance(value, dict) else "",
)
def test_a_snippet_is_a_valid_start(place, snippet):
    shape = BUNDLED
    for key in place:
        shape = shape[key]
    whole = copy.deepcopy(shape) | {"$defs": BUNDLED["$defs"]}
    Draft202012Validator(whole).validate(filled(snippet["body"]))
    assert "${" not in str(filled(snippet["body"]))
