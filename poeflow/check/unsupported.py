"""Parts of the format that the schema accepts and this version does not run yet."""

from collections.abc import Iterator
from typing import Final

from poeflow.problems import Problem
from poeflow.spec.load import FlowFile
from poeflow.spec.tree import Path

STEP_KEYS: Final = [
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
]
OUTPUT_KEYS: Final = ["schema", "one_of", "repair", "extract", "media", "tracked"]
LIMITS: Final = ["max_requests", "max_tokens", "max_cost_usd", "max_points"]
FORMATS: Final = ("yaml", "csv")
HINT: Final = "remove it, or wait for a version that runs it"


def unsupported(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem at each key whose meaning this version would otherwise ignore."""
    for path in _paths(file):
        if file.document.node(path) is not None:
            name = ".".join(str(part) for part in path[2:]) if path[0] == "steps" else path[-1]
            message = f'"{name}" is not supported yet'
            yield Problem(file.document.key_place(path), message, HINT)
    for step in file.flow.steps:
        path = ("steps", step, "output", "format")
        node = file.document.node(path)
        if node is not None and node.data in FORMATS:
            message = f"output.format: {node.data} is not supported yet"
            yield Problem(file.document.place(path), message, "use text or json")


def _paths(file: FlowFile) -> Iterator[Path]:
    for step in file.flow.steps:
        yield from (("steps", step, key) for key in STEP_KEYS)
        yield from (("steps", step, "output", key) for key in OUTPUT_KEYS)
        attachments = file.document.node(("steps", step, "attachments"))
        for index in range(len(attachments.items) if attachments else 0):
            yield ("steps", step, "attachments", index, "from")
    for name in file.flow.models:
        yield from (("models", name, key) for key in ("provider", "fallback"))
    yield ("defaults", "provider")
    yield from (("limits", key) for key in LIMITS)
