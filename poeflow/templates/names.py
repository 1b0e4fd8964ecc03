"""Checks a template without rendering it: walks its syntax tree and checks the names in it."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec
from jinja2 import TemplateSyntaxError, nodes

from poeflow.flowfile.patterns import one_of
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.project import FileProblem
from poeflow.templates.environment import Environment, Mode, certainly_compiles, only_expression
from poeflow.templates.includes import ISOLATED, FileUse, first_text, parent_of
from poeflow.templates.kinds import Lookup, attribute_name
from poeflow.templates.lookups import METHODS, Lookups
from poeflow.templates.reader import Origin
from poeflow.templates.render import as_template
from poeflow.templates.sandbox import children_of, why_refused
from poeflow.templates.scopes import Bindings, CheckedTemplate, Scope, guards, literal_texts
from poeflow.templates.template_errors import habit_warnings, loss_warnings, syntax_problem

_FILE_FUNCTIONS: Final = ("read", "glob")
_DEFAULTS: Final = ("default", "d")
_PRESENCE: Final = ("defined", "undefined")
_LEFT_OUT: Final = "this is left out, as it is not in a block of the file that is extended"
_INTO_BLOCK: Final = "write it into a block, or use include"
_IN_MACROS: Final = ("caller", "varargs", "kwargs")
_Import = nodes.Include | nodes.Import | nodes.FromImport


class Walker:
    """Walks one template: references and problems are in `lookups`, files in `files`.

    `is_open` if the template includes a file that is not named literally.
    """

    def __init__(self, text: str, bindings: Bindings, lookups: Lookups) -> None:
        self._text = text
        self._bindings = bindings
        self._lookups = lookups
        self.is_open = False
        self._files: list[FileUse] = []
        self._modules: dict[str, int] = {}
        self._members: dict[str, list[tuple[str, int]]] = {}
        self._filling: list[nodes.Block] = []
        self.blocks: dict[str, frozenset[str]] = {}
        self.required: set[str] = set()

    def walk(self, template: nodes.Template) -> FileUse | None:
        """Walk a template. Return the file it extends: its blocks are walked by `fill`."""
        parent = parent_of(template)
        for node in template.body:
            if node is parent and not why_refused(node):
                continue
            if parent is not None and isinstance(node, nodes.Block):
                self._filling.append(node)
                continue
            if parent is not None and (lost := first_text(node)) is not None:
                self._lookups.note(lost - 1, _LEFT_OUT, _INTO_BLOCK, "warning")
            self.visit(node)
        if parent is None or not (literals := literal_texts(parent.template)):
            return None
        [(path, offset)] = literals
        scope = self._bindings.scope_of_include()
        return FileUse(kind="extends", path=path, offset=offset, scope=scope)

    def fill(self, parent: CheckedTemplate) -> None:
        """Walk the blocks that fill those of `parent`."""
        offered = dict(parent.blocks)
        self.required = set(parent.required)
        for block in self._filling:
            if block.name not in offered and not errors_only(parent.problems):
                message = f'what this extends has no block "{block.name}"'
                self._lookups.note(block.lineno - 1, message, one_of(block.name, offered))
            around = offered.get(block.name, frozenset())
            own = {"super"} if block.name in offered else set()
            self._block(block, parent.defined | around | own)
            self.blocks[block.name] = around
        self.blocks = offered | self.blocks

    def _block(self, node: nodes.Block, names: frozenset[str] = frozenset()) -> None:
        self.blocks[node.name] = frozenset(self._bindings.names()) if node.scoped else frozenset()
        self.required = (
            {*self.required, node.name} if node.required else self.required - {node.name}
        )
        with self._bindings.in_block(names, is_scoped=node.scoped):
            self._visit_all(node.body)

    @property
    def files(self) -> list[FileUse]:
        """The files the template names, each import with the members that are used."""
        files = list(self._files)
        for name, index in self._modules.items():
            imported = tuple(self._members.get(name, ()))
            files[index] = msgspec.structs.replace(files[index], imported=imported)
        return files

    def _visit_all(self, children: Iterable[nodes.Node]) -> None:
        for child in children:
            self.visit(child)

    def visit(self, node: nodes.Node) -> None:
        """Walk a part of a template and what is below it."""
        reason = why_refused(node)
        if reason:
            self._lookups.note(node.lineno - 1, reason, "")
            return
        if isinstance(node, nodes.Expr):
            self._expression(node)
            return
        match node:
            case nodes.For():
                self._for(node)
            case nodes.If():
                self._if(node)
            case nodes.Assign():
                self.visit(node.node)
                self._set(node.target, node.node)
            case nodes.AssignBlock():
                self._inside(node.body)
                self._set(node.target, node)
            case nodes.Macro():
                self._bindings.bind(node.name, is_derived=True)
                self._function(node)
            case nodes.CallBlock():
                self.visit(node.call)
                self._function(node)
            case nodes.With():
                self._with(node)
            case nodes.Include() | nodes.Import() | nodes.FromImport():
                self._import(node)
            case nodes.Block():
                self._block(node)
            case nodes.FilterBlock():
                self.visit(node.filter)
                self._inside(node.body)
            case nodes.Output():
                for part in node.nodes:
                    self._lookups.printed(part)
                    self.visit(part)
            case _:
                self._visit_all(children_of(node))

    def _expression(self, node: nodes.Expr) -> None:
        match node:
            case nodes.Call():
                self._call(node)
            case nodes.Getattr() | nodes.Getitem():
                self._attribute(node)
            case nodes.Name(ctx="load"):
                self._lookups.name(node)
            case nodes.Filter():
                self._lookups.filter(node)
                self._maybe_absent(node, _DEFAULTS)
            case nodes.Test():
                self._lookups.test(node)
                self._maybe_absent(node, _PRESENCE)
            case nodes.And() | nodes.Or():
                held, failed = guards(node.left)
                self.visit(node.left)
                with self._bindings.guarding(held if isinstance(node, nodes.And) else failed):
                    self.visit(node.right)
            case nodes.CondExpr():
                self._choice(node)
            case nodes.Compare() | nodes.BinExpr():
                self._lookups.operation(node)
                self._visit_all(children_of(node))
            case _:
                self._visit_all(children_of(node))

    def _maybe_absent(self, node: nodes.Filter | nodes.Test, names: tuple[str, ...]) -> None:
        """Visit a filter or test; those in `names` accept an undefined name."""
        for child in children_of(node):
            takes_absent = node.name in names and child is node.node
            if takes_absent and isinstance(child, nodes.Name):
                self._lookups.maybe(child)
                continue
            with self._lookups.without_fields() if takes_absent else contextlib.nullcontext():
                self.visit(child)

    def _if(self, node: nodes.If) -> None:
        with contextlib.ExitStack() as earlier:
            for branch in (node, *node.elif_):
                self.visit(branch.test)
                held, failed = guards(branch.test)
                with self._bindings.guarding(held):
                    self._visit_all(branch.body)
                earlier.enter_context(self._bindings.guarding(failed))
            self._visit_all(node.else_)

    def _choice(self, node: nodes.CondExpr) -> None:
        self.visit(node.test)
        for part, known in zip((node.expr1, node.expr2), guards(node.test), strict=True):
            if part is not None:
                with self._bindings.guarding(known):
                    self.visit(part)

    def _for(self, node: nodes.For) -> None:
        self.visit(node.iter)
        is_derived = self._bindings.comes_from_step(node.iter)
        self._bindings.enter()
        meaning = self._lookups.meaning_of_each(node.iter)
        self._bindings.bind(node.target, is_derived=is_derived, meaning=meaning)
        self._bindings.bind("loop", is_derived=is_derived)
        if node.test is not None:
            self.visit(node.test)
        held, _ = guards(node.test) if node.test is not None else ((), ())
        with self._bindings.guarding(held):
            self._visit_all(node.body)
        self._bindings.leave()
        self._inside(node.else_)

    def _function(self, node: nodes.Macro | nodes.CallBlock) -> None:
        self._bindings.enter()
        for name in [*(argument.name for argument in node.args), *_IN_MACROS]:
            self._bindings.bind(name, is_derived=True)
        self._visit_all([*node.defaults, *node.body])
        self._bindings.leave()

    def _with(self, node: nodes.With) -> None:
        self._visit_all(node.values)
        flags = [self._bindings.comes_from_step(value) for value in node.values]
        self._bindings.enter()
        for target, is_derived in zip(node.targets, flags, strict=True):
            self._bindings.bind(target, is_derived=is_derived)
        self._visit_all(node.body)
        self._bindings.leave()

    def _inside(self, body: Iterable[nodes.Node]) -> None:
        self._bindings.enter()
        self._visit_all(body)
        self._bindings.leave()

    def _set(self, target: nodes.Node, value: nodes.Node) -> None:
        if isinstance(target, nodes.NSRef):
            self._lookups.name(nodes.Name(target.name, "load", lineno=target.lineno))
        else:
            self._bindings.assign(target, value, meaning=self._lookups.meaning(value))

    def _attribute(self, node: Lookup) -> None:
        if isinstance(node, nodes.Getitem):
            self.visit(node.arg)
        if self._lookups.attribute(node):
            if isinstance(node.node, nodes.Getitem):
                self.visit(node.node.arg)
            return
        owner, name = node.node, attribute_name(node)
        if isinstance(owner, nodes.Name) and owner.name in self._modules and name is not None:
            self._members.setdefault(owner.name, []).append((name, node.lineno))
        self.visit(owner)

    def _call(self, node: nodes.Call) -> None:
        function = node.node
        if isinstance(function, nodes.Getattr) and function.attr in METHODS:
            message, hint = f".{function.attr}() is not a method here", "use | items"
            if function.attr == "get":
                hint = 'write value["key"], or value.key | default(...)'
            self._lookups.note(function.lineno - 1, message, hint)
            self.visit(function.node)
            return
        if isinstance(function, nodes.Name):
            self._lookups.function(function)
            is_ours = not self._bindings.knows(function.name)
            if function.name in _FILE_FUNCTIONS and is_ours:
                self._file_call("read" if function.name == "read" else "glob", node)
        else:
            self.visit(function)
        self._visit_all(child for child in children_of(node) if child is not function)

    def _file_call(self, kind: Literal["read", "glob"], node: nodes.Call) -> None:
        if len(node.args) != 1 or node.kwargs or node.dyn_args or node.dyn_kwargs:
            hint = f'for example {kind}("data/x.md")'
            self._lookups.note(node.node.lineno - 1, f"{kind} takes one path", hint)
        elif self._is_known_path(kind, node.args[0]):
            for path, offset in literal_texts(node.args[0]):
                self._files.append(FileUse(kind=kind, path=path, offset=offset))

    def _import(self, node: _Import) -> None:
        self.visit(node.template)
        if self._is_known_path("include", node.template):
            scope = self._bindings.scope_of_include() if node.with_context else ISOLATED
            is_include = isinstance(node, nodes.Include)
            literals = literal_texts(node.template)
            self.is_open = self.is_open or not literals
            for path, offset in literals:
                use = FileUse(
                    kind="include" if is_include else "import",
                    path=path,
                    offset=offset,
                    scope=scope,
                    is_optional=isinstance(node, nodes.Include) and node.ignore_missing,
                    imported=self._imported_names(node),
                )
                self._files.append(use)
                if isinstance(node, nodes.Import):
                    self._modules[node.target] = len(self._files) - 1
        if isinstance(node, nodes.Import):
            self._bindings.bind(node.target, is_derived=True)
        elif isinstance(node, nodes.FromImport):
            for entry in node.names:
                alias = entry if isinstance(entry, str) else entry[1]
                self._bindings.bind(alias, is_derived=True)

    def _imported_names(self, node: _Import) -> tuple[tuple[str, int], ...]:
        """Return the names in `from ... import`, with their offsets."""
        if not isinstance(node, nodes.FromImport):
            return ()
        start = self._text.find(" import ", node.lineno - 1)
        imported: list[tuple[str, int]] = []
        for entry in node.names:
            name = entry if isinstance(entry, str) else entry[0]
            found = re.compile(rf"\b{re.escape(name)}\b").search(self._text, max(start, 0) + 8)
            imported.append((name, found.start() if found else node.lineno - 1))
        return tuple(imported)

    def _is_known_path(self, what: str, argument: nodes.Node) -> bool:
        """Add a problem and return False if a path may come from a step."""
        if not self._bindings.comes_from_step(argument):
            return True
        message = f"{what} cannot take a path that may come from a step"
        hint = (
            "use a literal, an input or an item, not a macro's argument or a namespace; "
            "to choose among files, let a loop read each, and choose among its texts"
        )
        self._lookups.note(argument.lineno - 1, message, hint)
        return False


MAX_INCLUDES: Final = 20
"""How deep files may include each other."""
MAX_INCLUDED: Final = 1024 * 1024
"""How many characters all files a template includes may have; each counts as at least 2,000."""
_LEAST: Final = 2_000
_NOT_ONE: Final = "this must be one expression"
_BARE: Final = "write it bare: steps.draft.status == 'ok'"


def check_template(
    environment: Environment, text: str, origin: Origin, scope: Scope, *, is_path: bool = False
) -> CheckedTemplate:
    """Check every name in `text` and in the files it includes, without rendering.

    Problems in included files have places there. `is_path` if the text is rendered as a path.
    """
    if "{" not in text:
        return CheckedTemplate()
    mode: Mode = "path" if is_path else "text"
    checker = _Checker(environment, (origin.path,), _IncludedFiles())
    checked = checker.check(text, origin, scope, mode)
    return checked.with_problems(checked.unfilled(origin.locate(0)))


def check_expression(
    environment: Environment, text: str, origin: Origin, scope: Scope
) -> CheckedTemplate:
    """Check a bare expression, as in `if`; `{{ x }}` is the same as `x`."""
    template, moved = as_template(text, origin)
    checker = _Checker(environment, (origin.path,), _IncludedFiles())
    return checker.check(template, moved, scope, mode="value")


class _IncludedFiles:
    """The results for the files of one template, and how much more text they may have."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, Scope], CheckedTemplate] = {}
        self._left = MAX_INCLUDED

    def covers(self, text: str) -> bool:
        self._left -= max(len(text), _LEAST)
        return self._left >= 0


