"""`poeflow graph`: draw a flow's steps as Mermaid or DOT."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click

from poeflow.cli.commands.check import show
from poeflow.cli.completing import FLOWS
from poeflow.cli.private_files_options import access_of, allow_file_option, without_keys
from poeflow.cli.targets import target_of
from poeflow.flowfile.model import Flow, Loop
from poeflow.flowfile.model import Step as StepSpec
from poeflow.flowfile.step_settings import model_of
from poeflow.operations.check import checkup
from poeflow.planning.checked import Checked
from poeflow.problems import errors_only
from poeflow.report import graph as drawing
from poeflow.report.github_commands import inert

EPILOG: Final = """\b
Examples:
  poeflow graph flows/notes.yaml > notes.mmd
  poeflow graph flows/notes.yaml --format dot | dot -Tsvg > notes.svg
GitHub draws Mermaid in Markdown, between ```mermaid and ```.
"""


@click.command(epilog=EPILOG)
@click.argument("flow", type=click.Path(path_type=Path), shell_complete=FLOWS)
@click.option(
    "--format",
    "notation",
    type=click.Choice(["mermaid", "dot"]),
    default="mermaid",
    show_default=True,
)
@allow_file_option
@click.pass_context
def graph(
    ctx: click.Context,
    flow: Path,
    notation: Literal["mermaid", "dot"],
    allow_files: tuple[Path, ...],
) -> None:
    """Draw the steps of FLOW and what they need of each other.

    Model steps are rounded, renders slanted, used flows doubly framed; what runs many times has a
    thick border. A flow with mistakes is drawn as far as it can be read, and exits with 3.
    """
    target = target_of(flow, access_of(allow_files))
    found = checkup(target.project, target.path, target.shown)
    faults = errors_only(found.problems)
    show(faults, (found,))
    if found.checked is not None:
        steps = tuple(_steps(found.checked))
        name = found.checked.file.name
        text = drawing.mermaid(steps) if notation == "mermaid" else drawing.dot(name, steps)
        click.echo(inert(without_keys()(text)), nl=False)
    ctx.exit(3 if faults else 0)


def _steps(checked: Checked) -> Iterator[drawing.Step]:
    flow = checked.file.flow
    for name, step in flow.steps.items():
        many = _many(step)
        yield drawing.Step(
            name=name,
            kind=step.kind,
            lines=(*_asked(flow, name), *many),
            is_fan_out=bool(many),
            needs=checked.edges.get(name, ()),
        )


def _asked(flow: Flow, name: str) -> tuple[str, ...]:
    """Return the model a step names, or the flow it uses."""
    step = flow.steps[name]
    if step.use is not None:
        return (step.use,)
    given = model_of(flow, name) if step.kind == "model" else None
    if given is None:
        return ()
    alias = flow.models.get(str(given.value))
    return (alias.model if alias is not None else str(given.value),)


def _many(step: StepSpec) -> tuple[str, ...]:
    """Say over what a step runs, nothing where it runs once."""
    if step.matrix is not None:
        return (f"matrix: {', '.join(step.matrix.axes)}",)
    match step.for_each:
        case None:
            return ()
        case str():
            return (f"for each: {step.for_each}",)
        case Loop():
            over = step.for_each.file or step.for_each.in_
        case _:
            over = step.for_each
    return (f"for each: {f'{len(over)} items' if isinstance(over, list) else over}",)
