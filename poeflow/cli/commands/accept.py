"""`poeflow accept`: keep files that were edited by hand as they are."""

from pathlib import Path

import click

from poeflow.cli.targets import target_of
from poeflow.wiring.accepting import accepted


@click.command()
@click.argument("flow", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
def accept(flow: Path, paths: tuple[Path, ...]) -> None:
    """Keep the flow's output files as they are now, edited or not: all, or those named.

    The lock takes them for what the flow made, until a step's answer is another one.
    """
    target = target_of(flow)
    found = accepted(target.project, target.path, [path.resolve() for path in paths])
    for path in found:
        click.echo(f"accepted {path}", err=True)
    if not found:
        click.echo("nothing was edited", err=True)
