"""Which modules of a project run with a function."""

import pytest

from poeflow.project.modules import MAX_MODULES, code_of, module_paths
from poeflow.project.project import Project


def code(root, function="main:run", **files: str) -> list[str]:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sorted(code_of(Project(root.resolve()), function))


def test_where_a_module_may_be():
    assert module_paths("a.b:f") == ("//a/b.py", "//a/b/__init__.py")
    assert module_paths(":f") == ()


@pytest.mark.parametrize(
    "text",
    [
        "import lib.tool",
        "import lib.tool as t, json",
        "from lib import tool",
        "from lib.tool import f",
        "def run():\n    from lib.tool import f",
        "try:\n    import lib.tool\nexcept ImportError:\n    pass",
    ],
)
def test_what_a_module_imports_counts(tmp_path, text):
    assert code(tmp_path, main=text, lib__tool="", other="") == ["//lib/tool.py", "//main.py"]


def test_what_that_imports_counts_and_cycles_end(tmp_path):
    found = code(tmp_path, main="import a", a="import b", b="import a, main")
    assert found == ["//a.py", "//b.py", "//main.py"]


def test_packages_run_with_their_modules(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("from . import consts")
    files = {
        "lib__tool": "from .deep.inner import x",
        "lib__consts": "",
        "lib__deep__inner": "from ... import lib\nfrom ..other import y",
        "lib__other": "",
    }
    found = code(tmp_path, "lib.tool:run", **files)
    assert found == [
        "//lib/__init__.py",
        "//lib/consts.py",
        "//lib/deep/inner.py",
        "//lib/other.py",
        "//lib/tool.py",
    ]


@pytest.mark.parametrize("function", [None, "", ":run", "json:dumps", "gone:run"])
def test_a_function_of_no_module_of_the_project_runs_none(tmp_path, function):
    assert code(tmp_path, function, main="") == []


def test_what_is_no_python_imports_nothing(tmp_path):
    assert code(tmp_path, main="import a\nthis is no python", a="") == ["//main.py"]
    (tmp_path / "main.py").write_bytes(b"import a\0")
    assert code(tmp_path, a="") == ["//main.py"]


def test_what_leaves_the_project_is_not_read(tmp_path):
    outside = tmp_path / "outside.py"
    outside.write_text("import secret")
    inside = tmp_path / "project"
    inside.mkdir()
    (inside / "secret.py").touch()
    (inside / "a.py").symlink_to(outside)
    assert code(inside, main="import a") == ["//main.py"]
    assert code(inside, "a:run") == ["//a.py"], "which an error is about"


def test_no_more_than_so_many_are_read(tmp_path):
    files = {f"m{n}": f"import m{n + 1}" for n in range(MAX_MODULES + 9)}
    assert len(code(tmp_path, "m0:run", **files)) == MAX_MODULES
