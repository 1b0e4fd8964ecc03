"""The house: imports go strictly down, and rooms stay small. Read from the source by `ast`."""

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "poeflow"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}

LEVELS = {
    "spec": 1, "client": 1, "store": 1,
    "templates": 2, "attachments": 2,
    "simulator": 3, "outputs": 3,
    "check": 4, "engine": 5, "report": 4,
    "api": 6, "wiring": 6,
    "cli": 7, "__init__": 8,
}  # fmt: skip
MAY_IMPORT = {
    "spec": set(),
    "client": set(),
    "store": set(),
    "templates": {"spec"},
    "attachments": {"spec", "client.messages"},
    "simulator": {"spec", "templates", "client.messages"},
    "outputs": {"spec", "templates", "client.messages"},
    "check": {"spec", "templates", "attachments", "outputs"},
    "engine": {"spec", "client", "store", "templates", "attachments", "outputs", "check"},
    "report": {"store"},
    "wiring": {"client", "store", "engine", "simulator"},
    "api": {
        "spec", "client", "store", "templates", "attachments", "outputs", "check", "engine",
        "simulator", "wiring",
    },
}  # fmt: skip
THIRD_PARTY = {
    "spec": {"yaml", "jsonschema", "referencing"},
    "client": {"httpx", "h11", "certifi"},
    "templates": {"jinja2", "markupsafe", "yaml"},
    "simulator": {"h11", "re2", "jinja2"},
    "report": {"rich"},
    "cli": {"click", "dotenv", "rich"},
    "attachments": set(),
    "outputs": set(),
}
LATE = {
    "re2",
    "difflib",
    "httpx",
    "certifi",
    "jsonschema",
    "referencing",
    "dotenv",
    "jinja2",
    "importlib",
}
"""Heavy third parties that may be imported where they are used."""
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "manager", "core", "misc"}


def room(module: str) -> str:
    """Return the package a module is in; ground modules are `ground`."""
    parts = module.split(".")
    if len(parts) == 1:
        return "__init__"
    return parts[1] if parts[1] in LEVELS else "ground"


def imports(module: str) -> list[tuple[str, ast.stmt]]:
    """Return every module that `module` imports, with the statement."""
    found: list[tuple[str, ast.stmt]] = []
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.append((whole if whole in MODULES else node.module, node))
    return found


def every_module(check: Callable[[str], None]) -> Callable[[], None]:
    """Make one test of a check that holds for each module."""

    def test() -> None:
        for module in MODULES:
            check(module)

    test.__name__ = check.__name__
    return test


def is_ours(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] == "poeflow"


@every_module
def test_imports_go_down(module):
    here = room(module)
    for name, _ in imports(module):
        if not is_ours(name):
            continue
        there = room(name)
        if there in (here, "ground") or name == "poeflow":
            continue
        assert here != "ground", f"{module} imports {name}"
        if here in MAY_IMPORT:
            allowed = MAY_IMPORT[here]
            within = name.removeprefix("poeflow.")
            is_allowed = any(within == rule or within.startswith(f"{rule}.") for rule in allowed)
            assert is_allowed, f"{module} may not import {name}"


def test_only_the_front_imports_the_package_itself():
    those = {m for m in MODULES for name, _ in imports(m) if name == "poeflow"}
    assert those == {"poeflow.cli.failures", "poeflow.cli.main", "poeflow.cli.start"}


def test_there_are_no_cycles():
    edges = {m: {n for n, _ in imports(m) if n in MODULES and n != "poeflow"} for m in MODULES}
    while True:
        leaves = {m for m, needs in edges.items() if not needs}
        if not leaves:
            break
        edges = {m: needs - leaves for m, needs in edges.items() if m not in leaves}
    edges.pop("poeflow", None)
    assert edges == {}


@every_module
def test_third_parties_stay_in_their_room(module):
    allowed = THIRD_PARTY.get(room(module), set()) | {"msgspec"}
    outside = {
        name.split(".")[0]
        for name, _ in imports(module)
        if not is_ours(name) and name.split(".")[0] not in sys.stdlib_module_names
    }
    assert outside <= allowed, module


def test_only_the_transport_imports_httpx():
    those = {m for m in MODULES for name, _ in imports(m) if name.split(".")[0] == "httpx"}
    assert those == {"poeflow.client.transport"}


@every_module
def test_only_heavy_third_parties_are_imported_late(module):
    top = {id(node) for node in TREES[module].body}
    for node in TREES[module].body:
        if isinstance(node, ast.If):
            top |= {id(inner) for inner in node.body}
    late = {name for name, node in imports(module) if id(node) not in top}
    ours = {name for name in late if is_ours(name)}
    exceptions = {
        "poeflow.cli.start": {"poeflow", "poeflow.cli.main"},  # --version imports nothing
        "poeflow.cli.results": {"poeflow.report.live"},  # rich is only for a terminal
        "poeflow.wiring": {"poeflow.simulator.server"},  # 0.1 s that only --offline pays
    }
    assert ours == exceptions.get(module, set()), module
    assert {name.split(".")[0] for name in late - ours} <= LATE, module


@every_module
def test_rooms_are_small(module):
    tree = TREES[module]
    lines = MODULES[module].read_text("utf-8").count("\n")
    assert lines <= 300, module
    names = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert len(names) <= (45 if module == "poeflow" else 25), f"{module}: {sorted(names)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            is_told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            start = first.end_lineno if is_told and len(node.body) > 1 else node.lineno
            assert node.end_lineno - start <= 40, f"{module}.{node.name}"
            positional = [a.arg for a in node.args.posonlyargs + node.args.args]
            positional = [name for name in positional if name not in ("self", "cls")]
            assert len(positional) <= 5, f"{module}.{node.name}"


@every_module
def test_every_module_says_what_it_owns(module):
    assert not FORBIDDEN_NAMES & set(module.split("."))
    if MODULES[module].stat().st_size == 0:
        return
    told = ast.get_docstring(TREES[module])
    assert told, module
    sentences = re.findall(r"[.!?](?:\s|$)", re.sub(r"`[^`]*`|https?://\S+|e\.g\.", "", told))
    assert len(sentences) <= 3, module


def test_one_broad_except_stands_in_failures():
    broad = [
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in node.body)
    ]
    assert broad == ["poeflow.cli.failures"]


def test_suppressions_are_few_and_say_why():
    suppressions = [
        (module, line.strip())
        for module, path in MODULES.items()
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"#\s*(noqa|type:\s*ignore)", line)
    ]
    lines = sum(path.read_text("utf-8").count("\n") for path in MODULES.values())
    assert len(suppressions) < 2 * lines / 1000
    for module, line in suppressions:
        reason = re.search(r"#\s*(?:noqa: [A-Z0-9, ]+|type:\s*ignore\[[a-z-]+\])(.*)", line)
        assert reason, f"{module}: {line} names no code"
        assert len(reason[1].strip(" #-")) > 8, f"{module}: {line} gives no reason"


def test_nothing_prints_or_reads_the_environment_outside_its_rooms():
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Call) else ""
            if room(module) not in ("cli", "report"):
                assert not text.startswith(("print(", "sys.exit(", "click.echo(")), module
            if room(module) != "cli" and module != "poeflow.settings":
                assert not text.startswith(("os.environ", "os.getenv")), module
