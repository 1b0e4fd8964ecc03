"""What an editor asks of a place in a flow: where the thing named there is, and what it is.

Nothing is run or sent.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, Literal

import msgspec

from poeflow.digest import encode_json
from poeflow.errors import PoeflowError
from poeflow.flowfile.model import Flow
from poeflow.flowfile.yaml_tree import Document, KeyPath, Node
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.check import Checkup
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import statuses_of
from poeflow.problems import Place
from poeflow.project.project import FileProblem, Project
from poeflow.records import InstanceStatus, outer_step
from poeflow.redact import visible

NamedKind = Literal["step", "input", "alias", "file"]
_WORD: Final = lazy_pattern(
    r"\b(steps|inputs)(?:\.([a-z_][a-z0-9_]*)|\[['\"]([a-z_][a-z0-9_]*)['\"]\])"
)
_FILE: Final = lazy_pattern(
    r"(?:\b(?:read|include|import|extends|from)\b\s*\(?\s*)(?:\"([^\"\n]+)\"|'([^'\n]+)')"
)
_FILE_KEYS: Final = frozenset({"file", "use", "path"})
_STEP_KEYS: Final = frozenset({"needs", "history"})
_MOST_REASONS: Final = 5
_MARKUP: Final = lazy_pattern(r"[\\`*_\[\]<>&!|~#]")
"""Characters by which a text of a flow would be markup: a picture that the editor fetches, say."""
_TICKS: Final = lazy_pattern("`+")


class NamedThing(msgspec.Struct, frozen=True):
    """A thing that a place of a flow names: a step, an input, an alias, or a file by its path."""

    kind: NamedKind
    name: str


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """Where a thing is: in the flow itself if `file` is empty, else in that file of the project."""

    place: Place
    file: str = ""


def named_at(flow: Flow, document: Document, line: int, column: int) -> NamedThing | None:
    """Return what is named at a place, counted from 1; None if nothing is."""
    lines = document.text.split("\n")
    if not 1 <= line <= len(lines):
        return None
    for first, end, found in _in_text(lines[line - 1]):
        if first <= column - 1 <= end:
            return found
    offset = sum(len(one) + 1 for one in lines[: line - 1]) + column - 1
    path = _path_at(document.root, offset) if document.root is not None else None
    return None if path is None else _in_value(flow, document, path)


def definition_of(found: Checkup, named: NamedThing) -> Definition | None:
    """Return where a thing is, None if it is not there."""
    document = found.loaded.document
    top = {"step": "steps", "input": "inputs", "alias": "models"}
    if named.kind != "file":
        path = (top[named.kind], named.name)
        if document.node(path) is None:
            return None
        place = document.key_place(path)
        return Definition(place=place, file="" if place.path == document.path else place.path)
    file = found.loaded.file or found.loaded.draft
    if file is None:
        return None
    try:
        canonical = found.project.canonical(named.name, relative_to=file.path)
        found.project.real_path(canonical)
    except FileProblem:
        return None
    return Definition(place=Place(canonical), file=canonical)


def explanation(found: Checkup, named: NamedThing, options: RunOptions) -> str:
    """Return what an editor shows of a thing, as Markdown; empty if nothing is known."""
    file = found.loaded.file or found.loaded.draft
    if file is None:
        return ""
    match named.kind:
        case "step":
            return "\n\n".join(_about_step(found, file.flow, named.name, options))
        case "input":
            spec = file.flow.inputs.get(named.name)
            if spec is None:
                return ""
            default = "" if spec.default is msgspec.UNSET else f", default {_json(spec.default)}"
            about = _plain(spec.description)
            return f"**input {named.name}**: {spec.type}{default}\n\n{about}".strip()
        case "alias":
            alias = file.flow.models.get(named.name)
            return "" if alias is None else f"**{named.name}** is the model {_code(alias.model)}"
        case "file":
            target = definition_of(found, named)
            return _code(target.file) if target is not None else f"{_code(named.name)} is not there"


def _about_step(found: Checkup, flow: Flow, name: str, options: RunOptions) -> Iterator[str]:
    """Yield what a step is for, and how current its instances are."""
    step = flow.steps.get(name)
    if step is None:
        return
    yield f"**step {name}**" + (f": {_plain(step.description)}" if step.description else "")
    if found.checked is None or any(one.level == "error" for one in found.problems):
        yield "The flow has mistakes, so its state is not known."
        return
    try:
        statuses = statuses_of(found, options)
    except PoeflowError as error:
        yield f"Its state is not known: {_plain(error.message)}"
        return
    yield from _states([one for one in statuses if outer_step(one.id) == name])


def _states(statuses: list[InstanceStatus]) -> Iterator[str]:
    counts: dict[str, int] = {}
    for one in statuses:
        counts[one.state] = counts.get(one.state, 0) + 1
    if counts:
        yield ", ".join(
            state if len(statuses) == 1 else f"{count:,} {state}" for state, count in counts.items()
        )
    reasons = dict.fromkeys(reason for one in statuses for reason in one.reasons)
    yield "\n".join(f"- {_plain(reason)}" for reason in [*reasons][:_MOST_REASONS])


def _plain(text: str) -> str:
    """Return Markdown that shows a text as it is."""
    return _MARKUP.sub(r"\\\g<0>", visible(text))


def _code(text: str) -> str:
    """Return Markdown that shows a text as code."""
    ticks = "`" * (max(map(len, _TICKS.findall(text)), default=0) + 1)
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{visible(text)}{space}{ticks}"


def _json(value: object) -> str:
    return _code(encode_json(value).decode())


def _in_text(line: str) -> Iterator[tuple[int, int, NamedThing]]:
    """Yield what expressions and templates of a line name, each with its columns."""
    for match in _WORD.finditer(line):
        kind: NamedKind = "step" if match[1] == "steps" else "input"
        yield match.start(), match.end(), NamedThing(kind, match[2] or match[3])
    for match in _FILE.finditer(line):
        yield match.start(), match.end(), NamedThing("file", match[1] or match[2])


def _path_at(node: Node, offset: int, path: KeyPath = ()) -> KeyPath | None:
    """Return the path of the scalar at an offset, or of the entry whose key is there."""
    for name, key in node.keys.items():
        if key.start <= offset <= key.end:
            return (*path, name)
    children: list[tuple[str | int, Node]] = [*node.values.items(), *enumerate(node.items)]
    for step, child in children:
        if child.start <= offset <= child.end and not child.file:
            return _path_at(child, offset, (*path, step))
    return None if node.values or node.items else path


def _in_value(flow: Flow, document: Document, path: KeyPath) -> NamedThing | None:
    """Return what a value, or the name of an entry, names."""
    match path:
        case ("steps", str(name)):
            return NamedThing("step", name)
        case ("inputs", str(name)):
            return NamedThing("input", name)
        case ("models", str(name)):
            return NamedThing("alias", name)
    node = document.node(path)
    value = node.data if node is not None else None
    keys = [part for part in path if isinstance(part, str)]
    if not isinstance(value, str) or not keys:
        return None
    if keys[-1] in _STEP_KEYS and value in flow.steps:
        return NamedThing("step", value)
    if keys[-1] in ("model", "fallback") and value in flow.models:
        return NamedThing("alias", value)
    if keys[-1] in _FILE_KEYS and not re.search(r"[{*?\[]", value):
        return NamedThing("file", value)
    return None


class EditedProject(Project, frozen=True):
    """A project some of whose files are read as an editor has them, saved or not."""

    edits: Mapping[str, bytes] = {}

    def read_bytes(self, canonical: str, *, limit: int) -> bytes:
        """Read a file, as `Project` does; one that is private stays so. Raises `FileProblem`."""
        if canonical not in self.edits:
            return super().read_bytes(canonical, limit=limit)
        self._check_private(canonical, PurePosixPath(canonical[2:]).parts)
        if len(self.edits[canonical]) > limit:
            hint = "make it smaller or split it"
            raise FileProblem(f"{canonical} holds over {limit:,} bytes", hint=hint)
        return self.edits[canonical]
