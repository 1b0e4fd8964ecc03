"""Finds every template of a flow by its place, and renders it by place."""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.errors import StepError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.key_marks import templates_of
from poeflow.flowfile.model import Expectation
from poeflow.flowfile.yaml_tree import KeyPath, Node
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Problem
from poeflow.templates.environment import Environment
from poeflow.templates.reader import Origin, Reader
from poeflow.templates.render import (
    NoNumberError,
    TemplateError,
    Values,
    as_template,
    compared,
    evaluate,
    render,
    render_path,
    render_value,
)
from poeflow.templates.scopes import Reference
from poeflow.templates.template_errors import ONE_PATH
from poeflow.templates.threads import format_fault, with_form

Use = Literal["text", "expression", "path", "value"]
Stage = Literal["shared", "form", "step", "instance", "answer"]


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A template; `path` is its place in the flow file, `step` the step it belongs to.

    `file` is the file name as written if the text is in a file; `raw` if that file is not a
    template. `early` if it must be known before any answer, so that it uses only inputs and items.
    `stage` decides which names it can use: shared settings and the form of an answer only inputs,
    a step's loop also other steps, an instance also its item, a check of the answer also `output`.
    """

    path: KeyPath
    step: str | None
    use: Use
    text: str = ""
    file: str | None = None
    raw: bool = False
    early: bool = False
    stage: Stage = "instance"

    def file_hint(self, path: str) -> str:
        """Return how its text is taken from the file at `path`."""
        return f"write {self.path[-1]}: {with_form(path)}"

    def format_fault(self, text: str) -> tuple[str, str] | None:
        """Return a message and a hint if another tool would not send all of its text."""
        return None if self.file is None else format_fault(text, self.file)


class TemplateFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What one template uses and what is wrong with it.

    `files` are canonical paths: its own, if it has one, and those it names literally; `globs` are
    canonical patterns. `varies` if it uses a name that differs from instance to instance,
    `is_late` if it uses a step or something that comes from one, `is_open` if it includes a file
    that is known only in a run and may use any input. `names_file` if a template names its file,
    and `is_unknown` if only a run knows all that this may be.
    """

    site: Site
    references: tuple[Reference, ...] = ()
    files: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    is_late: bool = False
    is_open: bool = False
    names_file: bool = False
    is_unknown: bool = False

    @property
    def varies(self) -> bool:
        return any(r.kind == "name" and r.name != "flow" for r in self.references)


def sites_of(file: FlowFile) -> Iterator[Site]:
    """Yield the sites of a flow: shared settings first, then steps and outputs."""
    for key in ("system", "model", "params", "extra_body"):
        yield from _shared(file, ("defaults", key))
    for name in file.flow.models:
        for key in ("system", "model", "params", "extra_body"):
            yield from _shared(file, ("models", name, key))
    for name in file.flow.steps:
        yield from step_sites(file, name)
    for name in file.flow.outputs:
        path = ("outputs", name)
        yield from _values(file.document.node(path), path, None)


def name_site(site: Site) -> Site | None:
    """Return the site of the template that names the file of a site, None if none does."""
    if site.file is None or not has_template(site.file):
        return None
    return msgspec.structs.replace(site, text=site.file, file=None, raw=False, early=True)


def site_text(reader: Reader, file: FlowFile, site: Site) -> tuple[str, Origin]:
    """Return a site's text and its origin. Raises `FileProblem`."""
    if site.file is None:
        return site.text, Origin(path=file.path, locate=file.document.locator(site.path))
    path, text = reader.source(site.file, relative_to=file.path)
    return text, Origin.for_file(path, text, shown=reader.shown(path))


def _shared(file: FlowFile, path: KeyPath) -> Iterator[Site]:
    """Yield sites outside steps: several steps use them, so they cannot depend on one."""
    node = file.document.node(path)
    found = _prose(node, path, None) if path[-1] == "system" else _values(node, path, None)
    for site in found:
        yield msgspec.structs.replace(site, early=True, stage="shared")


