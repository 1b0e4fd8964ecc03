"""`poeflow init`: write a first flow to start from."""

import os
import re
from pathlib import Path
from typing import Final

import click

from poeflow.errors import UsageError
from poeflow.flowfile.yaml_messages import core_value
from poeflow.project.project import Project, atomic_write, packaged

FLOW: Final = """\
# yaml-language-server: $schema={schema}
poeflow: 1
description: {name}

inputs:
  topic:
    type: string
    default: sea otters

steps:
  facts:
    model: Claude-Sonnet-4.5
    prompt: |
      Name three surprising facts about {{{{ inputs.topic }}}}.

  page:
    model: Claude-Sonnet-4.5
    prompt: |
      Turn these facts into a short page for children.

      {{{{ steps.facts.text }}}}
    output: {{save: out/{name}.md}}

outputs:
  page: "{{{{ steps.page.text }}}}"
"""
_WORD: Final = re.compile(r"\w[\w.-]*")


EPILOG: Final = """\b
Examples:
  poeflow init
  poeflow init flows/notes.yaml
"""


@click.command(epilog=EPILOG)
@click.argument("path", default="flow.yaml", type=click.Path(path_type=Path, dir_okay=False))
def init(path: Path) -> None:
    """Write a first flow to PATH (flow.yaml), and the JSON Schema that editors check it by.

    The schema is one for the whole project, at its root.

    Nothing that exists is overwritten.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{path}: a flow is a YAML file", hint=f"try {path}.yaml")
    if path.exists():
        raise UsageError(f"{path} is there already", hint="name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = Project.find(path.parent.resolve()).root / "flow.schema.json"
    if not schema.exists():
        atomic_write(schema, packaged("flow.schema.json"))
    shown = Path(os.path.relpath(schema, path.parent.resolve())).as_posix()
    text = FLOW.format(name=_name(path.stem), schema=shown)
    atomic_write(path, text.encode())
    click.echo(f"wrote {path}")
    click.echo(f"try: poeflow run {path} --offline", err=True)


def _name(stem: str) -> str:
    """Return a word for the flow: the file's own where that is one in YAML too."""
    return stem if _WORD.fullmatch(stem) and core_value(stem) == stem else "page"
