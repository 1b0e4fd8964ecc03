"""Which code opens a file by itself, as sentences: `poeflow.opener` does it for all to read."""

import ast
from collections.abc import Iterator

from house_source import Module

OPENER = "poeflow.opener"
ELSEWHERE = {
    (
        "poeflow.project.atomic_write",
        "os.open",
    ): "makes the drafts that are written, and makes folders durable",
    (
        "poeflow.store.database_file",
        "os.open",
    ): "makes the file that SQLite then opens, and its mark",
    (
        "poeflow.store.workspace",
        "os.open",
    ): "appends to the ledger it reads, and makes the file whose lock keeps runs out",
    (
        "poeflow.cassettes.cassette_file",
        "os.open",
    ): "adds to the cassette it reads, whose lock keeps another recorder out",
    ("poeflow.cli.exit_codes", "os.open"): "opens the null device, for a stream that is closed",
    ("poeflow.cli.ci", ".open"): "adds to the summary that the CI system names",
}
"""Who else opens a file, and how, each with its reason: nothing is only read there."""
_MODULES = {
    "os",
    "io",
    "codecs",
    "gzip",
    "bz2",
    "lzma",
    "tarfile",
    "zipfile",
    "shelve",
    "fileinput",
}
_NAMES = {"open", "FileIO", "mmap", "copyfile", "copy", "copy2", "copytree", "fromfile", "memmap"}


def faults(module: Module) -> list[str]:
    """Return a sentence for every file that a module opens by itself."""
    if module.name == OPENER:
        return []
    found = dict.fromkeys(openings(module))
    return [f"{module.name}: {one}" for one in found if (module.name, one) not in ELSEWHERE]


def openings(module: Module) -> Iterator[str]:
    """Yield how a module opens files: `open`, `os.open`, `.open`, `.read_bytes`, `.read_text`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module in _MODULES:
            yield from (f"{node.module}.{a.name}" for a in node.names if a.name in _NAMES)
        elif isinstance(node, ast.Call):
            yield from _opening(node)


def _opening(call: ast.Call) -> Iterator[str]:
    match call.func:
        case ast.Name(id="open" | "FileIO" as name):
            yield name
        case ast.Attribute(value=ast.Name(id=module), attr=attr) if (
            module in {*_MODULES, "shutil", "mmap"} and attr in _NAMES
        ):
            yield f"{module}.{attr}"
        case ast.Attribute(attr="read_bytes" | "read_text" as attr) if not _is_bounded(call):
            yield f".{attr}"
        case ast.Attribute(attr="open") if _is_of_a_path(call):
            yield ".open"


def _is_bounded(call: ast.Call) -> bool:
    """Whether it is the method of `Project`, which goes through the opener."""
    if any(keyword.arg == "limit" for keyword in call.keywords):
        return True
    owner = ast.unparse(call.func).rpartition(".")[0]
    return owner.rpartition(".")[2] in ("project", "_project") and bool(call.args)


def _is_of_a_path(call: ast.Call) -> bool:
    """Whether `open` is that of a path: a mode, or nothing, is what it is given."""
    named = {keyword.arg for keyword in call.keywords} & {"mode", "encoding", "buffering"}
    first = call.args[0] if call.args else None
    is_mode = isinstance(first, ast.Constant) and isinstance(first.value, str)
    return bool(named) or is_mode or not (call.args or call.keywords)
