"""Checks every template of a flow, within a bound on the work, and what nothing in it uses."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from poeflow.flowfile.limit_problems import MAX_PROBLEMS
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import is_fan_out
from poeflow.flowfile.model import Flow
from poeflow.flowfile.step_settings import judges_of, model_of
from poeflow.planning.attributes import (
    FIELDS_OF_FLOW,
    Fields,
    Names,
    fields_of,
    fields_of_answer,
    instance_names,
    lacking,
    results_of,
)
from poeflow.planning.fan_out import Tables
from poeflow.problems import Problem
from poeflow.project.project import FileProblem, Project
from poeflow.templates.environment import Environment
from poeflow.templates.names import check_expression, check_template
from poeflow.templates.reader import Origin
from poeflow.templates.scopes import Checked, Reference, Scope
from poeflow.templates.sites import Site, sites_of, text_of

MAX_CODE: Final = 512 * 1024
"""How many characters of template code the texts of one flow may have, includes counted."""
MAX_PATTERNS: Final = 200
"""How many different patterns over files one flow may have."""
_BRACES: Final = 4
_LEAST: Final = 50
"""What a template counts as that has less code: compiling any takes a third of a millisecond."""
_OPENING: Final = re.compile(r"\{[{%#]")
_CLOSING: Final = re.compile(r"[}%#]\}")
_INCLUDES: Final = re.compile(r"\{%[-+]?\s*(include|import|from)\b")
_ALWAYS: Final = frozenset({"flow"})
_PROSE: Final = ("prompt", "system", "render", "content", "rubric")
_PATH: Final = re.compile(r"[\w./-]+\.\w+")
_TEMPLATE_PATH: Final = re.compile(r"\.(?:md|txt|j2|jinja2?|prompt|tmpl)$")
_LONGEST_PATH: Final = 200
_OF_ANSWER: Final = frozenset({"output"})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one template uses and what is wrong with it.

    `files` are canonical: its own, where it has one, and those it names literally; `globs` are
    canonical patterns. `varies` tells that it uses a name that differs from instance to instance,
    `is_late` that it uses a step or something that comes from one, `is_open` that it includes a
    file which only a run can name, and which may use any input.
    """

    site: Site
    references: tuple[Reference, ...] = ()
    files: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    is_late: bool = False
    is_open: bool = False

    @property
    def varies(self) -> bool:
        return any(r.kind == "name" and r.name != "flow" for r in self.references)


def findings(
    project: Project,
    file: FlowFile,
    environment: Environment,
    tables: Tables,
    *,
    derived_inputs: frozenset[str] = frozenset(),
) -> Iterator[Finding]:
    """Yield the finding of every template, until there are problems or effort enough.

    `derived_inputs` are those that a step of another flow decides.
    """
    texts = _Texts(project, file, environment, tables, derived_inputs)
    problems = 0
    for site in sites_of(file):
        finding = texts.finding(site)
        yield finding
        problems += len(finding.problems)
        if texts.is_spent or problems > MAX_PROBLEMS:
            return


def step_uses(file: FlowFile, references: Iterable[Reference]) -> Iterator[Problem]:
    """Yield a problem for each use of something its step never has."""
    for reference in references:
        step = file.flow.steps.get(reference.name) if reference.kind == "step" else None
        if step is not None and reference.attribute is not None:
            message, hint = lacking(reference.name, step, reference.attribute)
            if message:
                yield Problem(reference.place, message, hint)


def unused(file: FlowFile, findings: Iterable[Finding]) -> Iterator[Problem]:
    """Yield a warning for each input and alias that nothing in a sound flow uses."""
    found = tuple(findings)
    used = {r.name for f in found for r in f.references if r.kind == "input"}
    is_open = any(finding.is_open for finding in found)
    for name in file.flow.inputs if not is_open else ():
        if name not in used:
            place = file.document.key_place(("inputs", name))
            hint = f"write {{{{ inputs.{name} }}}} where you want it, or remove it"
            yield Problem(place, f'the input "{name}" is never used', hint, "warning")
    named = _named_models(file.flow)
    for name in file.flow.models:
        node = file.document.node(("models", name))
        is_own = node is not None and not node.file
        if named is not None and name not in named and is_own:
            place = file.document.key_place(("models", name))
            hint = f"write model: {name} in a step, or remove it"
            yield Problem(place, f'the model alias "{name}" is never used', hint, "warning")


