"""The package as its own tests read it: every module's text, tree and imports, nothing imported."""

import ast
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]

FRONT = "front"
GROUND = "ground"
LEVELS = {
    GROUND: 0,
    "project": 1,
    "flowfile": 2, "client": 2, "store": 2,
    "templates": 3,
    "answers": 4, "simulator": 4,
    "planning": 5, "cassettes": 5,
    "engine": 6, "report": 6,
    "operations": 7,
    "api": 8,
    "cli": 9,
    "__main__": 10,
    FRONT: 10,
}  # fmt: skip
"""The rooms, and how high each is: `ground` is every other module at the top, `front` the package
itself. A room named here is a folder or a module."""
MAY_IMPORT = {
    GROUND: set(),
    "project": set(),
    "flowfile": {"project"},
    "client": {"project"},
    "store": {"project"},
    "templates": {"project", "flowfile"},
    "answers": {"project", "flowfile", "templates", "client.messages"},
    "simulator": {"project", "flowfile", "templates", "client.messages"},
    "planning": {"project", "flowfile", "templates", "answers", "client.catalogue"},
    "cassettes": {"project", "client.http", "simulator"},
    "engine": {"project", "flowfile", "client", "store", "templates", "answers", "planning"},
    "report": {"project", "store"},
    "operations": {room for room in LEVELS if LEVELS[room] < 7} - {GROUND, "cassettes", "report"},
    "api": {"project", "flowfile", "planning", "engine", "operations"},
    "cli": {room for room in LEVELS if LEVELS[room] < LEVELS["cli"]} - {GROUND},
    "__main__": {"cli"},
    FRONT: {"flowfile", "client", "simulator", "planning", "engine", "operations", "api"},
}  # fmt: skip
"""What each room may import besides the ground and itself."""


@dataclass(frozen=True)
class Import:
    """One module that another imports; `is_late` where that happens inside a function."""

    name: str
    is_late: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_ours(self) -> bool:
        return self.top == "poeflow"


@dataclass(frozen=True)
class Module:
    """A module of the package: its dotted name and its text."""

    name: str
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree.

        It is made without the garbage collector: Python 3.11 failed ("AST constructor recursion
        depth mismatch") as what was collected meanwhile printed a traceback, which parses, too.
        """
        was_on = gc.isenabled()
        gc.disable()
        try:
            return ast.parse(self.text)
        finally:
            if was_on:
                gc.enable()

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        if len(parts) == 1:
            return FRONT
        return parts[1] if parts[1] in LEVELS else GROUND

    @cached_property
    def functions(self) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def imports(self, known: frozenset[str]) -> Iterator[Import]:
        """Yield what is imported; `known` tells `from a import module` from `from a import name`.

        A relative import is yielded as it is written, with its dots.
        """
        inside = {id(inner) for function in self.functions for inner in ast.walk(function)}
        for node in ast.walk(self.tree):
            is_late = id(node) in inside
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, is_late) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                home = "." * node.level + (node.module or "")
                for alias in node.names:
                    whole = f"{home}.{alias.name}"
                    yield Import(whole if whole in known else home, is_late)


def package() -> tuple[Module, ...]:
    """Return every module of poeflow, sorted by name."""
    found = []
    for path in sorted((ROOT / "poeflow").rglob("*.py")):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        name = dotted.removesuffix(".__init__")
        found.append(Module(name, path.read_text("utf-8"), is_package=name != dotted))
    return tuple(found)
