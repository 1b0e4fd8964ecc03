"""Every text in a flow that is a template, with where it stands and what it may see."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.tree import KeyPath
from poeflow.templates.origin import Origin
from poeflow.templates.reader import Reader

Use = Literal["text", "expression", "path", "value"]
Stage = Literal["shared", "step", "instance", "answer"]


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A template: `path` is its place in the flow file, `step` the step it belongs to.

    `file` is set where the text stands in a file of its own, as written there; `raw` where that
    file is no template. `early` marks what must be known before any answer: its values come from
    inputs and items only. `stage` tells what it sees: settings shared by steps no more than inputs,
    a step's loop the other steps, an instance its item too, a check of the answer also `output`.
    """

    path: KeyPath
    step: str | None
    use: Use
    text: str = ""
    file: str | None = None
    raw: bool = False
    early: bool = False
    stage: Stage = "instance"


def sites_of(file: FlowFile) -> Iterator[Site]:
    """Yield the sites of a flow: shared settings first, then steps and outputs."""
    for key in ("system", "model", "params", "extra_body"):
        yield from _shared(file, ("defaults", key))
    for name in file.flow.models:
        for key in ("model", "params", "extra_body"):
            yield from _shared(file, ("models", name, key))
    for name in file.flow.steps:
        yield from step_sites(file, name)
    for name in file.flow.outputs:
        yield from _values(file, ("outputs", name), None)


def text_of(reader: Reader, file: FlowFile, site: Site) -> tuple[str, Origin]:
    """Return a site's text and where its characters stand. Raises `FileProblem`."""
    if site.file is None:
        return site.text, Origin(path=file.path, locate=file.document.locator(site.path))
    path, text = reader.source(site.file, relative_to=file.path)
    return text, Origin.for_file(path, text, shown=reader.shown(path))


def _shared(file: FlowFile, path: KeyPath) -> Iterator[Site]:
    """Yield sites outside any step: they serve many, so they cannot wait for one."""
    found = _prose(file, path, None) if path[-1] == "system" else _values(file, path, None)
    for site in found:
        yield msgspec.structs.replace(site, early=True, stage="shared")


def step_sites(file: FlowFile, step: str) -> Iterator[Site]:
    """Yield the sites of one step."""
    node = file.document.node(("steps", step))
    path: KeyPath = ("steps", step)
    for key in node.keys if node is not None else ():
        match key:
            case "prompt" | "system" | "render":
                yield from _prose(file, (*path, key), step)
            case "messages":
                yield from _messages(file, (*path, key), step)
            case "attachments":
                yield from _attachments(file, (*path, key), step)
            case "params" | "extra_body":
                yield from _values(file, (*path, key), step)
            case "model" | "use":
                yield from _text(file, (*path, key), step, "text", early=True)
            case "with":
                yield from _values(file, (*path, key), step)
            case "output":
                yield from _text(file, (*path, key, "save"), step, "path")
                yield from _text(file, (*path, key, "media"), step, "path")
            case "if":
                yield from _text(file, (*path, key), step, "expression")
            case "for_each" | "matrix":
                yield from _loop(file, (*path, key), step)
            case "expect":
                yield from _expectations(file, (*path, key), step)


def _loop(file: FlowFile, path: KeyPath, step: str) -> Iterator[Site]:
    """Yield what a step runs over; the key of an item is the only text that sees the item."""
    for source in ((), ("in",)) if path[-1] == "for_each" else ():
        yield from _items_of(file, (*path, *source), step)
    axes = file.document.node((*path, "axes"))
    for name in axes.values if axes is not None else ():
        yield from _items_of(file, (*path, "axes", name), step)
    for key in ("include", "exclude"):
        for site in _values(file, (*path, key), step):
            yield msgspec.structs.replace(site, stage="step")
    yield from _text(file, (*path, "key"), step, "expression")


def _items_of(file: FlowFile, path: KeyPath, step: str) -> Iterator[Site]:
    """Yield the sites of a list, an expression that gives one, or the name of a file with one."""
    node = file.document.node(path)
    is_list = node is not None and bool(node.items)
    found = _values(file, path, step) if is_list else _text(file, path, step, "expression")
    named = _text(file, (*path, "file"), step, "text", early=True)
    for site in (*found, *named):
        yield msgspec.structs.replace(site, stage="step")


def _expectations(file: FlowFile, path: KeyPath, step: str) -> Iterator[Site]:
    node = file.document.node(path)
    for index in range(len(node.items) if node is not None else 0):
        own = (*path, index)
        found = [
            *_text(file, (*own, "that"), step, "expression"),
            *_prose(file, (*own, "judge", "rubric"), step),
            *_text(file, (*own, "judge", "model"), step, "text", early=True),
        ]
        for key in ("contains", "not_contains", "equals", "matches"):
            found += _values(file, (*own, key), step)
        yield from (msgspec.structs.replace(site, stage="answer") for site in found)


def _text(
    file: FlowFile, path: KeyPath, step: str | None, use: Use, *, early: bool = False
) -> Iterator[Site]:
    node = file.document.node(path)
    if node is not None and isinstance(node.data, str):
        yield Site(path=path, step=step, use=use, text=node.data, early=early)


def _prose(file: FlowFile, path: KeyPath, step: str | None) -> Iterator[Site]:
    node = file.document.node(path)
    if node is not None and isinstance(node.data, dict):
        name, raw = node.data.get("file"), node.data.get("raw") is True
        yield Site(path=(*path, "file"), step=step, use="text", file=str(name), raw=raw)
    else:
        yield from _text(file, path, step, "text")


def _messages(file: FlowFile, path: KeyPath, step: str) -> Iterator[Site]:
    node = file.document.node(path)
    for index, _ in enumerate(node.items if node is not None else ()):
        few_shot = (*path, index, "few_shot")
        yield from _text(file, few_shot, step, "expression")
        yield from _text(file, (*few_shot, "file"), step, "text", early=True)
        yield from _values(file, (*path, index, "tool_calls"), step)
        for key in ("name", "tool_call_id"):
            yield from _text(file, (*path, index, key), step, "text")
        content = (*path, index, "content")
        parts = file.document.node(content)
        if parts is None or not parts.items:
            yield from _prose(file, content, step)
            continue
        for position in range(len(parts.items)):
            yield from _text(file, (*content, position, "text"), step, "text")
            yield from _attachment(file, (*content, position, "attach"), step)


def _attachments(file: FlowFile, path: KeyPath, step: str) -> Iterator[Site]:
    node = file.document.node(path)
    for index in range(len(node.items) if node is not None else 0):
        yield from _attachment(file, (*path, index), step)


def _attachment(file: FlowFile, path: KeyPath, step: str) -> Iterator[Site]:
    yield from _text(file, path, step, "text", early=True)
    for key in ("path", "url"):
        yield from _text(file, (*path, key), step, "text", early=True)
    yield from _text(file, (*path, "name"), step, "text")
    yield from _text(file, (*path, "from"), step, "expression")


def _values(file: FlowFile, path: KeyPath, step: str | None) -> Iterator[Site]:
    """Yield every string that holds a template below a free value."""
    node = file.document.node(path)
    if node is None:
        return
    if isinstance(node.data, str) and "{" in node.data:
        yield Site(path=path, step=step, use="value", text=node.data)
    for key in node.values:
        yield from _values(file, (*path, key), step)
    for index in range(len(node.items)):
        yield from _values(file, (*path, index), step)