def step_sites(file: FlowFile, step: str) -> Iterator[Site]:
    """Yield the sites of one step."""
    own: KeyPath = ("steps", step)
    owner = file.document.node(own)
    nodes = owner.values if owner is not None else {}
    for key in owner.keys if owner is not None else ():
        node, path = nodes[key], (*own, key)
        match key:
            case "prompt" | "system" | "render" | "stdin":
                yield from _prose(node, path, step)
            case "messages":
                yield from _messages(node, path, step)
            case "attachments":
                yield from _attachments(node, path, step)
            case "params" | "extra_body" | "with":
                yield from _values(node, path, step)
            case "model" | "use":
                yield from _text(node, path, step, "text", early=True)
            case "command":
                yield from _listed(node, path, step)
            case "reads":
                yield from _listed(node, path, step, early=True)
            case "output":
                yield from _output(node, path, step)
            case "if":
                yield from _text(node, path, step, "expression")
            case "for_each" | "matrix":
                yield from _loop(node, path, step)
            case "repeat":
                for site in _text(node.child("until"), (*path, "until"), step, "expression"):
                    yield msgspec.structs.replace(site, stage="answer")
            case "expect":
                yield from _expectations(node, path, step)


def _below(node: Node | None, *steps: str | int) -> Node | None:
    """Return what is below a node at some keys and indexes, None if there is nothing."""
    for step in steps:
        node = None if node is None else node.child(step)
    return node


def _output(node: Node, path: KeyPath, step: str) -> Iterator[Site]:
    keys = node.values
    for name in ("save", "media"):
        if name in keys:
            yield from _text(keys[name], (*path, name), step, "path")
    if "one_of" in keys:
        for site in _text(keys["one_of"], (*path, "one_of"), step, "value", early=True):
            yield msgspec.structs.replace(site, stage="form")
    if "schema" in keys:
        yield from _expressions(keys["schema"], (*path, "schema"), step)


def _loop(node: Node, path: KeyPath, step: str) -> Iterator[Site]:
    """Yield the sites of a step's loop; only what names or chooses items can use one."""
    for source in ((), ("in",)) if path[-1] == "for_each" else ():
        yield from _items_of(_below(node, *source), (*path, *source), step)
    axes = node.child("axes")
    for name, axis in axes.values.items() if axes is not None else ():
        yield from _items_of(axis, (*path, "axes", name), step)
    for key in ("include", "exclude"):
        for site in _values(node.child(key), (*path, key), step):
            yield msgspec.structs.replace(site, stage="step")
    for key in ("key", "where", "group_by", "carry"):
        yield from _text(node.child(key), (*path, key), step, "expression")
    for key in ("glob", "limit", "sample"):
        for site in _text(node.child(key), (*path, key), step, "text", early=True):
            yield msgspec.structs.replace(site, stage="step")


def _items_of(node: Node | None, path: KeyPath, step: str) -> Iterator[Site]:
    """Yield the sites of a list, of an expression for a list, or of the name of a file."""
    is_list = node is not None and bool(node.items)
    found = _values(node, path, step) if is_list else _text(node, path, step, "expression")
    named = _text(_below(node, "file"), (*path, "file"), step, "text", early=True)
    for site in (*found, *named):
        yield msgspec.structs.replace(site, stage="step")


def _expectations(node: Node, path: KeyPath, step: str) -> Iterator[Site]:
    for index, one in enumerate(node.items):
        own = (*path, index)
        judge = one.child("judge")
        found = [
            *_prose(_below(judge, "rubric"), (*own, "judge", "rubric"), step),
            *_prose(_below(judge, "system"), (*own, "judge", "system"), step),
            *_text(_below(judge, "model"), (*own, "judge", "model"), step, "text", early=True),
        ]
        rubrics = _below(judge, "rubrics")
        for name, rubric in rubrics.values.items() if rubrics is not None else ():
            found += _prose(rubric, (*own, "judge", "rubrics", name), step)
        for key, renders in templates_of(Expectation).items():
            is_truth = renders.to == "truth"
            value, at = one.child(key), (*own, key)
            found += _text(value, at, step, "expression") if is_truth else _values(value, at, step)
        yield from (msgspec.structs.replace(site, stage="answer") for site in found)
        yield from _expressions(one.child("json_schema"), (*own, "json_schema"), step)


def _text(
    node: Node | None, path: KeyPath, step: str | None, use: Use, *, early: bool = False
) -> Iterator[Site]:
    if node is not None and isinstance(node.data, str):
        yield Site(path=path, step=step, use=use, text=node.data, early=early)


