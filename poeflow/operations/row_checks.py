"""Finds the rows of tables with which a flow cannot run, before anything runs.

The templates that use nothing but the row are rendered for each, within a limit: those of its key,
its files, its request and the inputs of a used flow. What inputs decide is left to `plan`.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import PoeflowError
from poeflow.flowfile.loops import key_text, loop_value
from poeflow.flowfile.model import Loop, Step
from poeflow.flowfile.yaml_tree import MAX_BYTES, KeyPath, parse
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import NotTextError, text_of
from poeflow.planning.checked import Checked
from poeflow.planning.fan_out import Tables
from poeflow.planning.instances import StepInstance
from poeflow.planning.plan import own_path_hint
from poeflow.planning.preparation import Preparer
from poeflow.planning.run_inputs import checked_inputs
from poeflow.problems import Place, Problem
from poeflow.project.lazy_items import JoinedItems, Table
from poeflow.project.output_paths import claim_of
from poeflow.project.project import FileProblem, Project
from poeflow.templates.environment import Environment
from poeflow.templates.render import Values
from poeflow.templates.sites import Site, Texts, has_template, site_text, step_sites
from poeflow.templates.work_budget import MAX_WORK

MAX_ROWS: Final = 1_000
"""A table with more rows is left to `plan`."""
MAX_RENDERED: Final = 10_000
"""How many templates are rendered for the rows of one flow."""
_CODE: Final = lazy_pattern(r"(?s)\{[{%](.*?)[}%]\}")
_MORE_THAN_ROWS: Final = lazy_pattern(
    r"\b(?:inputs|steps|source|sample|previous|repeat|carry|read|glob"
    r"|include|import|from|extends|super)\b"
)
"""What a template uses besides the row, perhaps: then it is not rendered here."""
_PREPARED: Final = ("model", "attachments", "messages", "output", "system")
"""Keys whose templates decide the files of an instance and the settings of its request."""


def row_problems(project: Project, checked: Checked, environment: Environment) -> Iterator[Problem]:
    """Yield a problem for the first row on which each template fails, at the row."""
    file, left = checked.file, MAX_RENDERED
    tables = Tables(project, file)
    for name, spec in file.flow.steps.items():
        loop = spec.for_each
        if not isinstance(loop, Loop) or loop.file is None or has_template(loop.file):
            continue
        if loop.group_by is not None or loop.sample is not None or isinstance(loop.limit, str):
            continue
        items = tables.items(name)
        if 0 < len(items) <= MAX_ROWS:
            rows = _Rows(project, checked, environment, step=name, left=left)
            yield from rows.problems(items, loop)
            left = rows.left


class _Rows:
    """Checks the rows that one step runs over; `left` is how many templates may be rendered."""

    def __init__(
        self,
        project: Project,
        checked: Checked,
        environment: Environment,
        *,
        step: str,
        left: int,
    ) -> None:
        self.left = left
        self._project = project
        self._checked = checked
        self._file = checked.file
        self._step = step
        self._reader = environment.reader
        self._allowance = environment.allowance
        self._texts = Texts(checked.file, environment.reader, environment)
        self._preparer = Preparer(project, checked, self._texts)
        sites = {site.path[2:]: site for site in step_sites(self._file, step)}
        self._sites = {path: site for path, site in sites.items() if self._is_of_row(site)}
        self._others = {path for path in sites if path not in self._sites}
        self._owners: dict[str, tuple[str, str]] = {}

    @property
    def _spec(self) -> Step:
        return self._file.flow.steps[self._step]

    @property
    def _is_spent(self) -> bool:
        """Whether no row is looked at any more: what is left to all of a command is for others."""
        return self.left <= 0 or self._allowance.left < MAX_WORK

    def problems(self, items: Sequence[Json], loop: Loop) -> Iterator[Problem]:
        """Yield the problems of the rows."""
        if not self._others.isdisjoint({("for_each", "where"), ("for_each", "key"), ("if",)}):
            return
        failed, taken = set[Place](), 0
        for at, item in enumerate(items):
            if self._is_spent or taken == loop.limit:
                return
            names: dict[str, Json] = {"item": item, "loop": loop_value(items, at, len(items))}
            values = {**self._file.early_names({}), **names}
            for problem in self._of_row(values):
                if problem.place not in failed:
                    failed.add(problem.place)
                    yield self._at_row(problem, loop.file or "", items, at)
            taken += loop.limit is not None and self._holds(("for_each", "where"), values)

    def _is_of_row(self, site: Site) -> bool:
        """Whether a template uses nothing but the row."""
        if site.path in self._checked.late or has_template(site.file or ""):
            return False
        try:
            text = site_text(self._reader, self._file, site)[0]
        except FileProblem:
            return False
        code = text if site.use == "expression" else " ".join(_CODE.findall(text))
        return not _MORE_THAN_ROWS.search(code)

    def _of_row(self, values: Values) -> Iterator[Problem]:
        """Yield the problems of one row, unless a condition leaves it out."""
        path: KeyPath = ("for_each", "where")
        try:
            if not self._holds(path, values, is_sure=True):
                return
            key = key_text(self._value(path := ("for_each", "key"), values))
            values = {**values, "key": key}
            if not self._holds(path := ("if",), values, is_sure=True):
                return
        except PoeflowError as error:
            yield self._problem(path, error)
            return
        yield from self._of_files(values, key)
        for path, site in self._sites.items():
            if site.stage == "instance" and path[0] not in ("for_each", "if", "output"):
                try:
                    self._value(path, values)
                except PoeflowError as error:
                    yield self._problem(path, error)
                    continue
        yield from self._of_inputs(values)

    def _of_files(self, values: Values, key: str) -> Iterator[Problem]:
        """Yield the problems with what the instance of a row attaches and writes."""
        if any(path[0] in _PREPARED for path in self._others):
            return
        self.left -= 1
        instance = StepInstance(step=self._step, key=key)
        ready, problems = self._preparer.prepare(instance, values)
        yield from problems
        if ready.save is None:
            return
        owner, claimed = self._owners.setdefault(claim_of(ready.save), (instance.id, ready.save))
        if owner != instance.id:
            message = f"{owner} and {instance.id} would both write {ready.save}"
            hint = own_path_hint(is_used=False, is_alike=claimed != ready.save)
            yield Problem(self._place(("output", "save")), message, hint)

    def _of_inputs(self, values: Values) -> Iterator[Problem]:
        """Yield the problems with what a row gives to the flow that the step uses."""
        child = self._checked.children.get(self._step)
        if child is None or any(path[0] == "with" for path in self._others):
            return
        inputs = child.file.flow.inputs
        if any(spec.type == "file" for spec in inputs.values()):
            return  # their paths are looked for by `plan`
        self.left -= 1
        try:
            path: KeyPath = ("steps", self._step, "with")
            given = self._texts.value(path, dict(self._spec.with_ or {}), values)
        except PoeflowError:
            return  # reported as that of a template
        if isinstance(given, dict):
            for problem in checked_inputs(child.file.flow, given, {})[1]:
                yield Problem(self._place(("with",)), problem.message, problem.hint)

    def _holds(self, path: KeyPath, values: Values, *, is_sure: bool = False) -> bool:
        """Whether a condition of a row holds, if there is one. Unless `is_sure`, none raises."""
        if path not in self._sites:
            written = self._spec.if_ if path == ("if",) else True
            return written is not False
        try:
            return bool(self._value(path, values))
        except PoeflowError:
            if is_sure:
                raise
            return True

    def _value(self, path: KeyPath, values: Values) -> Json:
        """Return what a template of a row gives. Raises `PoeflowError`."""
        site, self.left = self._sites[path], self.left - 1
        if site.use == "expression":
            return self._texts.expression(site.path, values)
        if site.file is not None:
            return self._texts.prose(site.path[:-1], values)
        if site.path[-1] in ("prompt", "system", "render", "stdin", "content"):
            return self._texts.prose(site.path, values)
        return self._texts.value(site.path, site.text, values)

    def _problem(self, path: KeyPath, error: PoeflowError) -> Problem:
        return self._preparer.problem(("steps", self._step, *path), error)

    def _place(self, path: KeyPath) -> Place:
        return self._file.document.place(("steps", self._step, *path))

    def _at_row(self, problem: Problem, written: str, items: Sequence[Json], at: int) -> Problem:
        """Return a problem at the place of its row, with the place of the template."""
        path = self._project.canonical(written, relative_to=self._file.path)
        if isinstance(items, JoinedItems):
            path, items, at = items.row(at)
        place = Place(self._reader.shown(path), self._line_of(path, items, at))
        message = f"{problem.message} (step {self._step}, {problem.place})"
        return msgspec.structs.replace(problem, place=place, message=message)

    def _line_of(self, path: str, items: Sequence[Json], at: int) -> int:
        """Return the line on which a row of a file begins, 1 if that is not known."""
        if isinstance(items, Table):
            return items.line_of(at)
        try:
            text = text_of(self._project.read_bytes(path, limit=MAX_BYTES))
        except (FileProblem, NotTextError):
            return 1
        return parse(text, path).place((at,)).line
