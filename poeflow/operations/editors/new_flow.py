"""Writes a flow that was not there before, and the JSON Schema that editors check it by."""

import os
from pathlib import Path

from poeflow.errors import UsageError
from poeflow.flowfile.schema import FLOW_SCHEMA
from poeflow.operations.editors.editor_schema import schema_text
from poeflow.project.project import Project, atomic_write


def schema_for(flow: Path) -> str:
    """Return how a new flow names the schema at the root of its project, which is written there.

    Raises `UsageError` if `flow` is there already, or is no YAML file.
    """
    if flow.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{flow}: a flow is a YAML file", hint=f"try {flow}.yaml")
    if flow.exists():
        raise UsageError(f"{flow} is there already", hint="name another file")
    schema = _schema(flow)
    return Path(os.path.relpath(schema, flow.parent.resolve())).as_posix()


def write_new(flow: Path, text: str) -> None:
    """Write a flow, its folder and the schema. A schema that is there stays."""
    flow.parent.mkdir(parents=True, exist_ok=True)
    schema = _schema(flow)
    if not schema.exists():
        atomic_write(schema, schema_text(FLOW_SCHEMA).encode())
    atomic_write(flow, text.encode())


def _schema(flow: Path) -> Path:
    return Project.find(flow.parent.resolve()).root / "flow.schema.json"
