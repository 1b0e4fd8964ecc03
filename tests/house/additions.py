"""Small additions to poeflow, as scripts: what the recipes of CONTRIBUTING say, done.

Each is a table of edits by file, and a test of its own, which any addition brings along. An edit
puts its text before every place of a text that stands there today.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Addition(NamedTuple):
    """`goal` is how many files it should touch, `tests` hold together what it touches."""

    title: str
    goal: int
    edits: Mapping[str, tuple[tuple[str, str], ...]]
    own_test: str
    tests: tuple[str, ...]


_KEY = Addition(
    title="A key of a step",
    goal=5,
    edits={
        "poeflow/flowfile/model.py": (
            ("    parallel_tool_calls: bool", "    language: Text | None = None\n"),
        ),
        "schemas/flow.schema.json": (
            (
                '        "parallel_tool_calls": {\n          "description"',
                (
                    '        "language": {"description": "What the answer is written in.", '
                    '"type": "string", "minLength": 1, "examples": ["German"]},\n'
                ),
            ),
            ('"parallel_tool_calls": {\n                "not"', '"language": {"not": {}},'),
        ),
        "poeflow/flowfile/build.py": (('"parallel_tool_calls"', '"language", '),),
        "poeflow/engine/request.py": (
            (
                "        if spec.messages is None:\n            content",
                (
                    "        if spec.language:\n            told = f'Answer in {spec.language}.'\n"
                    "            messages.append(Message(role='system', content=told))\n"
                ),
            ),
        ),
        "README.md": (
            (
                "| `parallel_tool_calls` |",
                '| `language` | What the answer is written in. | `"German"` |\n',
            ),
        ),
        "tests/flowfile/flow_documents.py": (
            ("    parallel_tool_calls: true", "    language: German\n"),
        ),
    },
    own_test="""
import subprocess, sys

FLOW = "poeflow: 1\\nsteps:\\n  a: {model: Claude-Haiku-4.5, prompt: Hi., language: German}\\n"

def test_the_answer_is_asked_for_in_a_language(tmp_path):
    (tmp_path / "a.yaml").write_text(FLOW)
    command = [sys.executable, "-m", "poeflow.cli.main", "plan", "a.yaml"]
    options = ["--offline", "--render", "a"]
    done = subprocess.run(command + options, cwd=tmp_path, capture_output=True, text=True)
    assert "Answer in German." in done.stdout, done.stderr
""",
    tests=(
        "tests/house/test_lists.py",
        "tests/flowfile/test_flowfile_model.py",
        "tests/docs/test_reference.py",
    ),
)
_FORMAT = Addition(
    title="A format of answers",
    goal=2,
    edits={
        "poeflow/flowfile/model.py": (('"csv"] | None', '"toml", '),),
        "schemas/flow.schema.json": (('"csv"\n          ],', '"toml",\n            '),),
        "poeflow/answers/parse.py": (
            ('"csv": ("csv",)', '"toml": ("toml",), '),
            ('        case "csv":', '        case "toml":\n            return _toml(text)\n'),
            (
                "def _block(",
                (
                    "def _toml(text: str) -> Json:\n    import tomllib\n\n    try:\n"
                    "        return tomllib.loads(_only_block(text, 'toml') or text)\n"
                    "    except tomllib.TOMLDecodeError as error:\n"
                    "        raise _UnreadableError(f'not TOML: {error}') from None\n\n\n"
                ),
            ),
        ),
        "poeflow/answers/prompts.py": (
            ('"csv": "CSV table', '"toml": "TOML document", '),
            ('"csv": "CSV only', '"toml": "one TOML document only",\n    '),
        ),
        "README.md": (("csv; a `<think>` block", "toml, "),),
    },
    own_test="""
from poeflow.answers.parse import read
from poeflow.flowfile.model import Output

def test_an_answer_is_read_as_toml():
    assert read(Output(format="toml"), "a = 1", None).data == {"a": 1}
    assert read(Output(format="toml"), "a: 1", None).faults
""",
    tests=("tests/house/test_lists.py", "tests/flowfile/test_flowfile_model.py"),
)
_OUTPUT = Addition(
    title="An output of `poeflow run`",
    goal=2,
    edits={
        "poeflow/cli/output.py": (
            ('"github"]\n', '"silent", '),
            (
                '    elif output != "github"',
                '    elif output == "silent":\n        yield Lasting(lambda event: None)\n',
            ),
        ),
        "poeflow/cli/commands/run.py": (
            ('"github"]),', '"silent", '),
            ('"github: text, with', '"silent: JSON, and no log; "\n    '),
        ),
        "tests/house/help.txt": (
            ("github:\n                                text, with", "silent: JSON, and no log; "),
        ),
    },
    own_test="""
import subprocess, sys

FLOW = "poeflow: 1\\nsteps:\\n  a: {render: Hi.}\\n"

def test_nothing_is_logged(tmp_path):
    (tmp_path / "a.yaml").write_text(FLOW)
    command = [sys.executable, "-m", "poeflow.cli.main", "run", "a.yaml", "--output", "silent"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{\\n  "a": "Hi."\\n}\\n', "")
""",
    tests=("tests/house/test_lists.py",),
)
ADDITIONS = (_KEY, _FORMAT, _OUTPUT)