def _listed(node: Node, path: KeyPath, step: str, *, early: bool = False) -> Iterator[Site]:
    """Yield every text of a list."""
    for index, one in enumerate(node.items):
        yield from _text(one, (*path, index), step, "text", early=early)


def _prose(node: Node | None, path: KeyPath, step: str | None) -> Iterator[Site]:
    if node is not None and isinstance(node.data, dict):
        name, raw = node.data.get("file"), node.data.get("raw") is True
        yield Site(path=(*path, "file"), step=step, use="text", file=str(name), raw=raw)
    elif node is not None and isinstance(node.data, str):
        yield Site(path=path, step=step, use="text", text=node.data)


def _messages(node: Node, path: KeyPath, step: str) -> Iterator[Site]:
    yield from _text(node, path, step, "expression")
    yield from _text(node.child("file"), (*path, "file"), step, "text", early=True)
    for index, message in enumerate(node.items):
        few_shot, at = message.child("few_shot"), (*path, index, "few_shot")
        yield from _text(few_shot, at, step, "expression")
        yield from _text(_below(few_shot, "file"), (*at, "file"), step, "text", early=True)
        yield from _values(message.child("tool_calls"), (*path, index, "tool_calls"), step)
        for key in ("name", "tool_call_id"):
            yield from _text(message.child(key), (*path, index, key), step, "text")
        parts, content = message.child("content"), (*path, index, "content")
        if parts is None or not parts.items:
            yield from _prose(parts, content, step)
            continue
        for position, part in enumerate(parts.items):
            yield from _text(part.child("text"), (*content, position, "text"), step, "text")
            yield from _attachment(part.child("attach"), (*content, position, "attach"), step)


def _attachments(node: Node, path: KeyPath, step: str) -> Iterator[Site]:
    for index, one in enumerate(node.items):
        yield from _attachment(one, (*path, index), step)


def _attachment(node: Node | None, path: KeyPath, step: str) -> Iterator[Site]:
    yield from _text(node, path, step, "text", early=True)
    for key in ("path", "url"):
        yield from _text(_below(node, key), (*path, key), step, "text", early=True)
    yield from _text(_below(node, "name"), (*path, "name"), step, "text")
    yield from _text(_below(node, "from"), (*path, "from"), step, "expression")


def _values(node: Node | None, path: KeyPath, step: str | None) -> Iterator[Site]:
    """Yield every string with a template at any depth of a value."""
    if node is None:
        return
    if isinstance(node.data, str) and "{" in node.data:
        yield Site(path=path, step=step, use="value", text=node.data)
    for key, one in node.values.items():
        yield from _values(one, (*path, key), step)
    for index, one in enumerate(node.items):
        yield from _values(one, (*path, index), step)


_EXPRESSION: Final = lazy_pattern(r"\s*\{\{[^{}]*\binputs\b[^{}]*\}\}\s*")


def _expressions(node: Node | None, path: KeyPath, step: str) -> Iterator[Site]:
    """Yield every string of a schema that is one expression over inputs; others are texts."""
    for site in _values(node, path, step):
        if _EXPRESSION.fullmatch(site.text):
            yield msgspec.structs.replace(site, early=True, stage="form")


_OPENING: Final = lazy_pattern(r"\{[{%#]")


def has_template(text: str) -> bool:
    """Return whether a text contains the beginning of a template."""
    return _OPENING.search(text) is not None