def _named_models(flow: Flow) -> set[str] | None:
    """Return what steps name as their models; None where a template decides."""
    steps = {name: step for name, step in flow.steps.items() if step.kind == "model"}
    given = [model_of(flow, name) for name in steps]
    named = {str(model.value) for model in given if model is not None}
    for step in steps.values():
        named |= {*(step.fallback or ()), *(j.model for j in judges_of(step) if j.model)}
    for alias in flow.models.values():
        named |= set(alias.fallback)
    return None if any("{" in name for name in named) else named


class _Texts:
    """Checks the templates of one flow, a file that several steps share only once."""

    def __init__(
        self,
        project: Project,
        file: FlowFile,
        environment: Environment,
        tables: Tables,
        derived_inputs: frozenset[str],
    ) -> None:
        self.is_spent = False
        self._project = project
        self._file = file
        self._environment = environment
        self._effort = Effort()
        steps = file.flow.steps
        self._scope = Scope(
            inputs=frozenset(file.flow.inputs),
            steps=frozenset(steps),
            fan_outs=frozenset(name for name, step in steps.items() if is_fan_out(step)),
            results=results_of(file.flow),
            derived_inputs=derived_inputs,
        )
        self._names = {name: instance_names(file.flow, name, derived_inputs) for name in steps}
        self._fields = {name: fields_of(file.flow, name, tables.items) for name in steps}
        self._known: dict[tuple[str, Names, Fields], Checked] = {}

    def finding(self, site: Site) -> Finding:
        try:
            text, origin = text_of(self._environment.reader, self._file, site)
        except FileProblem as error:
            place = self._file.document.place(site.path)
            return Finding(site=site, problems=(Problem(place, error.message, error.hint),))
        own = (origin.path,) if site.file is not None else ()
        if site.raw or self._is_blank(site, text):
            blank = self._blank(site) if self._is_blank(site, text) else ()
            return Finding(site=site, files=own, problems=tuple(blank))
        checked = self._checked(site, text, origin)
        globs = tuple(self._canonical(checked.globs, text, origin))
        return Finding(
            site=site,
            references=checked.references,
            files=(*own, *checked.files),
            globs=globs,
            problems=(
                *checked.problems,
                *(_too_early(site, checked, self._derived(site)) if site.early else ()),
                *self._spent(site, globs),
                *self._path(site),
            ),
            is_late=any(_late(checked, self._derived(site))),
            is_open=checked.is_open,
        )

    def _is_blank(self, site: Site, text: str) -> bool:
        """Tell whether a text that a model is asked with says nothing, and nothing goes with it."""
        if text.strip() or site.step is None:
            return False
        step = self._file.flow.steps[site.step]
        match site.path[2:]:
            case ("prompt", *_):
                return not step.attachments
            case ("messages", int(index), "content", *rest) if rest in ([], ["file"]):
                messages = step.messages or []
                is_last = not any(other.role == "user" for other in messages[index + 1 :])
                is_user = messages[index].role == "user"
                return is_user and not (is_last and step.attachments)
            case ("expect", _, "judge", "rubric", *_):
                return True
        return False

    def _blank(self, site: Site) -> Iterator[Problem]:
        what = "the rubric" if "rubric" in site.path else "the prompt"
        yield Problem(self._file.document.place(site.path), f"{what} is blank", "write what to ask")

    def _path(self, site: Site) -> Iterator[Problem]:
        """Warn of a text that is the path of a file: it is sent as it stands."""
        key = site.path[-1]
        if site.file is not None or key not in _PROSE or len(site.text) > _LONGEST_PATH:
            return
        written = site.text.strip()
        if not _PATH.fullmatch(written):
            return
        if _TEMPLATE_PATH.search(written) or self._is_file(written):
            place = self._file.document.place(site.path)
            hint = f"write {key}: {{file: {written}}}"
            yield Problem(place, f'"{written}" is sent as this text', hint, "warning")

    def _is_file(self, written: str) -> bool:
        try:
            canonical = self._project.canonical(written, relative_to=self._file.path)
        except FileProblem:
            return False
        return self._project.path_of(canonical).is_file()

    def _derived(self, site: Site) -> frozenset[str]:
        """Return the inputs and names that a site sees and that come from a step."""
        return self._scope.derived_inputs | self._names_at(site).derived

    def _names_at(self, site: Site) -> Names:
        if site.step is None or site.stage in ("shared", "step"):
            return Names(_ALWAYS, frozenset())
        known, derived = self._names[site.step]
        known -= _absent(site)
        if site.stage == "answer":
            return Names(known | _ALWAYS | _OF_ANSWER, derived | _OF_ANSWER)
        return Names(known | _ALWAYS, derived)

    def _fields_at(self, site: Site) -> Fields:
        """Return all that may be asked of the names a site sees, where that is known."""
        fields = (*FIELDS_OF_FLOW, *self._fields.get(site.step or "", ()))
        if site.step is None or site.stage != "answer":
            return fields
        return (*fields, *fields_of_answer(self._file.flow.steps[site.step]))

    def _checked(self, site: Site, text: str, origin: Origin) -> Checked:
        names = self._names_at(site)
        fields = self._fields_at(site)
        known = self._known.get((origin.path, names, fields)) if site.file is not None else None
        if known is not None:
            return known
        scope = msgspec.structs.replace(
            self._scope,
            extra=names.known,
            derived=names.derived,
            fields=fields,
            stands="flow" if site.file is None else "file",
        )
        if site.use == "expression":
            checked = check_expression(self._environment, text, origin, scope)
        else:
            is_path = site.use == "path"
            checked = check_template(self._environment, text, origin, scope, is_path=is_path)
        included = (self._environment.reader.source(f, relative_to="//")[1] for f in checked.files)
        self.is_spent = not self._effort.covers(text, included)
        if site.file is not None:
            self._known[origin.path, names, fields] = checked
        return checked

    def _canonical(self, globs: tuple[str, ...], text: str, origin: Origin) -> Iterator[str]:
        """Yield the patterns this text itself holds; those of included files stay relative."""
        for pattern in globs:
            if pattern in text or pattern.startswith("//"):
                yield self._project.canonical(pattern, relative_to=origin.path)

    def _spent(self, site: Site, globs: tuple[str, ...]) -> Iterator[Problem]:
        place = self._file.document.place(site.path)
        if self.is_spent:
            message = f"the templates of this flow have over {MAX_CODE:,} characters of code"
            yield Problem(place, message, "split the flow")
        elif not self._effort.covers_patterns(globs):
            self.is_spent = True
            message = f"the templates of this flow have over {MAX_PATTERNS} patterns"
            yield Problem(place, message, "use fewer, wider ones")


