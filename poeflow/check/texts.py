"""Checks every template of a flow: names, files, and what must be known before any step runs."""

from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.check.effort import MAX_CODE, MAX_PATTERNS, Effort
from poeflow.files import FileProblem, Project
from poeflow.problems import Problem
from poeflow.spec.enough import MAX_PROBLEMS
from poeflow.spec.load import FlowFile
from poeflow.spec.model import Step
from poeflow.templates.environment import Environment
from poeflow.templates.names import check_expression, check_template
from poeflow.templates.origin import Origin
from poeflow.templates.scope import Checked, Reference, Scope
from poeflow.templates.sites import Site, sites_of, text_of

_ALWAYS: Final = frozenset({"flow"})
_IN_FOR_EACH: Final = frozenset({"item", "key", "loop", "source"})
_IN_MATRIX: Final = frozenset({"key", "loop", "matrix"})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one template uses and what is wrong with it.

    `files` are canonical: its own, where it has one, and those it names literally; `globs` are
    canonical patterns.
    """

    site: Site
    references: tuple[Reference, ...] = ()
    files: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def findings(project: Project, file: FlowFile, environment: Environment) -> Iterator[Finding]:
    """Yield the finding of every template, until there are problems or effort enough."""
    texts = _Texts(project, file, environment)
    problems = 0
    for site in sites_of(file):
        finding = texts.finding(site)
        yield finding
        problems += len(finding.problems)
        if texts.is_spent or problems > MAX_PROBLEMS:
            return


class _Texts:
    """Checks the templates of one flow, a file that several steps share only once."""

    def __init__(self, project: Project, file: FlowFile, environment: Environment) -> None:
        self.is_spent = False
        self._project = project
        self._file = file
        self._environment = environment
        self._effort = Effort()
        self._scope = Scope(inputs=frozenset(file.flow.inputs), steps=frozenset(file.flow.steps))
        self._known: dict[tuple[str, frozenset[str]], Checked] = {}

    def finding(self, site: Site) -> Finding:
        try:
            text, origin = text_of(self._environment.reader, self._file, site)
        except FileProblem as error:
            place = self._file.document.place(site.path)
            return Finding(site=site, problems=(Problem(place, error.message, error.hint),))
        own = (origin.path,) if site.file is not None else ()
        if site.raw:
            return Finding(site=site, files=own)
        checked = self._checked(site, text, origin)
        globs = tuple(self._canonical(checked.globs, text, origin))
        return Finding(
            site=site,
            references=checked.references,
            files=(*own, *checked.files),
            globs=globs,
            problems=(*checked.problems, *_too_early(site, checked), *self._spent(site, globs)),
        )

    def _checked(self, site: Site, text: str, origin: Origin) -> Checked:
        extra = _names_in(self._file.flow.steps[site.step]) if site.step is not None else _ALWAYS
        known = self._known.get((origin.path, extra)) if site.file is not None else None
        if known is not None:
            return known
        scope = msgspec.structs.replace(self._scope, extra=extra)
        if site.use == "expression":
            checked = check_expression(self._environment, text, origin, scope)
        else:
            is_path = site.use == "path"
            checked = check_template(self._environment, text, origin, scope, is_path=is_path)
        included = (self._environment.reader.source(f, relative_to="//")[1] for f in checked.files)
        self.is_spent = not self._effort.covers(text, included)
        if site.file is not None:
            self._known[origin.path, extra] = checked
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


def _names_in(step: Step) -> frozenset[str]:
    """Return the names that only some templates see."""
    for_each = _IN_FOR_EACH if step.for_each is not None else frozenset()
    matrix = _IN_MATRIX if step.matrix is not None else frozenset()
    return _ALWAYS | for_each | matrix


def _too_early(site: Site, checked: Checked) -> Iterator[Problem]:
    """Yield a problem for each step a text uses that must be known before any step runs."""
    if not site.early:
        return
    hint = "use a literal or an input" if site.step else "move it into a step, or use an input"
    for reference in _steps_in(checked.references):
        message = f"this must be known before any step runs; steps.{reference.name} is not"
        yield Problem(reference.place, message, hint)


def _steps_in(references: tuple[Reference, ...]) -> Iterator[Reference]:
    return (reference for reference in references if reference.kind == "step")
