"""Programs are started by few modules, and none of them hands the keys on."""

import ast

import pytest
from house_source import Module, package

STARTERS = {
    "poeflow.store.git",  # git, by words of ours
    "poeflow.cli.commands.simulate",  # the user's program; with keys only if a real server is asked
    "poeflow.cli.commands.view",  # the user's browser
    "poeflow.engine.asking.programs",  # commands of steps, with the user's permission
}
"""Who may start a program, always with an environment of its own."""
MODULES = {"subprocess", "webbrowser", "multiprocessing", "pty", "concurrent.futures.process"}
CALLS = ("system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile")
ASKED = ("create_subprocess", "subprocess_exec", "subprocess_shell", "ProcessPoolExecutor")
CLICK = {"launch", "edit", "echo_via_pager"}


def starts(module: Module) -> list[str]:
    """Return what in a module starts programs."""
    names = {found.name for found in module.imports(frozenset()) if found.name in MODULES}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            names |= {f"{owner}.{node.attr}"} if _is_start(owner, node.attr) else set()
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            taken = [one.name for one in node.names if _is_start(home, one.name)]
            names |= {f"{home}.{name}" for name in taken}
    return sorted(names)


def _is_start(owner: str, name: str) -> bool:
    is_os = owner == "os" and name.startswith(CALLS)
    return is_os or name.startswith(ASKED) or (owner == "click" and name in CLICK)


def bare_starts(module: Module) -> list[int]:
    """Return the lines that start a program with the environment of this process, or may do so.

    A name taken out of `subprocess` may be called anywhere, and so counts as one.
    """
    taken = [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "subprocess"
    ]
    return taken + [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "subprocess"
        and "env" not in {word.arg for word in node.keywords}
    ]


def test_few_modules_start_programs():
    assert {module.name for module in package() if starts(module)} <= STARTERS


def test_each_gives_them_an_environment():
    assert [(module.name, bare_starts(module)) for module in package() if bare_starts(module)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import subprocess", ["subprocess"]),
        ("from subprocess import run", ["subprocess"]),
        ("def f():\n import webbrowser", ["webbrowser"]),
        ("import os\nos.execv('a', [])", ["os.execv"]),
        ("import os\nos.posix_spawn('a', [], {})", ["os.posix_spawn"]),
        ("asyncio.create_subprocess_exec('a')", ["asyncio.create_subprocess_exec"]),
        ("import click\nclick.launch('a')", ["click.launch"]),
        ("import os\nos.path.join('a')", []),
        ("from os import execv, path", ["os.execv"]),
        ("from asyncio import create_subprocess_exec", ["asyncio.create_subprocess_exec"]),
        (
            "from concurrent.futures import ProcessPoolExecutor",
            ["concurrent.futures.ProcessPoolExecutor"],
        ),
    ],
)
def test_what_starts_a_program_is_found(text, found):
    assert starts(Module("poeflow.a", text)) == found


def test_a_start_with_the_keys_is_found():
    text = "import subprocess\nsubprocess.run(['a'])\nsubprocess.run(['a'], env={})"
    assert bare_starts(Module("poeflow.a", text)) == [2]
    assert bare_starts(Module("poeflow.a", "from subprocess import run\nrun(['a'])")) == [1]
