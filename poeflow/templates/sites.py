"""Every template of a flow by its place, and rendering by place."""

import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.templates.environment import Environment
from poeflow.templates.reader import Origin, Reader
from poeflow.templates.render import Values, evaluate, render, render_path, render_value

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


_OPENING: Final = re.compile(r"\{[{%#]")


def has_template(text: str) -> bool:
    """Whether a text holds what begins a template."""
    return _OPENING.search(text) is not None


class Texts:
    """Renders any template of `file`. One render pass: what values hold is never a template."""

    def __init__(self, file: FlowFile, reader: Reader, environment: Environment) -> None:
        self._file = file
        self._reader = reader
        self._environment = environment
        self._sites = {site.path: site for site in sites_of(file)}

    @property
    def reader(self) -> Reader:
        return self._reader

    def release(self) -> None:
        """Let renderings take their time from now on, and files be written: a run asks models.

        Each rendering keeps its own bounds.
        """
        self._environment.allowance.is_free = True
        self._reader.unsettle()

    def prose(self, path: KeyPath, values: Values) -> str:
        """Render the text at `path`, or the file it names. Raises `TemplateError`."""
        site = self._sites.get((*path, "file")) or self._sites[path]
        text, origin = self._text(site)
        return text if site.raw else render(self._environment, text, origin, values)

    def value(self, path: KeyPath, written: Json, values: Values) -> Json:
        """Render every template below a free value; one that is all expression keeps its type."""
        if isinstance(written, dict):
            return {key: self.value((*path, key), part, values) for key, part in written.items()}
        if isinstance(written, list):
            return [self.value((*path, i), part, values) for i, part in enumerate(written)]
        site = self._sites.get(path)
        if site is None or not isinstance(written, str):
            return written
        text, origin = self._text(site)
        return render_value(self._environment, text, origin, values)

    def expression(self, path: KeyPath, values: Values) -> Json:
        """Return the value of the bare expression at `path`. Raises `TemplateError`."""
        text, origin = self._text(self._sites[path])
        return evaluate(self._environment, text, origin, values)

    def path(self, path: KeyPath, values: Values) -> str:
        """Render a file's path: what each expression gives is one safe segment of it."""
        text, origin = self._text(self._sites[path])
        return render_path(self._environment, text, origin, values)

    def _text(self, site: Site) -> tuple[str, Origin]:
        return text_of(self._reader, self._file, site)


def as_text(value: Json, what: str) -> str:
    """Return a rendered value that must be text. Raises `StepError` naming `what`."""
    if isinstance(value, str):
        return value
    raise StepError(f"{what} must be text, not {value!r}", hint="check the template's value")
