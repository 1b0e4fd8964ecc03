"""`poeflow graph`: draw a flow's steps as Mermaid or DOT."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import click
import msgspec

from poeflow.cli.completing import FLOWS
from poeflow.cli.output import print_text
from poeflow.cli.private_files_options import access_of, allow_file_option
from poeflow.cli.problem_output import show_problems
from poeflow.cli.targets import flow_target
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.loops import carry_of, continues_itself
from poeflow.flowfile.model import Flow, Loop
from poeflow.flowfile.model import Step as StepSpec
from poeflow.flowfile.step_settings import model_of
from poeflow.operations.check import checkup
from poeflow.planning.checked import Checked
from poeflow.problems import errors_only
from poeflow.redact import visible

EPILOG: Final = """\b
Examples:
  poeflow graph flows/notes.yaml > notes.mmd
  poeflow graph flows/notes.yaml --format dot | dot -Tsvg > notes.svg
GitHub draws Mermaid in Markdown, between ```mermaid and ```.
"""


NodeKind = Literal["model", "render", "command", "flow"]


class GraphStep(msgspec.Struct, frozen=True, kw_only=True):
    """One box: the name of a step, and lines that say what it asks and how often.

    `name` is a step's id, so letters, digits and `_`. `needs` are the names of the steps before it,
    `loops` say what leads from one of its runs to the next: each is an arrow back to it.
    """

    name: str
    kind: NodeKind
    lines: tuple[str, ...] = ()
    is_fan_out: bool = False
    needs: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()


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
        text = mermaid(steps) if notation == "mermaid" else dot(name, steps)
        print_text(text)
    ctx.exit(InvalidFlowError.exit_code if faults else 0)


def _steps(checked: Checked) -> Iterator[GraphStep]:
    flow = checked.file.flow
    for name, step in flow.steps.items():
        many = _many(step)
        yield GraphStep(
            name=name,
            kind=step.kind,
            lines=(*_asked(flow, name), *many),
            is_fan_out=bool(many),
            needs=checked.edges.get(name, ()),
            loops=tuple(_loop_labels(flow, name)),
        )


def _loop_labels(flow: Flow, name: str) -> Iterator[str]:
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


_MERMAID: Final[dict[NodeKind, tuple[str, str]]] = {
    "model": ("(", ")"),
    "render": ("[/", "/]"),
    "command": ("{{", "}}"),
    "flow": ("[[", "]]"),
}
_DOT: Final[dict[NodeKind, str]] = {
    "model": 'shape=box, style="rounded"',
    "render": "shape=parallelogram",
    "command": "shape=hexagon",
    "flow": "shape=box, peripheries=2",
}
_PLAIN: Final = frozenset(" .,_-/")
_LONGEST: Final = 60


def mermaid(steps: tuple[GraphStep, ...]) -> str:
    """Return a Mermaid flowchart, as GitHub shows it: boxes in order, then arrows in order.

    Steps that run many times have a thick border.
    """
    lines = ["flowchart TD"]
    for step in steps:
        opening, closing = _MERMAID[step.kind]
        label = "<br/>".join(_for_mermaid(line) for line in _label(step))
        lines.append(f'  s_{step.name}{opening}"{label}"{closing}')
    lines += [f"  s_{need} --> s_{name}" for need, name in _arrows(steps)]
    lines += [f'  s_{name} -->|"{_for_mermaid(label)}"| s_{name}' for name, label in _loops(steps)]
    wide = [f"s_{step.name}" for step in steps if step.is_fan_out]
    if wide:
        lines += ["  classDef many stroke-width:3px", f"  class {','.join(wide)} many"]
    return "\n".join(lines) + "\n"


def dot(name: str, steps: tuple[GraphStep, ...]) -> str:
    """Return the same as a DOT graph called `name`, for Graphviz."""
    lines = [f"digraph {_for_dot(name)} {{", '  node [fontname="Helvetica"];']
    for step in steps:
        label = _for_dot("\n".join(_label(step)))
        wide = ", penwidth=3" if step.is_fan_out else ""
        lines.append(f'  "{step.name}" [label={label}, {_DOT[step.kind]}{wide}];')
    lines += [f'  "{need}" -> "{name}";' for need, name in _arrows(steps)]
    lines += [f'  "{name}" -> "{name}" [label={_for_dot(one)}];' for name, one in _loops(steps)]
    return "\n".join([*lines, "}"]) + "\n"


def _label(step: GraphStep) -> Iterator[str]:
    yield from map(_flat, (step.name, *step.lines))


def _flat(line: str) -> str:
    """Return a text on one line, cut if it is long."""
    flat = visible(" ".join(line.split()))
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 3]}..."


def _arrows(steps: tuple[GraphStep, ...]) -> Iterator[tuple[str, str]]:
    for step in steps:
        for need in step.needs:
            yield need, step.name


def _loops(steps: tuple[GraphStep, ...]) -> Iterator[tuple[str, str]]:
    """Yield the steps with an arrow back to themselves, each with its label."""
    for step in steps:
        yield from ((step.name, _flat(label)) for label in step.loops)


def _for_mermaid(text: str) -> str:
    """Escape all but letters, digits and a few signs as entities.

    Mermaid reads quotes, directives (`%%{`), Markdown and styles anywhere in a label.
    """
    return "".join(
        character if character.isalnum() or character in _PLAIN else f"#{ord(character)};"
        for character in text
    )


def _for_dot(text: str) -> str:
    r"""Quote a text; backslashes (of which `\N` is one) and entities stay what they are."""
    for sign, escaped in _DOT_ESCAPES.items():
        text = text.replace(sign, escaped)
    return f'"{text}"'


_DOT_ESCAPES: Final[Mapping[str, str]] = {"&": "&amp;", "\\": "\\\\", '"': '\\"', "\n": "\\n"}
