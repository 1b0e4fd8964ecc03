"""Small additions to poeflow, as scripts: what the recipes of CONTRIBUTING say, done.

Each is a table of edits by file, the files that a command writes then, and a test of its own, which
any addition brings along. An edit puts its text before every place of a text that is there today.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Addition(NamedTuple):
    """`goal` is how many files a person should edit, `tests` hold together what is touched.

    `written` are the files that `pytest --rewrite-cases` of `writer` writes once `edits` are made.
    """

    title: str
    goal: int
    edits: Mapping[str, tuple[tuple[str, str], ...]]
    written: tuple[str, ...]
    writer: str
    own_test: str
    tests: tuple[str, ...]


_KEY = Addition(
    title="A key of a step",
    goal=5,
    edits={
        "poeflow/flowfile/model.py": (
            (
                "    parallel_tool_calls: Annotated",
                "    language: Annotated[Text | None, REQUEST] = None\n",
            ),
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
        "poeflow/engine/asking/composer.py": (
            (
                "        _refuse_blank(messages, has_files",
                (
                    "        if spec.language:\n            told = f'Answer in {spec.language}.'\n"
                    "            messages.insert(0, Message(role='system', content=told))\n"
                ),
            ),
        ),
        "tests/flowfile/flow_documents.py": (
            ("    parallel_tool_calls: true", "    language: German\n"),
        ),
    },
    written=(".github/docs/flows.md",),
    writer="tests/docs/test_reference.py",
    own_test="""
import subprocess, sys

FLOW = "poeflow: 1\\nsteps:\\n  a: {model: Claude-Haiku-4.5, prompt: Hi., language: German}\\n"

def test_the_answer_is_asked_for_in_a_language(tmp_path):
    (tmp_path / "a.yaml").write_text(FLOW)
    command = [sys.executable, "-m", "poeflow.cli.start", "plan", "a.yaml"]
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
        "poeflow/flowfile/model.py": (('"csv"]\n', '"toml", '),),
        "poeflow/answers/formats.py": (
            (
                "FORMATS: Final",
                (
                    "def _toml(text: str, _schema: Schema | None) -> Json:\n    import tomllib\n\n"
                    "    try:\n"
                    "        return tomllib.loads(only_block(text, ('toml',)) or text)\n"
                    "    except tomllib.TOMLDecodeError as error:\n"
                    "        raise UnreadableError(f'not TOML: {error}') from None\n\n\n"
                ),
            ),
            (
                '    "csv": AnswerFormat(',
                (
                    '    "toml": AnswerFormat(\n        about="a TOML document", read=_toml,\n'
                    '        fences=("toml",), document="TOML document",\n'
                    '        again="one TOML document only",\n    ),\n'
                ),
            ),
        ),
    },
    written=("schemas/flow.schema.json", ".github/docs/flows.md"),
    writer="tests/docs/test_reference.py",
    own_test="""
from poeflow.answers.parse import read
from poeflow.flowfile.model import Output

def test_an_answer_is_read_as_toml():
    assert read(Output(format="toml"), "a = 1", None).data == {"a": 1}
    assert read(Output(format="toml"), "a: 1", None).faults
""",
    tests=(
        "tests/house/test_lists.py",
        "tests/flowfile/test_flowfile_model.py",
        "tests/docs/test_reference.py",
    ),
)
_EXPECTATION = Addition(
    title="A kind of expectation",
    goal=2,
    edits={
        "poeflow/flowfile/model.py": (
            (
                "    json_schema: dict[str, Json] | None = None",
                "    max_lines: Whole | None = None\n",
            ),
        ),
        "poeflow/answers/expect.py": (
            (
                "def _beginning(",
                (
                    "def _max_lines(most: int, subject: Subject) -> Finding:\n"
                    "    has = len(subject.reading.text.splitlines())\n"
                    "    return f'at most {most} lines', None if has <= most else f'{has}'\n\n\n"
                ),
            ),
            (
                '    "json_schema": ExpectationKind(',
                (
                    '    "max_lines": ExpectationKind(\n        about="Most lines.",'
                    " example=3, finding=_max_lines\n    ),\n"
                ),
            ),
        ),
    },
    written=("schemas/flow.schema.json", ".github/docs/flows.md"),
    writer="tests/docs/test_reference.py",
    own_test="""
from poeflow.answers.expect import verdict
from poeflow.answers.parse import Reading
from poeflow.flowfile.load import build
from poeflow.flowfile.model import Flow
from poeflow.flowfile.yaml_tree import parse

FLOW = "poeflow: 1\\nsteps:\\n  a: {prompt: Hi., expect: [{max_lines: %s}]}\\n"

def test_lines_are_counted():
    expectation = build(parse(FLOW % 1, "a.yaml")).steps["a"].expect[0]
    assert verdict(expectation, Reading(text="a"), holds=None).passed
    found = verdict(expectation, Reading(text="a\\nb"), holds=None).message
    assert found == "expected at most 1 lines, found 2"

def test_their_number_is_checked():
    [problem] = build(parse(FLOW % "x", "a.yaml"))
    assert "max_lines" in problem.message
""",
    tests=(
        "tests/house/test_lists.py",
        "tests/flowfile/test_flowfile_model.py",
        "tests/docs/test_reference.py",
    ),
)
_OUTPUT = Addition(
    title="An output of `poeflow run`",
    goal=2,
    edits={
        "poeflow/cli/output.py": (
            ('"github"]\n', '"silent", '),
            (
                '    "github": RunOutput(',
                (
                    '    "silent": RunOutput(\n        about="JSON, and no log",'
                    " print_results=_print_json,\n"
                    "        listener=lambda: contextlib.nullcontext(\n"
                    "            TolerantListener(lambda _: None)\n        ),\n    ),\n"
                ),
            ),
        ),
    },
    written=("tests/house/help.txt", "man/poeflow-run.1"),
    writer="tests/house/test_public.py",
    own_test="""
import subprocess, sys

FLOW = "poeflow: 1\\nsteps:\\n  a: {render: Hi.}\\n"

def test_nothing_is_logged(tmp_path):
    (tmp_path / "a.yaml").write_text(FLOW)
    command = [sys.executable, "-m", "poeflow.cli.start", "run", "a.yaml", "--output", "silent"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{\\n  "a": "Hi."\\n}\\n', "")
""",
    tests=("tests/house/test_lists.py",),
)
ADDITIONS = (_KEY, _FORMAT, _EXPECTATION, _OUTPUT)