class _Checker:
    """Checks one file: the last of `include_path`, the files by which it is included."""

    def __init__(
        self, environment: Environment, include_path: tuple[str, ...], included: _IncludedFiles
    ) -> None:
        self._environment = environment
        self._include_path = include_path
        self._included = included

    def check(
        self, text: str, origin: Origin, scope: Scope, mode: Mode = "text"
    ) -> CheckedTemplate:
        warnings = tuple(habit_warnings(text, origin, self._environment.lexer))
        bindings = Bindings(scope)
        lookups = Lookups(self._environment, origin, scope, bindings, is_text=mode == "text")
        walker = Walker(text, bindings, lookups)
        included, ensured = list[CheckedTemplate](), frozenset[str]()
        try:
            lookups.note_tests(text, parsed := self._environment.parsed(text, origin))
            if mode == "value":
                expression = only_expression(parsed)
                if expression is None:
                    return CheckedTemplate(problems=(Problem(origin.locate(0), _NOT_ONE, _BARE),))
                walker.visit(expression)
                ensured, _ = guards(expression)
            else:
                included = self._walked(walker, parsed, origin)
                if "{%" in text:  # only a tag sets a name
                    warnings += tuple(loss_warnings(parsed, scope.extra, origin))
            if not errors_only(tuple(lookups.problems)):
                self._compile(text, parsed, origin, mode)
        except TemplateSyntaxError as error:
            problem = syntax_problem(error, text, origin, is_bare=mode == "value")
            return CheckedTemplate(problems=(*warnings, problem))
        except (RecursionError, SyntaxError, MemoryError, OverflowError):
            message = "the template is too large or nested too deep"
            problem = Problem(origin.locate(0), message, "split it with set or include")
            return CheckedTemplate(problems=(*warnings, problem))
        own = CheckedTemplate(
            references=tuple(lookups.references),
            problems=(*warnings, *lookups.problems),
            defined=bindings.exported,
            is_open=walker.is_open,
            blocks=tuple(walker.blocks.items()),
            required=frozenset(walker.required),
            ensured=ensured,
        )
        included += [self._file(use, origin) for use in walker.files]
        return own.joined(included)

    def _walked(
        self, walker: Walker, parsed: nodes.Template, origin: Origin
    ) -> list[CheckedTemplate]:
        """Walk a template, and the blocks that fill those of the file it extends: return that."""
        extended = walker.walk(parsed)
        if extended is None:
            return []
        parent = self._file(extended, origin)
        walker.fill(parent)
        return [parent]

    def _compile(self, text: str, parsed: nodes.Template, origin: Origin, mode: Mode) -> None:
        """Compile a template that may fail to; others are compiled when they are rendered."""
        if not certainly_compiles(parsed, is_path=mode == "path"):
            self._environment.compiled(text, origin, mode)

    def _file(self, use: FileUse, origin: Origin) -> CheckedTemplate:
        """Check a file that is named literally."""
        reader = self._environment.reader
        place = origin.locate(use.offset)
        try:
            if use.kind == "glob":
                reader.glob(use.path, relative_to=origin.path)
                return CheckedTemplate(globs=(use.path,))
            path, text = reader.source(use.path, relative_to=origin.path)
        except FileProblem as error:
            problem = Problem(place, error.message, error.hint)
            return CheckedTemplate(problems=() if use.is_optional else (problem,))
        if use.kind == "read":
            return CheckedTemplate(files=(path,))
        if path in self._include_path or len(self._include_path) > MAX_INCLUDES:
            return CheckedTemplate(files=(path,), problems=(self._loop_problem(path, place),))
        included = self._template(path, text, use.scope)
        missing = [*_missing(use, included, path, origin)]
        missing += included.unfilled(place) if use.kind != "extends" else ()
        files, problems = (path, *included.files), (*included.problems, *missing)
        return msgspec.structs.replace(included, files=files, problems=problems)

    def _template(self, path: str, text: str, scope: Scope) -> CheckedTemplate:
        """Check a file once for each scope."""
        known = self._included.known.get((path, scope))
        if known is None:
            origin = Origin.for_file(path, text, shown=self._environment.reader.shown(path))
            if not self._included.covers(text):
                message = "too many files are included before this one"
                problem = Problem(origin.locate(0), message, "include fewer")
                return CheckedTemplate(problems=(problem,))
            checker = _Checker(self._environment, (*self._include_path, path), self._included)
            known = checker.check(text, origin, scope)
            self._included.known[path, scope] = known
        return known

    def _loop_problem(self, path: str, place: Place) -> Problem:
        if path not in self._include_path:
            message = f"files include each other over {MAX_INCLUDES} deep"
            return Problem(place, message, "include fewer")
        ring = " -> ".join([*self._include_path[self._include_path.index(path) :], path])
        return Problem(place, f"these files include each other: {ring}", "remove one of them")


def _missing(
    use: FileUse, included: CheckedTemplate, path: str, origin: Origin
) -> Iterator[Problem]:
    """Yield a problem for each imported name that the file does not define."""
    if any(problem.level == "error" for problem in included.problems):
        return  # its definitions are not known
    for name, offset in use.imported:
        if name not in included.defined:
            message = f'{path} does not define "{name}"'
            yield Problem(origin.locate(offset), message, one_of(name, included.defined))
