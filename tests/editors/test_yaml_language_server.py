"""The language server that editors use for YAML, from npm, works with our schema."""

import os
import subprocess
import sys

import pytest
from language_client import Editor

PACKAGE = "yaml-language-server@1.19.2"  # 2 asks for a newer node than Debian has
SETTINGS = {"yaml": {"hover": True, "completion": True, "validate": True}}
FLOW = """\
# yaml-language-server: $schema={schema}
poeflow: 1
steps:
  draft:
    model: GPT-5.2
    prompt: On otters.
    timeout: 5m
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The command of the installed server; `.ci/run` installs npm where it is missing."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "package.json").write_text("{}")
    environ = os.environ | {"npm_config_cache": str(folder / "cache"), "HOME": str(folder)}
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    program = folder / "node_modules/yaml-language-server/bin/yaml-language-server"
    return ["node", str(program), "--stdio"]


@pytest.fixture
def flow(tmp_path):
    """The flow that `poeflow init` writes, with the schema beside it."""
    command = [sys.executable, "-m", "poeflow.cli.start", "init", "flow.yaml"]
    (tmp_path / "poeflow.toml").touch()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "flow.yaml"


@pytest.fixture
def editor(server, flow):
    with Editor(server, flow.parent, SETTINGS) as started:
        yield started


def labels(found) -> dict[str, str]:
    items = found["items"] if isinstance(found, dict) else found
    return {item["label"]: item.get("insertText", "") for item in items}


def write(flow, more: str = ""):
    flow.write_text(FLOW.format(schema="flow.schema.json") + more)
    return flow


def test_the_first_flow_has_no_mistakes(editor, flow):
    assert editor.open(flow) == []


def test_mistakes_are_shown_at_their_places(editor, flow):
    write(flow, "    temprature: 0.5\n    samples: many\n")
    found = {one["range"]["start"]["line"]: one["message"] for one in editor.open(flow)}
    assert found.keys() == {7, 8}
    assert found[7] == "Property temprature is not allowed."
    fixed = flow.read_text().replace("    temprature: 0.5\n    samples: many\n", "")
    assert editor.change(flow, fixed, 2) == []


def test_a_key_is_explained(editor, flow):
    editor.open(write(flow))
    text = editor.at("hover", flow, 7, 7)["contents"]["value"]
    assert "Time limit of one attempt" in text
    assert "`{attempt, step}` also limits the whole step" in text
    assert "makes nothing stale" in text
    assert "```yaml\n10m\n```" in text


def test_keys_are_completed_with_what_they_hold(editor, flow):
    editor.open(write(flow, "    \n"))
    found = labels(editor.at("completion", flow, 8, 5))
    assert {"for_each", "expect", "output", "attachments"} <= found.keys()
    assert not {"prompt", "model", "timeout"} & found.keys()  # they are there already
    assert found["needs"].startswith("needs:\n  - ")
    assert found["output"] == "output:\n  "  # not with a key that has a default
    assert found["system"].startswith("system: ")
    assert found.keys() == {line.split(":")[0] for line in found.values()}


def test_a_key_that_does_not_fit_the_others_is_a_mistake(editor, flow):
    flow.write_text(FLOW.format(schema="flow.schema.json").replace("prompt:", "render:"))
    (found,) = {one["message"] for one in editor.open(flow) if one["range"]["start"]["line"] == 4}
    assert found == "Property model is not allowed."


def test_words_are_completed(editor, flow):
    editor.open(write(flow, "    output:\n      format: \n"))
    assert {"text", "json", "yaml", "csv"} <= labels(editor.at("completion", flow, 9, 15)).keys()


def test_snippets_begin_a_step_and_an_input(editor, flow):
    editor.open(write(flow, "  \ninputs:\n  \n"))
    steps = labels(editor.at("completion", flow, 8, 3))
    assert steps["step that asks a model"].startswith("${1:name}:\n  model: ${2:")
    assert "input with a choice" in labels(editor.at("completion", flow, 10, 3))


def test_what_is_in_templates_it_does_not_see(editor, flow):
    """That is why there is `poeflow lsp`."""
    editor.open(write(flow))
    assert editor.change(flow, flow.read_text().replace("otters", "{{ inputs.no }}"), 2) == []
