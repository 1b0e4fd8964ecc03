"""Whatever stands in a file's place, a command ends with a line about it, in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TRAPS = ["zero", "environ", "outside", "loop", "pipe", "folder", "huge", "socket"]
DAMAGE = ["latin", "nul", "surrogate", "number", "deep", "deeper", "utf16", "empty"]
CANARY = "wJalrXUtnFEMI-K7MDENG"
CHECK, PLAN, LOCKED = ["check", "a.yaml"], ["plan", "a.yaml"], ["run", "--locked", "a.yaml"]
HEAD = "poeflow: 1\nsteps:\n"
PLAIN = HEAD + "  a: {render: hi}\n"
ASKS = HEAD + "  a: {model: Claude-Sonnet-4.5, prompt: hi%s}\n"
PLACES = {
    "a.yaml": PLAIN,
    "poeflow.toml": PLAIN,
    "pyproject.toml": PLAIN,
    "a.inputs.yaml": PLAIN,
    "a.lock.json": PLAIN,
    ".poeflow/models.json": ASKS % "",
    ".poeflow/poeflow.db": ASKS % "",
    ".poeflow/ledger.jsonl": HEAD + "  a: {render: hi, output: {save: out/a.txt}}\n",
    "prompt.md": HEAD + "  a: {render: {file: prompt.md}}\n",
    "part.md": HEAD + "  a: {render: '{% include \"part.md\" %}'}\n",
    "read.md": HEAD + "  a: {render: '{{ read(\"read.md\") }}'}\n",
    "seen.txt": ASKS % ", attachments: [seen.txt]",
    "fits.json": ASKS % ", output: {schema: {file: fits.json}}",
    "rows.csv": HEAD + "  a: {for_each: {file: rows.csv, key: item.id}, render: hi}\n",
    "rows.jsonl": HEAD + "  a: {for_each: {file: rows.jsonl, key: item.id}, render: hi}\n",
    "rows.parquet": HEAD + "  a: {for_each: {file: rows.parquet, key: item.id}, render: hi}\n",
    "b.yaml": HEAD + "  a: {use: b.yaml}\n",
    "tools.py": ASKS % ', tools: [{name: get, parameters: {type: object}, run: "tools:get"}]',
}
"""What a trap is put in the place of, each with the flow that reads it."""
CODES = {
    "pyproject.toml": [0, 0, 4],
    "a.lock.json": [0, 4, 4],
    ".poeflow/models.json": [0, 0, 4],
    ".poeflow/poeflow.db": [0, 0, 4],
    ".poeflow/ledger.jsonl": [0, 8, 8],
    "tools.py": [0, 0, 4],
}
"""How the three commands end where a flow can do without; else the flow is invalid."""
INVALID = [3, 3, 3]


def ends_of(folder, place, kinds, commands):
    """Yield how each command ended: the kind of trap, the command, its exit code, what it said."""
    trapped = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("trapped.py")), str(folder)],
        input=json.dumps([place, kinds, commands]),
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "CI": "1"},
        check=False,
    )
    assert trapped.returncode == 0, trapped.stderr[-2000:]
    ends = [json.loads(line) for line in trapped.stdout.splitlines()]
    assert len(ends) == len(kinds) * len(commands)
    return ends


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "outside.txt").write_text(f"AWS_SECRET={CANARY}\npoeflow: {CANARY}\n")
    (tmp_path / "project/.git").mkdir(parents=True)
    return tmp_path / "project"


@pytest.mark.parametrize("place", PLACES)
def test_a_trap_is_one_line(folder, place):
    (folder / "a.yaml").write_text(PLACES[place])
    codes = {}
    for kind, command, code, said in ends_of(folder, place, TRAPS, [CHECK, PLAN, LOCKED]):
        assert CANARY not in said
        if code == 3:
            problem, *rest = said.splitlines()
            assert f"{place} " in problem
            assert rest in ([], ["1 problem in 1 flow"])
        codes.setdefault(kind, []).append(code)
        assert "bug" not in said, (kind, command, said)
    expected = dict.fromkeys(TRAPS, CODES.get(place, INVALID))
    if place == "a.yaml":
        expected["folder"] = [2, 2, 2]
    if place.startswith("rows."):
        expected["huge"] = [0, 3, 3]  # rows are read, and so counted, by a plan
    if place.endswith("ledger.jsonl"):
        expected["huge"] = [0, 0, 4]  # of no use, and so as if it were not there
    assert codes == expected


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_file_is_no_bug(folder, place):
    (folder / "a.yaml").write_text(PLACES[place])
    for kind, command, code, said in ends_of(folder, place, DAMAGE, [CHECK, PLAN, LOCKED]):
        assert code in (0, 3, 4), (kind, command, said)
        assert "codec" not in said
        assert "recursion" not in said


@pytest.mark.parametrize("option", ["--inputs-file", "--input"])
def test_a_file_that_is_named_is_held_to_its_project(folder, option):
    (folder / "a.yaml").write_text(PLAIN.replace("steps", "inputs: {t: {default: x}}\nsteps"))
    given = "sets/x.yaml" if option == "--inputs-file" else "t=@sets/x.yaml"
    for kind, _, code, said in ends_of(
        folder, "sets/x.yaml", [*TRAPS, "latin"], [[*PLAN, option, given]]
    ):
        assert code == 3 if (kind, option) == ("latin", "--inputs-file") else 2, (kind, said)
        assert "sets/x.yaml" in said
        assert CANARY not in said


def test_a_lock_says_why_it_cannot_be_read(folder):
    (folder / "a.yaml").write_text(PLAIN)
    ends = ends_of(folder, "a.lock.json", ["latin", "deep", "huge", "zero"], [LOCKED])
    assert {kind: said.rstrip() for kind, _, _, said in ends} == {
        "latin": "a.yaml: a.lock.json is not a lock this version can read: it is not UTF-8;"
        " run the flow to write it anew",
        "deep": "a.yaml: a.lock.json is not a lock this version can read: it is nested too deep;"
        " run the flow to write it anew",
        "huge": "a.yaml: a.lock.json has 3,221,225,472 bytes; the limit is 268,435,456;"
        " remove it, then run the flow to write it anew",
        "zero": "a.yaml: a.lock.json is a link; remove it, then run the flow to write it anew",
    }
