"""Walks a parsed template with the scopes it opens, and notes every name and file it uses."""

import contextlib
import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from jinja2 import nodes

from poeflow.templates.lookups import METHODS, Lookup, Lookups, attribute_name
from poeflow.templates.rewrite import refusal
from poeflow.templates.scope import Scope
from poeflow.templates.scopes import Bindings, guards

_FILE_FUNCTIONS: Final = ("read", "glob")
_DEFAULTS: Final = ("default", "d")
_PRESENCE: Final = ("defined", "undefined")
_IN_MACROS: Final = ("caller", "varargs", "kwargs")
_ISOLATED: Final = Scope(
    inputs=frozenset(),
    steps=frozenset(),
    extra=frozenset(),
    is_isolated=True,
    stands="included",
)

_Import = nodes.Include | nodes.Import | nodes.FromImport


class FileUse(msgspec.Struct, frozen=True, kw_only=True):
    """A file or pattern named literally, at `offset`; `scope` is what a template in it sees.

    `wanted` are the names taken from it, with their offsets. `is_optional` files may be missing.
    """

    kind: Literal["read", "glob", "include", "import"]
    path: str
    offset: int
    scope: Scope = _ISOLATED
    is_optional: bool = False
    wanted: tuple[tuple[str, int], ...] = ()


