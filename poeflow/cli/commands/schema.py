"""`poeflow schema`: print the JSON Schema of flow files."""

import click

from poeflow.files import schemas_folder


@click.command()
def schema() -> None:
    """Print the JSON Schema of flow files.

    Point an editor at it, or save it: poeflow schema > flow.schema.json
    """
    click.echo((schemas_folder() / "flow.schema.json").read_text("utf-8"), nl=False)
