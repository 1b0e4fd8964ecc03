"""Parts of the format that the schema accepts and this version does not run yet."""

from collections.abc import Iterator
from typing import Final

from poeflow.problems import Problem
from poeflow.spec.load import FlowFile
from poeflow.spec.tree import Node, Path

STEP_KEYS: Final = (
    "if",
    "for_each",
    "matrix",
    "use",
    "with",
    "continue_on_error",
    "provider",
    "fallback",
    "history",
    "tools",
    "tool_choice",
    "tools_mode",
    "parallel_tool_calls",
    "samples",
    "expect",
)
OUTPUT_KEYS: Final = ("schema", "one_of", "repair", "extract", "media", "tracked")
LIMITS: Final = ("max_requests", "max_tokens", "max_cost_usd", "max_points")
FORMATS: Final = ("yaml", "csv")
HINT: Final = "remove it, or wait for a version that runs it"


def unsupported(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem at each part whose meaning this version would otherwise ignore."""
    for path in _keys(file):
        if file.document.node(path) is not None:
            message = f'"{_name(path)}" is not supported yet'
            yield Problem(file.document.key_place(path), message, HINT)
    for step in file.flow.steps:
        yield from _values(file, step)


def _keys(file: FlowFile) -> Iterator[Path]:
    for step in file.flow.steps:
        yield from (("steps", step, key) for key in STEP_KEYS)
        yield from (("steps", step, "output", key) for key in OUTPUT_KEYS)
        attachments: Path = ("steps", step, "attachments")
        yield from ((*attachments, i, "from") for i, _ in _items(file, attachments))
        for content in _contents(file, step):
            yield from ((*content, i, "attach", "from") for i, _ in _items(file, content))
    for name in file.flow.models:
        yield from (("models", name, key) for key in ("provider", "fallback"))
    yield ("defaults", "provider")
    yield from (("limits", key) for key in LIMITS)


def _values(file: FlowFile, step: str) -> Iterator[Problem]:
    path: Path = ("steps", step, "output", "format")
    node = file.document.node(path)
    if node is not None and node.data in FORMATS:
        message = f"output.format: {node.data} is not supported yet"
        yield Problem(file.document.place(path), message, "use text or json")
    for content in _contents(file, step):
        role = (*content[:-1], "role")
        node = file.document.node(role)
        if node is not None and node.data == "tool":
            message = "messages of tools are not supported yet"
            yield Problem(file.document.place(role), message, HINT)


def _contents(file: FlowFile, step: str) -> Iterator[Path]:
    messages: Path = ("steps", step, "messages")
    yield from ((*messages, index, "content") for index, _ in _items(file, messages))


def _items(file: FlowFile, path: Path) -> Iterator[tuple[int, Node]]:
    node = file.document.node(path)
    yield from enumerate(node.items if node is not None else ())


def _name(path: Path) -> str:
    """Return what a key is called below its step or entry: `output.schema`."""
    keys = [part for part in path if isinstance(part, str)]
    return ".".join(keys[2:] if keys[0] in ("steps", "models") else keys)
