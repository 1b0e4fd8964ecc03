"""Changes a parsed template so that nothing in it escapes the budget, and refuses what would."""

from collections.abc import Iterator, Mapping
from typing import Final

from jinja2 import TemplateSyntaxError, nodes
from jinja2.visitor import NodeTransformer

from poeflow.templates.includes import End

COUNTED: Final = " counted"
CONCAT: Final = " concat"
STEPPED: Final = " stepped"
WALKED: Final = " walked"
KEPT: Final = " kept"
MAPPING: Final = " mapping"
NUMBER: Final = " number"
SEARCHED: Final = " searched"
SEGMENT: Final = " segment"
SPENT: Final = " spent"
INCLUDED: Final = " included"
"""Filter names no template can write: they hold a space."""

MAX_DEPTH: Final = 60
MAX_ELIFS: Final = 100
MAX_LOOPS: Final = 10
SMALL_NUMBER: Final = 1_000_000
"""Up to here the numbers of a template are constants; their hashes cannot be chosen freely."""
_LOOKUP: Final = 5
"""How many times the work of another node looking up a name takes."""
_MAY_FAIL: Final = (
    *(nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.With, nodes.AssignBlock),
    *(nodes.NSRef, nodes.Import, nodes.FromImport),
)
_BODIES: Final = (nodes.For, nodes.Macro, nodes.CallBlock)
_REFUSED: Final = {
    nodes.EvalContextModifier: "autoescape is not available in flows",
    nodes.Extends: "extends is not available in flows; use include or import",
    nodes.Block: "block is not available in flows; use include or a macro",
}


def rewrite(
    template: nodes.Template, *, ends: Mapping[int, End], is_path: bool = False
) -> nodes.Template:
    """Put every loop, new value and piece of text under the budget.

    `ends` has for each include, by its offset, what follows it in its line. In a path each
    expression must give one safe segment. Raises `TemplateSyntaxError` for what flows do not take.
    """
    check_shape(template, is_path=is_path)
    rewritten = _Rewriter(ends, _works(template), is_path=is_path).visit(template)
    if not isinstance(rewritten, nodes.Template):
        raise AssertionError("a template stays a template")
    return rewritten


def _works(template: nodes.Template) -> dict[int, int]:
    """Return the work of running each body once, by the id of its node, inner bodies left out.

    Without recursion, as `_all_nodes`.
    """
    works: dict[int, int] = {}
    waiting: list[tuple[nodes.Node, int]] = [(template, id(template))]
    while waiting:
        node, owner = waiting.pop()
        is_lookup = isinstance(node, nodes.Getattr | nodes.Getitem)
        works[owner] = works.get(owner, 0) + (_LOOKUP if is_lookup else 1)
        for field, value in node.iter_fields():
            is_inner = field in ("body", "test") if isinstance(node, nodes.For) else field == "body"
            inside = id(node) if is_inner and isinstance(node, _BODIES) else owner
            children = value if isinstance(value, list) else [value]
            waiting += [(child, inside) for child in children if isinstance(child, nodes.Node)]
    return works


def check_shape(template: nodes.Template, *, is_path: bool = False) -> None:
    """Refuse what flows do not take, and what the compiler would fall over."""
    for node, depth, loops in _all_nodes(template):
        reason = refusal(node, depth)
        if loops > MAX_LOOPS:
            reason = f"loops are nested over {MAX_LOOPS} deep; use a macro"
        if is_path and isinstance(node, nodes.Include | nodes.Import | nodes.FromImport):
            reason = "a path cannot include or import"
        if reason:
            raise TemplateSyntaxError(reason, node.lineno)


def refusal(node: nodes.Node, depth: int = 0) -> str:
    """Return why flows do not take `node`, or the empty string."""
    if depth > MAX_DEPTH:
        return f"the template is nested over {MAX_DEPTH} deep; split it with set or include"
    if isinstance(node, nodes.For) and node.recursive:
        return "recursive loops are not available in flows; use a macro"
    if isinstance(node, nodes.Include) and isinstance(node.template, nodes.List | nodes.Tuple):
        return "include takes one path; add ignore missing where the file may be absent"
    if isinstance(node, nodes.Name) and node.name == "loop" and node.ctx == "store":
        return "loop is what a for gives; choose another name"
    if isinstance(node, nodes.Tuple) and any(isinstance(n, nodes.Slice) for n in node.items):
        return "a slice takes one range"
    if isinstance(node, nodes.If) and len(node.elif_) > MAX_ELIFS:
        return f"an if has over {MAX_ELIFS} branches; look the value up in a mapping"
    return next((why for kind, why in _REFUSED.items() if isinstance(node, kind)), "")


