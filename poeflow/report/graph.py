"""Draws the steps of a flow and their needs, in Mermaid or DOT.

Every label is escaped, so that no text of a flow is read as markup.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from poeflow.redact import visible

NodeKind = Literal["model", "render", "command", "flow"]
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
