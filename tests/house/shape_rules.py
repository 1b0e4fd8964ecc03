"""Which shapes of the house hide things: crowded folders, fragments, one name for two things.

What is not yet as it should be stands in a table: a row may shrink or go, never grow or be added.
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from house_source import Module

MAX_FILES, MAX_FLOORS, SMALL = 16, 8, 100
CROWDED: Mapping[str, tuple[int, int]] = {
    "poeflow.cli.commands": (25, 1),  # stays: a file for each command
}
"""Folders with more files or floors of imports than a folder should have, and with how many."""
FRAGMENTS: Mapping[str, str] = {
    "poeflow.cli.start": "the script, and `python -m poeflow`",
    "poeflow.engine.running.pending_finder": "a short way for surveys beside that of all",
    "poeflow.operations.imports.import_formats": "the registry that a command looks into",
    "poeflow.operations.imports.llm_template": "one format, in the registry beside the others",
}
"""Small modules with one importer, each with the reason why it is one."""
VERBS = {"accept", "cache", "check", "graph", "history", "plan", "run", "schema", "status"}
"""Names of the command line's own commands: the rooms below call what does the work the same."""
SAME = {"sync", "aio"}
"""The two shapes that the client and its transports both have."""
NAMED_TWICE: Mapping[str, int] = {}
"""Other module names that stand twice."""
BOTH_WAYS: set[str] = set()
"""Folders inside a room that import the folder around them, and are imported from there."""
MAX_PUBLIC_TWICE = 0
"""How many public names stand at the top of two modules or more."""
MAX_CHAINS = 0
"""How many times four dots in a row reach through one object into another."""


def folders(modules: Iterable[Module]) -> dict[str, list[Module]]:
    """Return the modules of each folder."""
    found = defaultdict(list)
    for module in modules:
        if not module.is_package:
            found[module.name.rpartition(".")[0]].append(module)
    return found


def floors(modules: Iterable[Module]) -> int:
    """Return how many modules the longest chain of imports among `modules` has."""
    those = {module.name: module for module in modules}
    known = frozenset(those)
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            below = {found.name for found in those[name].imports(known)} & known - {name}
            heights[name] = 1 + max(map(height, below), default=0)
        return heights[name]

    return max(map(height, those), default=0)


def fragments(modules: Iterable[Module]) -> set[str]:
    """Return the small modules that only one other imports."""
    those = [module for module in modules if not module.is_package]
    known = frozenset(module.name for module in those)
    importers = Counter(
        name
        for module in those
        for name in {found.name for found in module.imports(known)} & known - {module.name}
    )
    return {
        module.name
        for module in those
        if importers[module.name] == 1 and module.text.count("\n") < SMALL
    }


def named_twice(modules: Iterable[Module]) -> dict[str, int]:
    """Return the names of modules that stand in several places, with how many."""
    counts = Counter(module.name.rpartition(".")[2] for module in modules if not module.is_package)
    return {name: count for name, count in counts.items() if count > 1 and name not in VERBS | SAME}


def both_ways(modules: Iterable[Module]) -> set[str]:
    """Return the folders inside a room that import a folder around them and are imported there."""
    those = tuple(modules)
    known = frozenset(module.name for module in those)
    up, down = set(), set()
    for module in those:
        for found in module.imports(known):
            here, there = (name.rpartition(".")[0] for name in (module.name, found.name))
            if here.startswith(f"{there}."):
                up.add((there, here))
            elif there.startswith(f"{here}."):
                down.add((here, there))
    return {inside for around, inside in up & down if around != "poeflow"}


def public_twice(modules: Iterable[Module]) -> set[str]:
    """Return the public names, but for verbs, that stand at the top of several modules."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    counts = Counter(
        name
        for module in modules
        for name in {node.name for node in module.tree.body if isinstance(node, kinds)}
    )
    twice = {name for name, count in counts.items() if count > 1 and not name.startswith("_")}
    return twice - VERBS


def chains(module: Module) -> int:
    """Return how many expressions of a module reach through four dots."""
    return sum(_dots(node) >= 4 for node in ast.walk(module.tree))


def _dots(node: ast.AST) -> int:
    dots = 0
    while isinstance(node, ast.Attribute):
        dots, node = dots + 1, node.value
    return dots if isinstance(node, ast.Name) else 0
