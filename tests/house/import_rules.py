"""Which imports break the house, as sentences: the rules of layers, third parties and lateness."""

import sys
from collections.abc import Iterable, Iterator

from house_source import FRONT, GROUND, MAY_IMPORT, Import, Module

THIRD_PARTY = {
    "flowfile": {"yaml", "jsonschema", "referencing", "re2", "duckdb"},
    "answers": {"jsonschema", "jsonschema_specifications", "referencing", "pyjson5"},
    "client": {"httpx", "h11", "certifi", "platformdirs"},
    "templates": {"jinja2", "yaml"},
    "simulator": {"h11", "jinja2"},
    "report": {"rich", "jinja2", "markdown_it", "markupsafe", "starlette", "uvicorn"},
    "engine": {"PIL", "pypdf"},
    "operations": {"watchfiles", "pygls", "lsprotocol", "jinja2", "yaml"},
    "cli": {"click", "dotenv"},
}
"""What each room may use besides the standard library and msgspec."""
LATE = {
    "PIL": "an extra, needed only for pictures that are made smaller",
    "certifi": "reads a file, needed only for https",
    "difflib": "needed only where a name was mistyped",
    "email": "needed only where a server says when to ask again, as a date",
    "fractions": "needed only where a number has to be a multiple",
    "duckdb": "an extra, needed only for parquet",
    "dotenv": "needed only for --env-file",
    "h11": "0.01 s, needed only where a head is not simple",
    "httpx": "0.2 s, needed only where a transport is injected",
    "importlib": "finds the lazy public names of the package",
    "jsonschema": "0.1 s, needed only where the typed decode failed or an answer has a schema",
    "jsonschema_specifications": "comes with jsonschema",
    "platformdirs": "needed only where a list of models is kept",
    "pypdf": "an extra, needed only for some pages of a PDF",
    "pyjson5": "0.02 s, needed only where an answer is nearly JSON",
    "re2": "a C++ library, needed only where there is a pattern",
    "referencing": "comes with jsonschema",
    "rich": "0.01 s, needed only where text is fitted into a terminal",
}
"""What may be imported where it is used, and why."""
OURS_LATE = {
    ("poeflow.cli.start", "poeflow.version"),  # --version imports nothing else
    ("poeflow.cli.start", "poeflow.cli.exit_codes"),
    ("poeflow.cli.start", "poeflow.cli.main"),
    ("poeflow.cli.page_server", "poeflow.report.pages.site"),  # starlette and uvicorn are an extra
    ("poeflow.cli.commands.lsp", "poeflow.operations.editors.language_server"),  # pygls is an extra
    ("poeflow.cli.commands.watch", "poeflow.cli.page_server"),  # only --view shows pages
    ("poeflow.cli.start", "poeflow.cli.shells"),
    ("poeflow.cli.output", "poeflow.report.terminal.live"),  # rich is only for a terminal
    (
        "poeflow.operations.providers",
        "poeflow.simulator.server",
    ),  # 0.1 s that only --offline pays
}
IMPORTLIB = {"poeflow", "poeflow.cli.main", "poeflow.engine.asking.tool_modules"}
"""Who may import by a computed name: the lazy public names, the lazy commands, users' tools."""


def faults(modules: Iterable[Module]) -> list[str]:
    """Return a sentence for every import that breaks a rule of its own module's room."""
    those = tuple(modules)
    known = frozenset(module.name for module in those)
    return sorted(
        {
            f"{module.name}: {sentence}"
            for module in those
            for found in module.imports(known)
            for sentence in _about(module, found)
        }
    )


def _about(module: Module, found: Import) -> Iterator[str]:
    if found.name.startswith("."):
        yield f"imports {found.name} by a relative name"
    elif found.is_ours:
        yield from _about_ours(module, found)
    elif found.top in sys.stdlib_module_names:
        is_by_name = found.top == "importlib" and found.name != "importlib.metadata"
        if is_by_name and module.name not in IMPORTLIB:
            yield "imports by a computed name"
    else:
        if found.top not in THIRD_PARTY.get(module.room, set()) | {"msgspec"}:
            yield f"may not use {found.top}"
        if found.top == "httpx" and module.name != "poeflow.client.http.transport":
            yield "uses httpx, which is the transport's"
    if found.is_late and not found.is_ours and found.top not in LATE:
        yield f"imports {found.name} late"


def _about_ours(module: Module, found: Import) -> Iterator[str]:
    there = Module(found.name, "").room
    within = found.name.removeprefix("poeflow.")
    if there == FRONT:
        if module.room != "cli":
            yield "imports the package itself"
    elif there not in (module.room, GROUND):
        rules = MAY_IMPORT[module.room]
        if not any(within == rule or within.startswith(f"{rule}.") for rule in rules):
            yield f"may not import {found.name}"
    if found.is_late and (module.name, found.name) not in OURS_LATE and module.room != FRONT:
        yield f"imports {found.name} late"


def in_cycles(modules: Iterable[Module]) -> set[str]:
    """Return the modules that import one another in a round, or import one that does."""
    those = tuple(modules)
    known = frozenset(module.name for module in those)
    needs = {
        module.name: {found.name for found in module.imports(known)} & known - {"poeflow"}
        for module in those
        if module.name != "poeflow"
    }
    while leaves := {name for name, needed in needs.items() if not needed}:
        needs = {name: needed - leaves for name, needed in needs.items() if name not in leaves}
    return set(needs)
