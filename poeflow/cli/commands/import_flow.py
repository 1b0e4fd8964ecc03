"""`poeflow import`: make a flow from the prompt file of another tool."""

import os
from pathlib import Path
from typing import Final

import click

from poeflow.cli.output import say
from poeflow.cli.targets import flow_target
from poeflow.operations.editors.new_flow import schema_for, write_new
from poeflow.operations.imports.import_formats import IMPORT_FORMATS, imported
from poeflow.operations.imports.imported_flow import flow_text

EPILOG: Final = """\b
Examples:
  poeflow import promptfooconfig.yaml evaluation.yaml
  poeflow import prompts/summary.prompty
  poeflow import prompts/menu.prompt flows/menu.yaml
"""


@click.command("import", epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("flow", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--from",
    "name",
    type=click.Choice([*IMPORT_FORMATS]),
    help="The format of SOURCE, if its name and content do not say it.",
)
def import_flow(source: Path, flow: Path | None, *, name: str | None) -> None:
    """Make FLOW from the prompt file of another tool.

    SOURCE is a configuration of promptfoo, a file of Prompty or Dotprompt, or a template of llm.
    FLOW is by default named after it, in its folder. What cannot be taken over is listed, each
    with its place. SOURCE stays as it is, and nothing that exists is overwritten.
    """
    found = flow_target(source)
    target = flow or _beside(source)
    schema = schema_for(target)
    made = imported(found.project, found.path, found.shown, name, os.environ)
    for note in made.notes:
        say(str(note))
    write_new(target, flow_text(made.flow, source.name, schema))
    click.echo(f"wrote {target}")
    say(f"try: poeflow run {target} --offline")


def _beside(source: Path) -> Path:
    """Return the path of a flow beside a file, with another name than that."""
    plain = source.with_suffix(".yaml")
    return source.with_suffix(".flow.yaml") if plain == source else plain