def _absent(site: Site) -> frozenset[str]:
    """Return the names of a step that are not there yet, or no more, where a site is rendered."""
    match site.path[2:]:
        case ("for_each" | "matrix", *_):
            return frozenset({"sample", "key", "source"})
        case ("if" | "model" | "with", *_) | ("output", "save"):
            return frozenset({"sample"})
        case ("attachments", *_, last) | ("messages", _, "content", _, "attach", *_, last):
            return frozenset({"sample"} if last != "from" else ())
        case ("messages", _, "content", _, "attach"):
            return frozenset({"sample"})
    return frozenset()


def _too_early(site: Site, checked: Checked, derived: frozenset[str]) -> Iterator[Problem]:
    """Yield a problem for each use of a step where all must be known before any step runs."""
    hint = "use a literal or an input" if site.step else "move it into a step, or use an input"
    roots = {"step": "steps.", "input": "inputs.", "name": ""}
    for reference in _late(checked, derived):
        used = f"{roots[reference.kind]}{reference.name}"
        message = f"this must be known before any step runs; {used} is not"
        yield Problem(reference.place, message, hint)


def _late(checked: Checked, derived: frozenset[str]) -> Iterator[Reference]:
    """Yield each use of a step, or of what comes from one."""
    for reference in checked.references:
        if reference.kind == "step" or reference.name in derived:
            yield reference


class Effort:
    """What is left of the effort for one flow."""

    def __init__(self) -> None:
        self._left = MAX_CODE
        self._patterns: set[str] = set()

    def covers(self, text: str, included: Iterable[str] = ()) -> bool:
        """Count a template and the texts it may have included; tell whether it was enough."""
        self._left -= _code(text)
        if _INCLUDES.search(text):
            self._left -= sum(map(_code, included))
        return self._left >= 0

    def covers_patterns(self, patterns: Iterable[str]) -> bool:
        self._patterns.update(patterns)
        return len(self._patterns) <= MAX_PATTERNS


def _code(text: str) -> int:
    """Return how many characters of `text` stand in braces, the braces included."""
    pieces = _OPENING.split(text)[1:]
    if not pieces:
        return 0
    total = _BRACES * len(pieces)
    for piece in pieces:
        end = _CLOSING.search(piece)
        total += end.start() if end else len(piece)
    return max(total, _LEAST)