class Texts:
    """Renders the templates of `file` in one pass: rendered values are never templates."""

    def __init__(self, file: FlowFile, reader: Reader, environment: Environment) -> None:
        self._file = file
        self._reader = reader
        self._environment = environment
        self._sites = {site.path: site for site in sites_of(file)}
        self._own: dict[KeyPath, tuple[str, Origin]] = {}
        self._expressions: dict[KeyPath, tuple[str, Origin]] = {}

    @property
    def reader(self) -> Reader:
        return self._reader

    def begin_run(self) -> None:
        """Lift the limits that all renderings share, and let patterns find what the run writes.

        Each rendering keeps its own limits.
        """
        self._environment.allowance.is_unlimited = True
        self._reader.stop_caching_patterns()

    def prose(self, path: KeyPath, values: Values) -> str:
        """Render the text at `path`, or the file it names. Raises `TemplateError`."""
        site = self._sites.get((*path, "file")) or self._sites[path]
        if site.file is not None:
            site = msgspec.structs.replace(site, file=self.file_name(site.path, values))
        text, origin = self._text(site)
        return text if site.raw else render(self._environment, text, origin, values)

    def file_name(self, path: KeyPath, values: Values) -> str:
        """Return the name of a file as it is written at `path`, rendered if it is a template."""
        site = self._sites[path]
        named = name_site(site)
        if named is None:
            return str(site.file)
        return render(self._environment, *self._text(named), values)

    def value(self, path: KeyPath, written: Json, values: Values) -> Json:
        """Render every template in a value; one that is exactly one expression keeps its type."""
        if isinstance(written, dict):
            return {key: self.value((*path, key), part, values) for key, part in written.items()}
        if isinstance(written, list):
            return [self.value((*path, i), part, values) for i, part in enumerate(written)]
        site = self._sites.get(path)
        if site is None or not isinstance(written, str):
            return written
        text, origin = self._text(site)
        return render_value(self._environment, text, origin, values)

    def text(self, path: KeyPath, written: str, values: Values, *, hint: str) -> str:
        """Render a text in which a template must not leave a blank one: `hint` says what to do.

        Any text contains nothing: a hole in a table would be met by all. Raises `StepError`.
        """
        key = str(path[-1])
        text = as_text(self.value(path, written, values), key)
        if text.strip() or text == written:
            return text
        place = self._file.document.place(path)
        raise TemplateError(place, f"{key} renders to nothing", hint=hint)

    def count(self, path: KeyPath, written: str | int | None, values: Values) -> int | None:
        """Return a number as written, or the one that its template gives. Raises `TemplateError`.

        It must be a whole number above zero.
        """
        if not isinstance(written, str):
            return written
        found = self.value(path, written, values)
        if isinstance(found, int) and not isinstance(found, bool) and found > 0:
            return found
        message = f"{path[-1]} must be a whole number above 0, not {found!r}"
        hint = "give an input with type: integer and minimum: 1"
        raise TemplateError(self._file.document.place(path), message, hint=hint)

    def expression(self, path: KeyPath, values: Values) -> Json:
        """Return the value of the bare expression at `path`. Raises `TemplateError`."""
        known = self._expressions.get(path)
        if known is None:
            known = self._expressions[path] = as_template(*self._text(self._sites[path]))
        return evaluate(self._environment, *known, values)

    def unmet(self, path: KeyPath, values: Values) -> str | None:
        """Return why the expression over an answer at `path` is not true, None if it is.

        An answer that is not the number that it takes does not meet it. The reason may be empty.
        Raises `TemplateError`, also if another value is no number: no answer can mend that.
        """
        try:
            return None if self.expression(path, values) else ""
        except NoNumberError as error:
            answer = encode_json([values.get(name) for name in ("output", "outputs")])
            if error.value is None or (encode_json(error.value)[1:-1] or b'""') in answer:
                return error.reason
            raise

    def compared(self, path: KeyPath, values: Values) -> dict[str, Json]:
        """Return the sides of the comparison that makes the expression at `path` untrue.

        They are its texts with their values; empty if it is more than comparisons with `and`.
        """
        return compared(self._environment, *self._text(self._sites[path]), values)

    def path(self, path: KeyPath, values: Values) -> str:
        """Render a file path: each expression gives one safe segment."""
        text, origin = self._text(self._sites[path])
        return render_path(self._environment, text, origin, values)

    def _text(self, site: Site) -> tuple[str, Origin]:
        if site.file is not None:
            return site_text(self._reader, self._file, site)
        known = self._own.get(site.path)
        if known is None:
            known = self._own[site.path] = site_text(self._reader, self._file, site)
        return known


def as_text(value: Json, what: str) -> str:
    """Return a rendered value that must be text. Raises `StepError` naming `what`."""
    if isinstance(value, str):
        return value
    hint = ONE_PATH if what == "path" and isinstance(value, list) else "check the template's value"
    raise StepError(f"{what} must be text, not {value!r}", hint=hint)
