"""Programs are started by few modules, and none of them hands the keys on."""

import ast

import pytest
from house_source import Module, package

STARTERS = {
    "poeflow.store.git",  # git, by words of ours
    "poeflow.cli.commands.view",  # the user's browser
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
            is_os = owner == "os" and node.attr.startswith(CALLS)
            if is_os or node.attr.startswith(ASKED) or (owner == "click" and node.attr in CLICK):
                names.add(f"{owner}.{node.attr}")
    return sorted(names)


def bare_starts(module: Module) -> list[int]:
    """Return the lines that start a program with the environment of this process."""
    return [
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
    ],
)
def test_what_starts_a_program_is_found(text, found):
    assert starts(Module("poeflow.a", text)) == found


def test_a_start_with_the_keys_is_found():
    text = "import subprocess\nsubprocess.run(['a'])\nsubprocess.run(['a'], env={})"
    assert bare_starts(Module("poeflow.a", text)) == [2]
