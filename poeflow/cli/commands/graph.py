"""`poeflow graph`: draw a flow's steps as Mermaid or DOT."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click

from poeflow.cli.checked_flows import show_problems
from poeflow.cli.completing import FLOWS
from poeflow.cli.private_files_options import access_of, allow_file_option, without_keys
from poeflow.cli.targets import flow_target
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.loops import carry_of, continues_itself
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

    Model steps are rounded, renders slanted, used flows doubly framed; steps that run many times
    have a thick border, and an arrow leads back to one that is repeated or carries a value from
    one run to the next. Of a flow with mistakes the valid part is drawn; the exit code is 3.
    """
    found = checkup(*flow_target(flow, access_of(allow_files)))
    faults = errors_only(found.problems)
    show_problems(faults, (found,))
    if found.checked is not None:
        steps = tuple(_steps(found.checked))
        name = found.checked.file.name
        text = drawing.mermaid(steps) if notation == "mermaid" else drawing.dot(name, steps)
        click.echo(inert(without_keys()(text)), nl=False)
    ctx.exit(InvalidFlowError.exit_code if faults else 0)


def _steps(checked: Checked) -> Iterator[drawing.GraphStep]:
    flow = checked.file.flow
    for name, step in flow.steps.items():
        many = _many(step)
        yield drawing.GraphStep(
            name=name,
            kind=step.kind,
            lines=(*_asked(flow, name), *many),
            is_fan_out=bool(many),
            needs=checked.edges.get(name, ()),
            loops=tuple(_loops(flow, name)),
        )


def _loops(flow: Flow, name: str) -> Iterator[str]:
    """Yield what leads from one run of a step to the next: its repeat, or what is carried."""
    step = flow.steps[name]
    if step.repeat is not None:
        until = "nothing in expect fails" if step.repeat.until is None else step.repeat.until
        yield f"{step.repeat.max} times at most, until {until}"
    carry = carry_of(step)
    if carry is not None:
        yield f"carry: {carry}"
    if continues_itself(flow, name):
        yield "history: self"


def _asked(flow: Flow, name: str) -> tuple[str, ...]:
    """Return the model that a step asks, the flow that it uses, or the program that it runs."""
    step = flow.steps[name]
    if step.use is not None:
        return (step.use,)
    if step.command is not None:
        return (" ".join(step.command),)
    if step.call is not None:
        return (step.call,)
    given = model_of(flow, name) if step.kind == "model" else None
    if given is None:
        return ()
    alias = flow.models.get(str(given.value))
    return (alias.model if alias is not None else str(given.value),)


def _many(step: StepSpec) -> tuple[str, ...]:
    """Return a note on what a step runs over, empty if it runs once."""
    if step.matrix is not None:
        return (f"matrix: {', '.join(step.matrix.axes)}",)
    if step.for_each is None:
        return ()
    loop = step.for_each if isinstance(step.for_each, Loop) else Loop(in_=step.for_each)
    over = loop.file or loop.glob or loop.in_
    shown = f"{len(over)} items" if isinstance(over, list) else over
    return (f"for each: {shown}" + (f" by {loop.group_by}" if loop.group_by else ""),)
