"""Which names a template uses, and whether they exist: known before anything is rendered."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from jinja2 import TemplateSyntaxError, nodes

from poeflow.flowfile.hints import one_of
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.project import FileProblem
from poeflow.templates.environment import Environment, Mode, only_expression
from poeflow.templates.lookups import Lookups
from poeflow.templates.origin import Origin
from poeflow.templates.render import as_template
from poeflow.templates.rewrite import check_shape, compiles_surely
from poeflow.templates.scope import Checked, Scope
from poeflow.templates.scopes import Bindings, losses
from poeflow.templates.template_errors import habits, lost, syntax_problem
from poeflow.templates.walk import FileUse, Walker

MAX_INCLUDES: Final = 20
"""How deep files may include each other."""
MAX_INCLUDED: Final = 1024 * 1024
"""How many characters the files a template includes may have; a file counts as 2,000 or more."""
_LEAST: Final = 2_000
_NOT_ONE: Final = "this must be one expression"
_BARE: Final = "write it bare: steps.draft.status == 'ok'"


def check_template(
    environment: Environment, text: str, origin: Origin, scope: Scope, *, is_path: bool = False
) -> Checked:
    """Check every name in `text` and in the files it includes, and render nothing.

    Its findings have their places in the files they are in. `is_path` texts become paths.
    """
    if "{" not in text:
        return Checked()
    mode: Mode = "path" if is_path else "text"
    return _Checker(environment, (origin.path,), _Findings()).check(text, origin, scope, mode)


def check_expression(environment: Environment, text: str, origin: Origin, scope: Scope) -> Checked:
    """Check a bare expression, as in `if`; `{{ x }}` is taken for `x`."""
    template, moved = as_template(text, origin)
    return _Checker(environment, (origin.path,), _Findings()).check(
        template, moved, scope, mode="value"
    )


class _Findings:
    """What was found in the files of one template, and how much text they may still have."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, Scope], Checked] = {}
        self._left = MAX_INCLUDED

    def covers(self, text: str) -> bool:
        self._left -= max(len(text), _LEAST)
        return self._left >= 0


class _Checker:
    """Checks one file; `way` are the files on the way to it, the last is its own."""

    def __init__(self, environment: Environment, way: tuple[str, ...], findings: _Findings) -> None:
        self._environment = environment
        self._way = way
        self._findings = findings

    def check(self, text: str, origin: Origin, scope: Scope, mode: Mode = "text") -> Checked:
        warnings = tuple(habits(text, origin, self._environment.lexer))
        bindings = Bindings(scope)
        is_text = mode == "text"
        lookups = Lookups(self._environment, origin, scope, bindings, is_text=is_text)
        walker = Walker(text, bindings, lookups)
        try:
            parsed = self._environment.parsed(text, origin)
            if mode == "value":
                expression = only_expression(parsed)
                if expression is None:
                    return Checked(problems=(Problem(origin.locate(0), _NOT_ONE, _BARE),))
                walker.walk_expression(expression)
            else:
                walker.walk(parsed)
                warnings += tuple(lost(losses(parsed, scope.extra), origin))
            if not errors_only(tuple(lookups.problems)):
                self._compile(text, parsed, origin, mode)
        except TemplateSyntaxError as error:
            problem = syntax_problem(error, text, origin, is_bare=mode == "value")
            return Checked(problems=(*warnings, problem))
        except (RecursionError, SyntaxError, MemoryError, OverflowError):
            message = "the template is too large or nested too deep"
            problem = Problem(origin.locate(0), message, "split it with set or include")
            return Checked(problems=(*warnings, problem))
        own = Checked(
            references=tuple(lookups.references),
            problems=(*warnings, *lookups.problems),
            defined=bindings.exported,
            is_open=walker.is_open,
        )
        below = [self._file(use, origin) for use in walker.files]
        return _joined(own, below)

    def _compile(self, text: str, parsed: nodes.Template, origin: Origin, mode: Mode) -> None:
        """Compile what may still fail; the rest is known to compile, and left for rendering."""
        check_shape(parsed, is_path=mode == "path")
        if not compiles_surely(parsed):
            self._environment.compiled(text, parsed, origin, mode)

    def _file(self, use: FileUse, origin: Origin) -> Checked:
        """Check a file that is named literally."""
        reader = self._environment.reader
        place = origin.locate(use.offset)
        try:
            if use.kind == "glob":
                reader.glob(use.path, relative_to=origin.path)
                return Checked(globs=(use.path,))
            path, text = reader.source(use.path, relative_to=origin.path)
        except FileProblem as error:
            problem = Problem(place, error.message, error.hint)
            return Checked(problems=() if use.is_optional else (problem,))
        if use.kind == "read":
            return Checked(files=(path,))
        if path in self._way or len(self._way) > MAX_INCLUDES:
            return Checked(files=(path,), problems=(self._loop_problem(path, place),))
        below = self._template(path, text, use.scope)
        missing = tuple(_missing(use, below, path, origin))
        files, problems = (path, *below.files), (*below.problems, *missing)
        return msgspec.structs.replace(below, files=files, problems=problems)

    def _template(self, path: str, text: str, scope: Scope) -> Checked:
        """Check a file once for each set of names it sees."""
        known = self._findings.known.get((path, scope))
        if known is None:
            origin = Origin.for_file(path, text, shown=self._environment.reader.shown(path))
            if not self._findings.covers(text):
                message = "too many files are included on the way here"
                return Checked(problems=(Problem(origin.locate(0), message, "include fewer"),))
            checker = _Checker(self._environment, (*self._way, path), self._findings)
            known = checker.check(text, origin, scope)
            self._findings.known[path, scope] = known
        return known

    def _loop_problem(self, path: str, place: Place) -> Problem:
        if path not in self._way:
            message = f"files include each other over {MAX_INCLUDES} deep"
            return Problem(place, message, "include fewer")
        way = " -> ".join([*self._way[self._way.index(path) :], path])
        return Problem(place, f"these files include each other: {way}", "remove one of them")


def _missing(use: FileUse, below: Checked, path: str, origin: Origin) -> Iterator[Problem]:
    """Yield a problem for each name wanted from a file that does not define it."""
    if any(problem.level == "error" for problem in below.problems):
        return  # what it defines is not known
    for name, offset in use.wanted:
        if name not in below.defined:
            message = f'{path} defines no "{name}"'
            yield Problem(origin.locate(offset), message, one_of(name, below.defined))


def _joined(own: Checked, below: Iterable[Checked]) -> Checked:
    """Return all findings as one, each once."""
    parts = (own, *below)
    return Checked(
        references=tuple(dict.fromkeys(found for part in parts for found in part.references)),
        files=tuple(dict.fromkeys(file for part in parts for file in part.files)),
        globs=tuple(dict.fromkeys(pattern for part in parts for pattern in part.globs)),
        problems=tuple(dict.fromkeys(problem for part in parts for problem in part.problems)),
        defined=own.defined,
        is_open=any(part.is_open for part in parts),
    )
