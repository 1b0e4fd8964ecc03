"""`poeflow schema`: print the JSON Schema of flow files, or of what poeflow writes."""

from typing import Final

import click

from poeflow.errors import UsageError
from poeflow.flowfile.project_settings import SCHEMA as PROJECT_SCHEMA
from poeflow.flowfile.schema import FLOW_SCHEMA
from poeflow.operations.editors.editor_schema import schema_text
from poeflow.project.project import packaged, schemas_folder
from poeflow.simulator.script import SCHEMA as SCRIPT_SCHEMA

_EVENTS: Final = "events.schema.json"
EPILOG: Final = """\b
Examples:
  poeflow schema > flow.schema.json
  poeflow schema --events > events.schema.json
"""


@click.command(epilog=EPILOG)
@click.option("--project", is_flag=True, help="That of poeflow.toml, which builds on it.")
@click.option("--events", is_flag=True, help="That of a line of `run --output jsonl`.")
@click.option("--script", is_flag=True, help="That of a script for `simulate --script`.")
def schema(*, project: bool, events: bool, script: bool) -> None:
    """Print the JSON Schema of flow files.

    Point an editor at it, or save it: poeflow schema > flow.schema.json. It has descriptions in
    Markdown and snippets, for editors that know them.
    """
    flags = {"--project": project, "--events": events, "--script": script}
    given = [name for name, is_given in flags.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are several things", hint="give one of them")
    if events:
        text = packaged(schemas_folder() / _EVENTS).decode()
    else:
        text = schema_text(PROJECT_SCHEMA if project else SCRIPT_SCHEMA if script else FLOW_SCHEMA)
    click.echo(text, nl=False)
