"""`poeflow lsp` as a real process: problems, definitions, states of steps."""

import os
import re
import subprocess
import sys

import pytest
from language_client import Editor
from markdown_it import MarkdownIt

FLOW = """\
poeflow: 1
inputs:
  topic: {default: otters, description: What about.}
models:
  writer: {model: GPT-5.2}
steps:
  facts:
    model: writer
    prompt: "🦦 Facts on {{ inputs.topic }}."
    output: {save: facts.md}
  page:
    needs: [facts]
    render: |
      {% include "parts/head.md" %}
      {{ steps.facts.text }}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "poeflow.toml").touch()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/head.md").write_text("# Head\n")
    (tmp_path / "a.yaml").write_text(FLOW)
    return tmp_path


@pytest.fixture
def editor(folder):
    with Editor([sys.executable, "-m", "poeflow.cli.start", "lsp"], folder) as started:
        yield started


def place(found) -> tuple[str, int, int]:
    start = found["range"]["start"]
    return found["uri"].rpartition("/")[2], start["line"] + 1, start["character"] + 1


def test_a_sound_flow_has_no_problems(editor, folder):
    assert editor.open(folder / "a.yaml") == []


def test_all_that_check_finds_is_shown_as_it_is_typed(editor, folder):
    path = folder / "a.yaml"
    editor.open(path)
    (found,) = editor.change(path, FLOW.replace("inputs.topic", "inputs.topc"), 2)
    assert found["message"] == 'unknown input "topc"; did you mean "topic"?'
    assert (found["severity"], found["source"]) == (1, "poeflow")
    start, end = found["range"]["start"], found["range"]["end"]
    assert start["line"] == 8
    written = FLOW.replace("inputs.topic", "inputs.topc").split("\n")[8].encode("utf-16-le")
    shown = written[2 * start["character"] : 2 * end["character"]].decode("utf-16-le")
    assert shown.startswith("inputs.topc") or shown == "topc"
    assert path.read_text() == FLOW  # nothing was saved
    assert editor.change(path, FLOW, 3) == []


def test_a_file_that_is_open_counts_as_it_is_in_the_editor(editor, folder):
    path, head = folder / "a.yaml", folder / "parts/head.md"
    editor.open(path)
    head.write_text("{{ inputs.no }}")
    document = {"uri": head.as_uri(), "languageId": "markdown", "version": 1, "text": "# Fine\n"}
    editor.tell("textDocument/didOpen", {"textDocument": document})
    assert editor.change(path, f"{FLOW}\n", 2) == []


TOOLS = "poeflow: 1\nsteps: {a: {model: M, prompt: x, tools: {file: parts/tools.yaml}}}\n"


def test_problems_in_a_file_that_flows_share_stay_until_none_has_them(editor, folder):
    tools, first, second = folder / "parts/tools.yaml", folder / "b.yaml", folder / "c.yaml"
    tools.write_text("- {nme: x}\n")
    first.write_text(TOOLS)
    second.write_text(TOOLS.replace("prompt: x", "prompt: y"))

    def messages() -> list[str]:
        return sorted(one["message"] for one in editor.problems(tools))

    editor.open(first)
    both = messages()
    assert len(both) == 2
    editor.open(tools)
    assert messages() == both, "to open it as what it is, no flow, takes nothing back"
    editor.open(second)
    assert messages() == both
    fine = "poeflow: 1\nsteps: {a: {render: x}}\n"
    assert editor.change(first, fine, 2) == []
    assert messages() == both, "the other flow has them still"
    editor.change(second, fine, 2)
    editor.at("hover", second, 1, 1)
    assert messages() == []


def test_it_goes_to_definitions(editor, folder):
    path = folder / "a.yaml"
    editor.open(path)
    lines = FLOW.split("\n")
    units = len(lines[8][: lines[8].index("topic")].encode("utf-16-le")) // 2
    assert place(editor.at("definition", path, 9, units + 2)) == ("a.yaml", 3, 3)
    assert place(editor.at("definition", path, 12, 15)) == ("a.yaml", 7, 3)
    assert place(editor.at("definition", path, 15, 20)) == ("a.yaml", 7, 3)
    assert place(editor.at("definition", path, 8, 14)) == ("a.yaml", 5, 3)
    assert place(editor.at("definition", path, 14, 25)) == ("head.md", 1, 1)
    assert editor.at("definition", path, 1, 2) is None


def text(found) -> str:
    return found["contents"]["value"] if found else ""


def test_it_says_how_current_a_step_is(editor, folder):
    path = folder / "a.yaml"
    editor.open(path)
    assert text(editor.at("hover", path, 7, 4)).startswith("**step facts**\n\nnew")
    command = [sys.executable, "-m", "poeflow.cli.start", "run", "a.yaml"]
    render = FLOW.replace("model: writer\n    prompt:", "render:")
    path.write_text(render)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    editor.change(path, render, 2)
    assert "fresh" in text(editor.at("hover", path, 7, 4))
    changed = render.replace("Facts on", "Facts about")
    editor.change(path, changed, 3)
    assert "stale" in text(editor.at("hover", path, 7, 4))
    editor.change(path, render.replace("inputs.topic", "inputs.no"), 4)
    assert "has mistakes" in text(editor.at("hover", path, 7, 4))


def test_it_says_what_an_input_and_an_alias_are(editor, folder):
    path = folder / "a.yaml"
    editor.open(path)
    assert text(editor.at("hover", path, 3, 5)) == (
        '**input topic**: string, default `"otters"`\n\nWhat about.'
    )
    assert text(editor.at("hover", path, 8, 14)) == "**writer** is the model `GPT-5.2`"


def test_what_is_no_flow_is_left_alone(editor, folder):
    (folder / "other.yaml").write_text("name: something\n")
    assert editor.open(folder / "other.yaml") == []


def test_a_private_file_in_the_editor_stays_private(editor, folder):
    (folder / ".env").write_text("POE_API_KEY=canary-key-0123456789\n")
    document = {"uri": (folder / ".env").as_uri(), "languageId": "ini", "version": 1, "text": "A=1"}
    editor.tell("textDocument/didOpen", {"textDocument": document})
    path = folder / "a.yaml"
    editor.open(path)
    (found,) = editor.change(path, FLOW.replace("parts/head.md", ".env"), 2)
    assert "is private" in found["message"]


def test_a_file_in_the_editor_that_is_too_large_to_be_read_is_a_problem(editor, folder):
    text = "x" * (4 * 2**20 + 1)
    head = {"uri": (folder / "parts/head.md").as_uri(), "languageId": "markdown", "version": 1}
    editor.tell("textDocument/didOpen", {"textDocument": {**head, "text": text}})
    (found,) = editor.open(folder / "a.yaml")
    assert found["message"].endswith("bytes; make it smaller or split it")


def test_without_the_extra_it_says_what_to_install(folder):
    code = (
        "import sys; sys.modules['pygls'] = None; sys.argv = ['poeflow', 'lsp'];"
        "from poeflow.cli.start import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "error: the language server needs pygls\n  pip install 'poeflow[lsp]'\n",
    )


def test_editors_may_say_that_it_speaks_by_stdio(folder):
    with Editor([sys.executable, "-m", "poeflow.cli.start", "lsp", "--stdio"], folder) as started:
        assert started.open(folder / "a.yaml") == []


HOSTILE = """\
poeflow: 1
inputs:
  topic: {default: "`` ![a](https://x.test/a) `", description: "![b](https://x.test/b) <img src=c>"}
models:
  writer: {model: "`![d](https://x.test/d)`"}
steps:
  facts:
    description: "\\\\![e](https://x.test/e) [run](command:x) <b>bold</b> &lt;"
    model: writer
    prompt: "{{ inputs.topic }}"
"""


def test_texts_of_a_flow_are_no_markup(editor, folder):
    path = folder / "hostile.yaml"
    path.write_text(HOSTILE)
    assert editor.open(path) == []
    reader = MarkdownIt("commonmark", {"html": True})
    for line, column, shown in ((3, 5, "[b]"), (9, 14, "![d]"), (7, 4, "[run](command:x)")):
        page = reader.render(text(editor.at("hover", path, line, column)))
        tags = set(re.findall(r"<(\w+)", page))
        assert (tags <= {"p", "strong", "code", "ul", "li"}, shown in page) == (True, True), page
