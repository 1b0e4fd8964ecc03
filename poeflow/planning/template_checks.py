"""Checks every template of a flow, with a bound on the work, and finds unused inputs."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import is_fan_out
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning import attributes
from poeflow.planning.attributes import (
    FIELDS_OF_FLOW,
    Fields,
    NamedFiles,
    Names,
    fields_before_grouping,
    fields_of,
    fields_of_answer,
    instance_names,
    kinds_of_values,
)
from poeflow.planning.fan_out import Tables, files_meant
from poeflow.problems import MAX_PROBLEMS, Problem, errors_only
from poeflow.project.project import FileProblem, Project
from poeflow.templates import work_budget
from poeflow.templates.environment import Environment
from poeflow.templates.names import check_expression, check_template
from poeflow.templates.reader import Origin
from poeflow.templates.scopes import VERDICT_ATTRIBUTES, CheckedTemplate, Reference, Scope
from poeflow.templates.sites import Site, TemplateFinding, name_site, site_text, sites_of
from poeflow.templates.template_errors import NonTextFinder
from poeflow.templates.values import RESULT_ITEM_NAMES

_ALWAYS: Final = frozenset({"flow"})
_PROSE: Final = ("prompt", "system", "render", "content", "rubric")
_PATH: Final = lazy_pattern(r"(file://|@)?([\w./-]+\.\w+)")
_TEMPLATE_PATH: Final = lazy_pattern(r"\.(?:md|txt|j2|jinja2?|prompty?|tmpl)$")
_MAY_BE_NO_TEXT: Final = lazy_pattern(
    r"\b(?:carry|previous|inputs)\b|\.(?:passed|used_default|all|data|media|tool_calls|verdicts|outputs|usage)\b"
)
_LONGEST_PATH: Final = 200
_SENT: Final = ("prompt", "with")
_MESSAGES: Final = frozenset({"system", "content", "judge"})
"""Keys whose texts are sent to a model, or handed on to another flow."""
_BEFORE_TEXTS: Final = ("if", "for_each", "matrix")
"""Keys of a step that are looked at before its conditions hold."""
_TESTS_PRESENCE: Final = lazy_pattern(r"\b(?:defined|in)\b")
_OF_ANSWER: Final = frozenset({"output"})
_OF_TURN: Final = frozenset({"outputs"})
_ATTACHED: Final = frozenset({"attachments", "attach"})
_CARRY: Final = ("for_each", "carry")
_OF_REQUEST: Final = frozenset({"sample", "previous", "repeat"})
"""Names that differ from one request of an instance to the next."""


def findings_of(
    project: Project,
    file: FlowFile,
    environment: Environment,
    tables: Tables,
    *,
    derived_inputs: frozenset[str] = frozenset(),
    outputs: Fields = (),
) -> Iterator[TemplateFinding]:
    """Yield the finding of every template, until there are too many problems or too much code.

    `derived_inputs` are those that a step of another flow decides, `outputs` those of used flows,
    by step.
    """
    scope = _scope_of(file, tables, derived_inputs, outputs)
    texts = _TemplateChecker(project, file, environment, tables, scope)
    problems = 0
    for site in sites_of(file):
        finding = texts.finding(site)
        yield finding
        problems += len(finding.problems)
        if texts.is_spent or problems > MAX_PROBLEMS:
            return


def unused_inputs(file: FlowFile, findings: Iterable[TemplateFinding]) -> Iterator[Problem]:
    """Yield a warning for each input that a flow without errors does not use."""
    found = tuple(findings)
    used = {r.name for f in found for r in f.references if r.kind == "input"}
    used |= {str(spec.default_from) for spec in file.flow.inputs.values()}
    is_open = any(finding.is_open for finding in found)
    for name in file.flow.inputs if not is_open else ():
        if name not in used:
            place = file.document.key_place(("inputs", name))
            hint = f"write {{{{ inputs.{name} }}}} where you want it, or remove it"
            yield Problem(place, f'the input "{name}" is never used', hint, "warning")


def _scope_of(
    file: FlowFile, tables: Tables, derived_inputs: frozenset[str], outputs: Fields
) -> Scope:
    """Return what all templates of a flow can use."""
    return Scope(
        inputs=frozenset(file.flow.inputs),
        steps=frozenset(file.flow.steps),
        fan_outs=frozenset(name for name, step in file.flow.steps.items() if is_fan_out(step)),
        results=attributes.results_of(file.flow),
        outputs=outputs,
        derived_inputs=derived_inputs,
        result_kinds=tables.kinds_of_results(),
        words=attributes.words_of(file.flow),
    )


def _is_sent(site: Site) -> bool:
    """Return whether a text is sent to a model with the values of secrets, or passed on so."""
    key = site.path[2] if site.step is not None else ""
    return key in _SENT or not _MESSAGES.isdisjoint(site.path)


class _TemplateChecker:
    """Checks the templates of one flow; a file that several steps share is checked once."""

    def __init__(
        self,
        project: Project,
        file: FlowFile,
        environment: Environment,
        tables: Tables,
        scope: Scope,
    ) -> None:
        self.is_spent = False
        self._project = project
        self._file = file
        self._environment = environment
        self._code_budget = work_budget.CodeBudget()
        self._scope = scope
        inputs = file.flow.inputs
        self._secrets = frozenset(name for name, spec in inputs.items() if spec.secret)
        steps, derived = file.flow.steps, scope.derived_inputs
        self._names = {name: instance_names(file.flow, name, derived) for name in steps}
        self._fields = {name: fields_of(file.flow, name, tables.items) for name in steps}
        self._before_grouping = {
            name: fields_before_grouping(step, tables.items(name)) for name, step in steps.items()
        }
        self._kinds = tables.kinds()
        self._shapes = attributes.shapes_of(file.flow)
        self._ensured = {name: self._ensured_in(name) for name in steps}
        self._known: dict[tuple[object, ...], CheckedTemplate] = {}
        self._named_files = NamedFiles(project, file, environment)

    def finding(self, site: Site) -> TemplateFinding:
        named = name_site(site)
        return self._of_text(site) if named is None else self._of_named(site, named)

    def _of_named(self, site: Site, named: Site) -> TemplateFinding:
        """Return the finding of the name of a file, and of each file that it is known to be."""
        own = self._of_text(named)
        is_sound = not errors_only(own.problems)
        inputs = {r.name for r in own.references if r.kind == "input"} if is_sound else None
        known = self._named_files.names(named, inputs)
        parts = [own, *self._of_files(site, known.names)]
        problems = (*known.problems, *(problem for part in parts for problem in part.problems))
        return TemplateFinding(
            site=site,
            references=tuple(dict.fromkeys(r for part in parts for r in part.references)),
            files=tuple(dict.fromkeys(file for part in parts for file in part.files)),
            globs=tuple(dict.fromkeys(glob for part in parts for glob in part.globs)),
            problems=tuple(dict.fromkeys(problems)),
            is_late=any(part.is_late for part in parts),
            is_open=not known.is_whole or any(part.is_open for part in parts),
            names_file=True,
            is_unknown=not known.is_whole,
        )

    def _of_files(self, site: Site, names: Iterable[str]) -> Iterator[TemplateFinding]:
        """Yield the finding of each file that a site may name."""
        problems = 0
        for name in names:
            finding = self._of_text(msgspec.structs.replace(site, file=name))
            yield finding
            problems += len(finding.problems)
            if self.is_spent or problems > MAX_PROBLEMS:
                return

    def _of_text(self, site: Site) -> TemplateFinding:
        try:
            text, origin = site_text(self._environment.reader, self._file, site)
        except FileProblem as error:
            place = self._file.document.place(site.path)
            return TemplateFinding(site=site, problems=(Problem(place, error.message, error.hint),))
        own = (origin.path,) if site.file is not None else ()
        other = tuple(self._format_warning(site, text))
        if site.raw or self._is_blank(site, text):
            blank = self._blank_problem(site) if self._is_blank(site, text) else ()
            return TemplateFinding(site=site, files=own, problems=(*other, *blank))
        is_list = site.stage == "step" or site.path[-1] in ("messages", "few_shot")
        if is_list and site.use == "expression" and files_meant(text):
            return TemplateFinding(site=site)  # which is reported where lists are checked
        checked = self._checked(site, text, origin)
        globs = tuple(self._canonical(checked.globs, text, origin))
        return TemplateFinding(
            site=site,
            references=checked.references,
            files=(*own, *checked.files),
            globs=globs,
            problems=(
                *checked.problems,
                *(_early_problems(site, checked, self._derived(site)) if site.early else ()),
                *self._limit_problems(site, globs),
                *self._path_warning(site),
                *other,
                *self._secret_warnings(site, checked),
            ),
            is_late=self._is_late(site, checked),
            is_open=checked.is_open,
        )

    def _is_blank(self, site: Site, text: str) -> bool:
        """Return whether the text of a prompt or rubric is blank and nothing is attached."""
        if text.strip() or site.step is None:
            return False
        step = self._file.flow.steps[site.step]
        match site.path[2:]:
            case ("prompt", *_):
                return not step.attachments
            case ("messages", int(index), "content", *rest) if rest in ([], ["file"]):
                messages = step.turns
                is_last = not any(other.role == "user" for other in messages[index + 1 :])
                is_user = messages[index].role == "user"
                return is_user and not (is_last and step.attachments)
            case ("expect", _, "judge", "rubric" | "rubrics", *_):
                return True
        return False

    def _blank_problem(self, site: Site) -> Iterator[Problem]:
        what = "the rubric" if "judge" in site.path else "the prompt"
        node = self._file.document.node(site.path)
        if site.file is not None and node is not None and node.data != site.file:
            what += f" in {site.file}"
        yield Problem(self._file.document.place(site.path), f"{what} is blank", "write what to ask")

    def _path_warning(self, site: Site) -> Iterator[Problem]:
        """Warn about a text that is a file path: the path itself would be sent."""
        key = site.path[-1]
        if site.file is not None or key not in _PROSE or len(site.text) > _LONGEST_PATH:
            return
        written = site.text.strip()
        found = _PATH.fullmatch(written)
        mark, path = ("", "") if found is None else found.groups("")
        if not (mark == "file://" or _TEMPLATE_PATH.search(path) or self._is_file(path)):
            return
        place, hint = self._file.document.place(site.path), site.file_hint(path)
        yield Problem(place, f'"{written}" is sent as this text', hint, "warning")

    def _format_warning(self, site: Site, text: str) -> Iterator[Problem]:
        """Warn about what another tool would read as settings and roles, and here is text."""
        found = site.format_fault(text)
        if found is not None and not {*_PROSE}.isdisjoint(site.path[-2:]):
            yield Problem(self._file.document.place(site.path), *found, "warning")

    def _secret_warnings(self, site: Site, checked: CheckedTemplate) -> Iterator[Problem]:
        """Warn about secret inputs in texts that are not sent to a model as a message."""
        if _is_sent(site):
            return
        for reference in checked.references:
            if reference.kind == "input" and reference.name in self._secrets:
                message = f'the secret "{reference.name}" is not given here; its stand-in is'
                hint = "prompts, system messages and messages are sent with it"
                yield Problem(reference.place, message, hint, "warning")

    def _is_file(self, written: str) -> bool:
        try:
            canonical = self._project.canonical(written, relative_to=self._file.path)
        except FileProblem:
            return False
        return self._project.path_of(canonical).is_file()

    def _is_late(self, site: Site, checked: CheckedTemplate) -> bool:
        """Whether a text uses a step, or what comes from one."""
        if not checked.references:
            return False
        return any(_late_references(checked, self._derived(site)))

    def _derived(self, site: Site) -> frozenset[str]:
        """Return the inputs and names that a site can use and that come from a step."""
        return self._scope.derived_inputs | self._names_at(site).derived

    def _names_at(self, site: Site) -> Names:
        if site.step is None or site.stage in ("shared", "form", "step"):
            return Names(_ALWAYS, frozenset())
        if site.path[2:] == _CARRY:
            return Names(_ALWAYS | {"previous"}, frozenset({"previous"}))
        names = self._names[site.step]
        known, derived = names.known - _absent(site), names.derived
        if site.stage == "answer":
            own = _OF_ANSWER | VERDICT_ATTRIBUTES if "repeat" in site.path[2:3] else _OF_ANSWER
            if self._file.flow.steps[site.step].kind == "flow":
                own = _OF_TURN
            return Names(known | _ALWAYS | own, derived | own)
        return Names(known | _ALWAYS, derived)

    def _fields_at(self, site: Site) -> Fields:
        """Return the attributes of the names that a site can use, if they are known."""
        if site.step is not None and site.path[2:] == _CARRY:
            of_one = dict(self._scope.results)[site.step] - {*RESULT_ITEM_NAMES}
            return (*FIELDS_OF_FLOW, ("previous", of_one))
        fields = (*FIELDS_OF_FLOW, *self._fields.get(site.step or "", ()))
        if site.path[2:3] == ("for_each",):
            fields += self._before_grouping.get(site.step or "", ())
        if site.step is None or site.stage != "answer":
            return fields
        return (*fields, *fields_of_answer(self._file.flow.steps[site.step]))

    def _ensured_in(self, step: str) -> frozenset[str]:
        """Return the ways to values that the conditions of a step ensure in its texts."""
        ensured = frozenset[str]()
        for path, text in attributes.conditions_of(self._file.flow, step):
            if _TESTS_PRESENCE.search(text):
                origin = Origin(path=self._file.path, locate=self._file.document.locator(path))
                ensured |= check_expression(self._environment, text, origin, self._scope).ensured
        return ensured

    def _checked(self, site: Site, text: str, origin: Origin) -> CheckedTemplate:
        if "{" not in text and site.use != "expression":
            return CheckedTemplate()
        names = self._names_at(site)
        fields = self._fields_at(site)
        shapes = self._shapes[site.step]
        is_after = site.step is not None and site.path[2] not in _BEFORE_TEXTS
        ensured = self._ensured[str(site.step)] if is_after else frozenset[str]()
        chosen, in_texts = self._kinds[site.step]
        kinds = chosen if site.path[2:3] == ("for_each",) else in_texts
        secrets = self._secrets if _is_sent(site) else frozenset[str]()
        key = (origin.path, names, fields, shapes, ensured, kinds, secrets)
        known = self._known.get(key) if site.file is not None else None
        if known is not None:
            return known
        scope = msgspec.structs.replace(
            self._scope,
            extra=names.known,
            derived=names.derived,
            fields=fields,
            shapes=shapes,
            ensured=ensured,
            kinds=kinds,
            secrets=secrets,
            stands="flow" if site.file is None else "file",
        )
        if site.use == "expression":
            checked = check_expression(self._environment, text, origin, scope)
        else:
            is_path = site.use == "path"
            checked = check_template(self._environment, text, origin, scope, is_path=is_path)
            checked = checked.with_problems(
                self._non_text_problems(site, text, origin, checked, names)
            )
        included = (self._environment.reader.source(f, relative_to="//")[1] for f in checked.files)
        self.is_spent = not self._code_budget.covers(text, included)
        if site.file is not None:
            self._known[key] = checked
        return checked

    def _non_text_problems(
        self, site: Site, text: str, origin: Origin, checked: CheckedTemplate, names: Names
    ) -> tuple[Problem, ...]:
        """Return a problem for each printed value that is not a text in any run.

        A template that has other errors is not looked at, nor one that is rendered too early.
        """
        is_too_early = site.early and self._is_late(site, checked)
        if is_too_early or not _MAY_BE_NO_TEXT.search(text) or errors_only(checked.problems):
            return ()
        parsed = self._environment.parsed(text, origin)
        if site.use == "value" and self._environment.is_expression(text.strip(), origin):
            return ()
        known = frozenset[str]() if site.early else names.known
        is_attached = site.early and not _ATTACHED.isdisjoint(site.path)
        finder = NonTextFinder(kinds_of_values(self._file.flow), known, is_attached=is_attached)
        return tuple(finder.problems(parsed, origin))

    def _canonical(self, globs: tuple[str, ...], text: str, origin: Origin) -> Iterator[str]:
        """Yield the patterns in this text itself; those of included files stay relative."""
        for pattern in globs:
            if pattern in text or pattern.startswith("//"):
                yield self._project.canonical(pattern, relative_to=origin.path)

    def _limit_problems(self, site: Site, globs: tuple[str, ...]) -> Iterator[Problem]:
        if self.is_spent:
            message = (
                f"the templates of this flow have over {work_budget.MAX_CODE:,} characters of code"
            )
            yield Problem(self._file.document.place(site.path), message, "split the flow")
        elif not self._code_budget.covers_patterns(globs):
            self.is_spent = True
            message = f"the templates of this flow have over {work_budget.MAX_PATTERNS} patterns"
            place = self._file.document.place(site.path)
            yield Problem(place, message, "use fewer, wider ones")


def _absent(site: Site) -> frozenset[str]:
    """Return the names of a step that are not defined when a site is rendered."""
    match site.path[2:]:
        case ("prompt" | "system" | "render" | "stdin" | "expect", *_, "file") | (
            "messages",
            _,
            "content",
            "file",
        ) if site.file is None:
            return _OF_REQUEST
        case ("for_each" | "matrix", *_):
            return _OF_REQUEST | {"key", "source", "carry"}
        case ("if" | "model", *_):
            return _OF_REQUEST
        case ("output", "save" | "media"):
            return _OF_REQUEST - {"sample"}
        case ("attachments", *_, last) | ("messages", _, "content", _, "attach", *_, last):
            return _OF_REQUEST if last != "from" else frozenset()
        case ("messages", _, "content", _, "attach"):
            return _OF_REQUEST
    return frozenset()


def _early_problems(
    site: Site, checked: CheckedTemplate, derived: frozenset[str]
) -> Iterator[Problem]:
    """Yield a problem for each use of a step in a text that is rendered before any step runs."""
    hint = "use a literal or an input" if site.step else "move it into a step, or use an input"
    roots = {"step": "steps.", "input": "inputs.", "name": ""}
    for reference in _late_references(checked, derived):
        used = f"{roots[reference.kind]}{reference.name}"
        message = f"this must be known before any step runs; {used} is not"
        is_media = reference.attribute == "media" and not _ATTACHED.isdisjoint(site.path)
        meant = f"write {{from: {used}.media}} in place of a path" if is_media else hint
        yield Problem(reference.place, message, meant)


def _late_references(checked: CheckedTemplate, derived: frozenset[str]) -> Iterator[Reference]:
    """Yield each use of a step, or of what comes from one."""
    for reference in checked.references:
        is_result = reference.kind in ("verdicts", "items")
        is_derived = not is_result and reference.name in derived
        if reference.kind == "step" or is_derived:
            yield reference
