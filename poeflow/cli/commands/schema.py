"""`poeflow schema`: print the JSON Schema of flow files."""

from typing import Final

import click

from poeflow.project.project import packaged

EPILOG: Final = """\b
Examples:
  poeflow schema > flow.schema.json
"""


@click.command(epilog=EPILOG)
@click.option("--project", is_flag=True, help="That of poeflow.toml, which builds on it.")
def schema(*, project: bool) -> None:
    """Print the JSON Schema of flow files.

    Point an editor at it, or save it: poeflow schema > flow.schema.json
    """
    name = "project.schema.json" if project else "flow.schema.json"
    click.echo(packaged(name).decode(), nl=False)