def compiles_surely(template: nodes.Template) -> bool:
    """Whether a template that passes `check_shape` has nothing the compiler could refuse."""
    for node, _, _ in _all_nodes(template):
        if isinstance(node, _MAY_FAIL):
            return False
        if isinstance(node, nodes.Call | nodes.Filter | nodes.Test) and len(node.kwargs) > 1:
            return False  # a name may be given twice
    return True


def _all_nodes(template: nodes.Template) -> Iterator[tuple[nodes.Node, int, int]]:
    """Yield every node with its depth and the loops around it.

    Without recursion: the depth is not known to be small.
    """
    waiting: list[tuple[nodes.Node, int, int]] = [(template, 0, 0)]
    while waiting:
        node, depth, loops = waiting.pop()
        yield node, depth, loops
        loops += isinstance(node, nodes.For)
        waiting += [(child, depth + 1, loops) for child in node.iter_child_nodes()]


class _Rewriter(NodeTransformer):
    def __init__(self, ends: Mapping[int, End], works: Mapping[int, int], *, is_path: bool) -> None:
        self._ends = ends
        self._works = works
        self._is_path = is_path

    def generic_visit(self, node: nodes.Node, *args: object, **kwargs: object) -> nodes.Node:
        node = super().generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                node.iter = _filter(node.iter, COUNTED, self._works.get(id(node), 0))
            case nodes.Template() | nodes.Macro() | nodes.CallBlock() if node.body:
                node.body = [self._spent(node), *node.body]
            case nodes.Include() | nodes.Import() | nodes.FromImport():
                node.template = _filter(node.template, STEPPED)
                return self._included(node) if isinstance(node, nodes.Include) else node
            case nodes.Output():
                node.nodes = [self._printed(part) for part in node.nodes]
            case nodes.Compare():
                node.expr = _filter(node.expr, WALKED)
                for operand in node.ops:
                    name = SEARCHED if operand.op in ("in", "notin") else WALKED
                    operand.expr = _filter(operand.expr, name)
            case nodes.Concat():
                return _filter(nodes.List(node.nodes, lineno=node.lineno), CONCAT)
            case nodes.Dict():
                parts = [part for pair in node.items for part in (pair.key, pair.value)]
                return _filter(nodes.List(parts, lineno=node.lineno), MAPPING)
            case nodes.List() | nodes.Tuple(ctx="load"):
                return _filter(node, KEPT)
            case nodes.Const() if type(node.value) is int and node.value > SMALL_NUMBER:
                return _filter(nodes.Const(str(node.value), lineno=node.lineno), NUMBER)
            case nodes.Getitem():
                return _filter(node, KEPT) if isinstance(node.arg, nodes.Slice) else node
        return node

    def _included(self, node: nodes.Include) -> nodes.Node:
        """Have the included text meet the line it is in."""
        end = nodes.Const(self._ends[node.lineno], lineno=node.lineno)
        joined = nodes.Filter(None, INCLUDED, [end], [], None, None, lineno=node.lineno)
        return nodes.FilterBlock([node], joined, lineno=node.lineno)

    def _spent(self, node: nodes.Node) -> nodes.Node:
        """Return a statement that counts the work of running the body of `node` once."""
        nothing = nodes.Const(None, lineno=node.lineno)
        work = _filter(nothing, SPENT, self._works.get(id(node), 0))
        return nodes.ExprStmt(work, lineno=node.lineno)

    def _printed(self, node: nodes.Expr) -> nodes.Expr:
        """Have texts as they stand counted, and expressions in a path checked."""
        if isinstance(node, nodes.TemplateData):
            return nodes.Const(node.data, lineno=node.lineno)
        return _filter(node, SEGMENT) if self._is_path else node


def _filter(node: nodes.Node, name: str, *arguments: int) -> nodes.Expr:
    if isinstance(node, nodes.Const) and name == WALKED:
        return node
    given = [nodes.Const(argument, lineno=node.lineno) for argument in arguments]
    return nodes.Filter(node, name, given, [], None, None, lineno=node.lineno)
