"""Which code makes a room too big, too loud or too quiet, as sentences."""

import ast
import re
from collections.abc import Iterator

from house_source import FRONT, Module

MAX_LINES, MAX_FUNCTION_LINES, MAX_POSITIONAL, MAX_NAMES = 500, 40, 5, 40
MANY_NAMES = {}
"""Modules that import more names, and how many: a row may shrink or go, never grow or be added."""
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "manager", "core", "misc"}
SUPPRESSION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma|mypy:|ruff:)")
COMPLETE = re.compile(r"#\s*(?:noqa: ?[A-Z]+\d+(?:, ?[A-Z]+\d+)*|type: ?ignore\[[a-z, -]+\])(.*)")

CATCHING_ALL = {"poeflow.cli.exit_codes", "poeflow.engine.asking.tools"}
"""Where every exception is caught: a bug becomes a report, a user's tool tells the model."""


def faults(module: Module) -> list[str]:
    """Return a sentence for every rule the module breaks."""
    rules = (_sizes, _words, _suppressions, _excepts, _sinks, _patterns)
    return [f"{module.name}: {sentence}" for rule in rules for sentence in rule(module)]


def _sizes(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines > MAX_LINES:
        yield f"has {lines} lines"
    names = {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    most = MANY_NAMES.get(module.name, MAX_NAMES)
    if len(names) > most and module.room != FRONT:  # the front's imports are the public names
        yield f"imports {len(names)} names"
    for function in module.functions:
        long = _length(function)
        if long > MAX_FUNCTION_LINES:
            yield f"{function.name} has {long} lines"
        named = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        positional = len([name for name in named if name not in ("self", "cls")])
        if positional > MAX_POSITIONAL:
            yield f"{function.name} takes {positional} positional arguments"


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has, less its docstring: what teaches is not counted."""
    told = 0
    if ast.get_docstring(function) is not None:
        first = function.body[0]
        told = (first.end_lineno or 0) - first.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - told


def _words(module: Module) -> Iterator[str]:
    for name in sorted(FORBIDDEN_NAMES & set(module.name.split("."))):
        yield f"is named {name}"
    for left in re.findall(r"#.*\b(TODO|FIXME|XXX)\b(?!.*https?://)", module.text):
        yield f"leaves a {left} without a link"
    told = ast.get_docstring(module.tree)
    if not module.tree.body:
        return
    if not told:
        yield "does not say what it owns"
        return
    prose = re.sub(r"`[^`]*`|https?://\S+|\be\.g\.|\n\n", " ", told)
    sentences = len(re.findall(r"[.!?](?=\s|$)", prose))
    if sentences > 3 and "├──" not in told:  # a drawn tree is not prose
        yield f"says what it owns in {sentences} sentences"


def _patterns(module: Module) -> Iterator[str]:
    """What is compiled on import costs every command its time: 158 patterns were 25 ms."""
    inside = {id(node) for function in module.functions for node in ast.walk(function)}
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    for call in calls:
        if id(call) not in inside and ast.unparse(call.func) == "re.compile":
            yield "compiles a pattern on import, without lazy_pattern"


def _suppressions(module: Module) -> Iterator[str]:
    for line in suppressions(module):
        complete = COMPLETE.search(line)
        if complete is None:
            yield f"suppresses without a code: {line}"
        elif len(complete[1].strip(" #-")) < 9:
            yield f"suppresses without a reason: {line}"


def suppressions(module: Module) -> list[str]:
    return [line.strip() for line in module.text.splitlines() if SUPPRESSION.search(line)]


def _excepts(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            names = _names(node.type)
            is_passed_on = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            names = {ast.unparse(argument) for argument in node.args}
            is_passed_on = False
        else:
            continue
        if "Exception" in names and module.name not in CATCHING_ALL:
            yield "catches Exception"
        if names & {"", "BaseException"} and not is_passed_on:
            yield "swallows BaseException"


def _names(caught: ast.expr | None) -> set[str]:
    if caught is None:
        return {""}
    if isinstance(caught, ast.Tuple):
        return {ast.unparse(each) for each in caught.elts}
    return {ast.unparse(caught)}


def _sinks(module: Module) -> Iterator[str]:
    spoken = {
        ast.unparse(n) for n in ast.walk(module.tree) if isinstance(n, ast.Attribute | ast.Name)
    }
    spoken |= {
        f"{node.module}.{alias.name}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    loud = {"print", "sys.stdout", "sys.stderr", "sys.exit", "os._exit", "SystemExit", "click.echo"}
    if module.room not in ("cli", "report"):
        yield from (f"uses {name}" for name in sorted(spoken & loud))
    environment = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
    if module.room != "cli" and module.name != "poeflow.settings":
        yield from (f"uses {name}" for name in sorted(spoken & environment))
