"""The facts that decide the results of a step, by name, and which of them two revisions differ in.

A fact is what a reviewer would look at: the prompt, the model, a parameter, an input, a file.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Final

import msgspec

from poeflow.digest import Json, sha256_of
from poeflow.flowfile.key_marks import decisions
from poeflow.flowfile.model import Flow, Output, Step
from poeflow.flowfile.step_settings import (
    Settings,
    fallback_settings,
    is_asking,
    judge_settings,
    judges_of,
    model_of,
    settings_of,
)
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.opener import NotTextError, text_of
from poeflow.operations.revisions.flow_reads import FileRead
from poeflow.operations.revisions.sides import FlowSide, content_at
from poeflow.problems import Place
from poeflow.project.attachment_files import MAX_FILE_BYTES
from poeflow.project.globs import is_pattern, matches
from poeflow.project.project import FileProblem, Project
from poeflow.settings import POE_PROVIDER
from poeflow.store.revisions.comparisons import Cause, CauseKind
from poeflow.templates.sites import has_template

MAX_TEXT: Final = 256 * 1024
"""Bytes of a text that is compared word by word."""
_PROSE: Final = frozenset({"prompt", "messages", "render", "stdin"})
_BY_SETTINGS: Final = frozenset({"model", "provider", "params", "extra_body", "system"})
_JUDGING: Final = frozenset({"expect", "repeat", "samples"})
_NO_CAUSE: Final = frozenset({"run", "nothing"})

Name = tuple[CauseKind, str]


class Fact(msgspec.Struct, frozen=True):
    """A fact: its text, None if it is none, the hash of its content, and the place of a line."""

    text: str | None
    digest: str
    place: Callable[[int], Place]


def causes_between(old: FlowSide | None, new: FlowSide | None, step: str) -> Iterator[Cause]:
    """Yield what decides a step's results and differs between two revisions.

    Inputs count if they are known of both.
    """
    before = dict(_facts(old, step)) if old is not None else {}
    after = dict(_facts(new, step)) if new is not None else {}
    is_known = all(side is not None and side.inputs is not None for side in (old, new))
    for kind, name in {**after, **before}:
        if kind == "input" and not is_known:
            continue
        one, other = before.get((kind, name)), after.get((kind, name))
        if one is not None and other is not None and one.digest == other.digest:
            continue
        shown = other or one
        old_text, new_text = (fact.text if fact is not None else None for fact in (one, other))
        line = _first_change(old_text or "", new_text or "")
        place = shown.place(line) if shown is not None else Place("")
        yield Cause(
            kind=kind,
            name=name,
            place=f"{place.path}:{place.line}",
            old=old_text,
            new=new_text,
        )


def _first_change(old: str, new: str) -> int:
    """Return the number of the first line that differs, from 0."""
    pairs = enumerate(zip_longest(old.split("\n"), new.split("\n")))
    return next((at for at, (one, other) in pairs if one != other), 0)


def _facts(side: FlowSide, step: str) -> Iterator[tuple[Name, Fact]]:
    flow = side.file.flow
    spec = flow.steps.get(step)
    if spec is None:
        return
    yield from _written(side, step)
    if is_asking(spec):
        yield from _settings(side, step)
    yield from _inputs(side, step)
    yield from _files(side, step)


def _written(side: FlowSide, step: str) -> Iterator[tuple[Name, Fact]]:
    """Yield the facts in the keys of a step and of its `output`."""
    node = side.file.document.node(("steps", step))
    for key, decides in decisions(Step).items():
        if key in _BY_SETTINGS or decides.what in _NO_CAUSE:
            continue
        if node is not None and key in node.values:
            kind: CauseKind = "prompt" if key in _PROSE else "setting"
            kind = "expectation" if key in _JUDGING else kind
            yield (kind, key), _at(side, ("steps", step, key))
    output = node.values.get("output") if node is not None else None
    for key, decides in decisions(Output).items():
        if output is not None and key in output.values:
            kind = "setting" if decides.what == "files" else "expectation"
            yield (kind, f"output.{key}"), _at(side, ("steps", step, "output", key))


def _settings(side: FlowSide, step: str) -> Iterator[tuple[Name, Fact]]:
    """Yield the facts that defaults and aliases decide, too: for fallbacks and judges as well."""
    flow = side.file.flow
    spec, given, judges = flow.steps[step], model_of(flow, step), judges_of(flow.steps[step])
    named = str(given.value) if given is not None else ""
    settings = settings_of(flow, step, named=named)
    if spec.kind == "model" or any(judge.model is None for judge in judges):
        written = given.path if given is not None else ()
        yield from _of_model(side, settings, "", written)
        for alias in _meant_by(flow, named):
            yield from _of_model(side, settings_of(flow, step, named=alias), alias, written)
    for name in settings.fallback if spec.kind == "model" else ():
        found = fallback_settings(flow, step, name, settings)
        found = msgspec.structs.replace(found, system=None)  # the one of the step
        yield from _of_model(side, found, f"fallback {name}", ("steps", step, "fallback"))
    for judge in judges:
        for name in (judge.model, *_meant_by(flow, judge.model)) if judge.model else ():
            found = judge_settings(flow, name, settings)
            if judge.system is not None:
                found = msgspec.structs.replace(found, system=None)
            yield from _of_model(side, found, f"judge {name}", ("steps", step, "expect"))


def _meant_by(flow: Flow, named: str) -> Iterable[str]:
    """Return the aliases that a template for the name of a model may mean."""
    return flow.models if has_template(named) else ()


def _of_model(
    side: FlowSide, settings: Settings, role: str, written: KeyPath
) -> Iterator[tuple[Name, Fact]]:
    """Yield the facts of a model. With a `role` they are those of its alias alone."""
    document = side.file.document
    if settings.model:
        provider = "" if settings.provider == POE_PROVIDER else f" at {settings.provider}"
        path = ("models", settings.named) if settings.named in side.file.flow.models else written
        fact = _fact(f"{settings.model}{provider}", document.place(path))
        yield ("model", role or "model"), fact
    for prefix, layer in (("", settings.params), ("extra_body.", settings.extra_body)):
        for name, one in layer.items():
            if not role or one.path[0] == "models":
                spelled = json.dumps(one.value, ensure_ascii=False)
                named = f"{role} {prefix}{name}".lstrip()
                yield ("parameter", named), _fact(spelled, document.place(one.path))
    system = settings.system
    if system is not None and (not role or system[0] == "models"):
        yield ("prompt", f"{role} system".lstrip()), _at(side, system)


def _inputs(side: FlowSide, step: str) -> Iterator[tuple[Name, Fact]]:
    checked = side.found.checked
    used = checked.uses[step].inputs if checked is not None and step in checked.uses else ()
    for name in sorted(used):
        if side.inputs is not None and name in side.inputs:
            place = side.file.document.key_place(("inputs", name))
            yield ("input", name), _fact(_spelled(side.inputs[name]), place)


def _files(side: FlowSide, step: str) -> Iterator[tuple[Name, Fact]]:
    for read in side.reads:
        is_own = read.step == step or read.step.startswith(f"{step}/")
        is_shared = not read.step and _concerns(read, side.file.flow, step)
        if is_own or is_shared:
            for path in _matched(side.project, read.path):
                fact = _file(side.project, path)
                if fact is not None:
                    yield ("file", path[2:]), fact


def _concerns(read: FileRead, flow: Flow, step: str) -> bool:
    """Return whether a step depends on a file that no step names: one of the defaults."""
    if flow.steps[step].kind != "model" or not read.why.startswith("defaults."):
        return False
    given = model_of(flow, step)
    system = settings_of(flow, step, named=str(given.value) if given is not None else "").system
    return read.why != "defaults.system" or system == ("defaults", "system")


def _matched(project: Project, path: str) -> list[str]:
    if not is_pattern(path):
        return [path]
    try:
        return matches(project, path)
    except FileProblem:
        return []


def _file(project: Project, path: str) -> Fact | None:
    data = content_at(project, path, limit=MAX_FILE_BYTES)
    return (
        None if data is None else Fact(comparable_text(data), sha256_of(data), _lines_of(path[2:]))
    )


def comparable_text(data: bytes) -> str | None:
    """Return the text of a file, None if it is binary or too long to be compared."""
    try:
        return text_of(data) if len(data) <= MAX_TEXT and b"\0" not in data else None
    except NotTextError:
        return None


def _lines_of(shown: str) -> Callable[[int], Place]:
    return lambda line: Place(shown, line + 1)


def _at(side: FlowSide, path: KeyPath) -> Fact:
    """Return the fact at a place of the flow file."""
    document = side.file.document
    node = document.node(path)
    data: Json = node.data if node is not None else None
    text, locate = _spelled(data), document.locator(path)

    def place(line: int) -> Place:
        lines = text.split("\n")[:line]
        return locate(sum(len(one) + 1 for one in lines))

    return Fact(text, sha256_of(text.encode("utf-8", "surrogatepass")), place)


def _fact(text: str, place: Place) -> Fact:
    return Fact(text, sha256_of(text.encode("utf-8", "surrogatepass")), lambda _line: place)


def _spelled(value: Json) -> str:
    """Return a value as text: strings as they are, others as JSON for people."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
