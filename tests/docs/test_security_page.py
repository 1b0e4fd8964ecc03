"""Every promise of SECURITY.md names a test, and that test is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| .+ \| `(tests/\S+\.py)::(\S+)` \| .+ \|$", re.MULTILINE)


def names_in(path: Path) -> set[str]:
    """Return the tests of a file, those of a class as `Class::test`."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        found |= {prefix + one.name for one in inner if isinstance(one, kinds)}
    return found


def test_each_promise_has_a_test():
    page = (ROOT / ".github/SECURITY.md").read_text("utf-8")
    table = page.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = ROW.findall(table)
    assert len(named) == len(rows) > 10
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(ROOT / path)]
    assert missing == []
