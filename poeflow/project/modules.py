"""The code of a project that a function runs: its module, and those of the project it imports."""

import ast
import contextlib
from collections.abc import Iterator
from typing import Final

from poeflow.project.project import MAX_TEXT_BYTES, FileProblem, Project

MAX_MODULES: Final = 500
"""How many modules are read: further ones are left out."""
_PACKAGE: Final = "__init__.py"


def module_paths(function: str) -> tuple[str, ...]:
    """Return where the module of a function, `module:name`, may be in a project."""
    module = function.partition(":")[0].replace(".", "/")
    return (f"//{module}.py", f"//{module}/{_PACKAGE}") if module else ()


def code_of(project: Project, function: str | None) -> tuple[str, ...]:
    """Return the files of all modules of a project that run with a function, `module:name`.

    Those are its own, what that imports by name, and so on, with the packages they are in. What is
    imported by a computed name is not known. Installed packages, and what is imported but may not
    be read, are not looked at.
    """
    module, own = (function or "").partition(":")[0], module_paths(function or "")
    found: dict[str, None] = {}
    waiting = [module] if module else []
    for name in waiting:  # which grows by what they import
        for path in filter(project.has, _files(name)):
            if path in found or len(found) == MAX_MODULES:
                continue
            names = _imported(project, path)
            if names is not None or path in own:
                found[path] = None
                waiting += names or ()
    return tuple(found)


def _files(module: str) -> Iterator[str]:
    """Yield where a module and the packages it is in may be."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        yield f"//{'/'.join(parts[:count])}/{_PACKAGE}"
    yield f"//{'/'.join(parts)}.py"


def _imported(project: Project, path: str) -> list[str] | None:
    """Return the names of the modules that one may import, None if it may not be read.

    A file that is no Python imports none.
    """
    try:
        data = project.read_bytes(path, limit=MAX_TEXT_BYTES)
    except FileProblem:
        return None
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        tree = ast.parse(data)
        package = tuple(path[2:].split("/")[:-1])
        return [name for node in ast.walk(tree) for name in _names(node, package)]
    return []


def _names(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Yield what an import names: of `from a import b` both may be modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else ()
        base = ".".join(filter(None, (*above, node.module)))
        yield from filter(None, (base,))
        yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