class Walker:
    """Walks one template: references and problems are in `lookups`, files in `files`.

    `is_open` tells that it met a file to include that is not named literally.
    """

    def __init__(self, text: str, bindings: Bindings, lookups: Lookups) -> None:
        self._text = text
        self._bindings = bindings
        self._lookups = lookups
        self.is_open = False
        self._files: list[FileUse] = []
        self._modules: dict[str, int] = {}
        self._members: dict[str, list[tuple[str, int]]] = {}

    def walk(self, template: nodes.Template) -> None:
        self._visit_all(template.body)

    def walk_expression(self, expression: nodes.Expr) -> None:
        """Walk an expression whose value is used, and never printed."""
        self._visit(expression)

    @property
    def files(self) -> list[FileUse]:
        """What the template names, each import with the members used of it."""
        files = list(self._files)
        for name, index in self._modules.items():
            wanted = tuple(self._members.get(name, ()))
            files[index] = msgspec.structs.replace(files[index], wanted=wanted)
        return files

    def _visit_all(self, children: Iterable[nodes.Node]) -> None:
        for child in children:
            self._visit(child)

    def _visit(self, node: nodes.Node) -> None:
        reason = refusal(node)
        if reason:
            self._lookups.note(node.lineno - 1, reason, "")
            return
        match node:
            case nodes.For():
                self._for(node)
            case nodes.If():
                self._if(node)
            case nodes.Assign():
                self._visit(node.node)
                self._set(node.target, node.node)
            case nodes.AssignBlock():
                self._inside(node.body)
                self._set(node.target, node)
            case nodes.Macro():
                self._bindings.bind(node.name, is_derived=True)
                self._function(node)
            case nodes.CallBlock():
                self._visit(node.call)
                self._function(node)
            case nodes.With():
                self._with(node)
            case nodes.Include() | nodes.Import() | nodes.FromImport():
                self._import(node)
            case nodes.FilterBlock():
                self._visit(node.filter)
                self._inside(node.body)
            case nodes.Output():
                for part in node.nodes:
                    self._lookups.printed(part)
                    self._visit(part)
            case _:
                self._expression(node)

    def _expression(self, node: nodes.Node) -> None:
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
                self._visit(node.left)
                with self._bindings.guarding(held if isinstance(node, nodes.And) else failed):
                    self._visit(node.right)
            case nodes.CondExpr():
                self._choice(node)
            case _:
                self._visit_all(node.iter_child_nodes())

    def _maybe_absent(self, node: nodes.Filter | nodes.Test, names: tuple[str, ...]) -> None:
        """Visit a filter or test; those of `names` take a name that nobody sets."""
        for child in node.iter_child_nodes():
            takes_absent = node.name in names and child is node.node
            if takes_absent and isinstance(child, nodes.Name):
                self._lookups.maybe(child)
                continue
            with self._lookups.without_fields() if takes_absent else contextlib.nullcontext():
                self._visit(child)

    def _if(self, node: nodes.If) -> None:
        with contextlib.ExitStack() as earlier:
            for branch in (node, *node.elif_):
                self._visit(branch.test)
                held, failed = guards(branch.test)
                with self._bindings.guarding(held):
                    self._visit_all(branch.body)
                earlier.enter_context(self._bindings.guarding(failed))
            self._visit_all(node.else_)

    def _choice(self, node: nodes.CondExpr) -> None:
        self._visit(node.test)
        for part, known in zip((node.expr1, node.expr2), guards(node.test), strict=True):
            if part is not None:
                with self._bindings.guarding(known):
                    self._visit(part)

    def _for(self, node: nodes.For) -> None:
        self._visit(node.iter)
        is_derived = self._bindings.comes_from_step(node.iter)
        self._bindings.enter()
        result_of = self._lookups.results_of(node.iter)
        self._bindings.bind(node.target, is_derived=is_derived, result_of=result_of)
        self._bindings.bind("loop", is_derived=is_derived)
        self._visit_all([*([node.test] if node.test else []), *node.body])
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
            self._bindings.assign(target, value, result_of=self._lookups.result_of(value))

    def _attribute(self, node: Lookup) -> None:
        if isinstance(node, nodes.Getitem):
            self._visit(node.arg)
        if self._lookups.attribute(node):
            if isinstance(node.node, nodes.Getitem):
                self._visit(node.node.arg)
            return
        owner, name = node.node, attribute_name(node)
        if isinstance(owner, nodes.Name) and owner.name in self._modules and name is not None:
            self._members.setdefault(owner.name, []).append((name, node.lineno))
        self._visit(owner)

    def _call(self, node: nodes.Call) -> None:
        function = node.node
        if isinstance(function, nodes.Getattr) and function.attr in METHODS:
            message = f".{function.attr}() is not a method here"
            hint = 'write value["key"], or value.key | default(...)'
            self._lookups.note(
                function.lineno - 1, message, hint if function.attr == "get" else "use | items"
            )
            self._visit(function.node)
            return
        if isinstance(function, nodes.Name):
            self._lookups.function(function)
            is_ours = not self._bindings.knows(function.name)
            if function.name in _FILE_FUNCTIONS and is_ours:
                self._file_call("read" if function.name == "read" else "glob", node)
        else:
            self._visit(function)
        self._visit_all(child for child in node.iter_child_nodes() if child is not function)

    def _file_call(self, kind: Literal["read", "glob"], node: nodes.Call) -> None:
        if len(node.args) != 1 or node.kwargs or node.dyn_args or node.dyn_kwargs:
            hint = f'for example {kind}("data/x.md")'
            self._lookups.note(node.node.lineno - 1, f"{kind} takes one path", hint)
        elif self._is_known_path(kind, node.args[0]):
            for path, offset in _literals(node.args[0]):
                self._files.append(FileUse(kind=kind, path=path, offset=offset))

    def _import(self, node: _Import) -> None:
        self._visit(node.template)
        if self._is_known_path("include", node.template):
            scope = self._bindings.scope_of_include() if node.with_context else _ISOLATED
            is_include = isinstance(node, nodes.Include)
            literals = _literals(node.template)
            self.is_open = self.is_open or not literals
            for path, offset in literals:
                use = FileUse(
                    kind="include" if is_include else "import",
                    path=path,
                    offset=offset,
                    scope=scope,
                    is_optional=isinstance(node, nodes.Include) and node.ignore_missing,
                    wanted=self._wanted(node),
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

    def _wanted(self, node: _Import) -> tuple[tuple[str, int], ...]:
        """Return the names a `from ... import` takes, with their offsets."""
        if not isinstance(node, nodes.FromImport):
            return ()
        start = self._text.find(" import ", node.lineno - 1)
        wanted: list[tuple[str, int]] = []
        for entry in node.names:
            name = entry if isinstance(entry, str) else entry[0]
            found = re.compile(rf"\b{re.escape(name)}\b").search(self._text, max(start, 0) + 8)
            wanted.append((name, found.start() if found else node.lineno - 1))
        return tuple(wanted)

    def _is_known_path(self, what: str, argument: nodes.Node) -> bool:
        """Note a problem where a path may come from a step."""
        if not self._bindings.comes_from_step(argument):
            return True
        message = f"{what} cannot take a path that may come from a step"
        hint = "use a literal or an input, not a macro's argument or a namespace"
        self._lookups.note(argument.lineno - 1, message, hint)
        return False


def _literals(node: nodes.Node) -> list[tuple[str, int]]:
    """Return the text a node is literally, with its offset, if it is one."""
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return [(node.value, node.lineno - 1)]
    return []
