"""Restricts what templates can access and how much work they can do.

A parsed template is rewritten so that all its work is counted.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from types import BuiltinMethodType, MethodType
from typing import Any, Final

from jinja2 import TemplateSyntaxError, nodes
from jinja2.environment import TemplateModule
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from poeflow.templates.includes import End, PathIn, included_text, parent_of
from poeflow.templates.values import Instances, to_text
from poeflow.templates.work_budget import (
    LOOKUP,
    MAX_ITEMS,
    OverBudgetError,
    WorkBudget,
    bounded,
    check_scan,
    mapping,
    replaced_size,
)

STRING_METHODS: Final = frozenset(
    {
        *("capitalize", "count", "endswith", "find", "isalpha", "isdigit", "join", "lower"),
        *("lstrip", "removeprefix", "removesuffix", "replace", "rsplit", "rstrip", "split"),
        *("splitlines", "startswith", "strip", "title", "upper"),
    }
)
LIST_METHODS: Final = frozenset({"count", "index"})
LOOP_ATTRIBUTES: Final = frozenset(
    {
        *("changed", "cycle", "first", "index", "index0", "last", "length", "nextitem"),
        *("previtem", "revindex", "revindex0"),
    }
)
_SPLITTERS: Final = frozenset({"rsplit", "split", "splitlines"})
_SEARCHING: Final = frozenset({"count", "find", "replace", "split"})
_EACH_CHARACTER: Final = frozenset(
    {"capitalize", "isalpha", "isdigit", "lower", "splitlines", "split", "title", "upper"}
)
"""Methods that process each character by itself, ten times slower than a copy."""
_LONGEST_CHEAP_SEARCH: Final = 100
"""The longest search text whose search takes longer than in proportion to its length."""
_CALL_STEPS: Final = 3
_MAPPING_METHODS: Final = frozenset({"get", "items", "keys", "values"})
_CHANGING: Final = frozenset({"append", "extend", "insert"})
_MISSING: Final = object()


def attribute(value: Any, name: str) -> Any:
    """Return `value.name` for a template. Raises `LookupError` with the reason."""
    found = _MISSING
    match value:
        case Instances():
            return value.attribute(name)
        case dict() | Mapping():  # in that order: only the second is asked by a call
            return item(value, name)
        case Undefined():
            return value.attribute  # raises its error
        case str() if name in STRING_METHODS:
            found = getattr(value, name)
        case list() if name in LIST_METHODS:
            found = getattr(value, name)
        case tuple() if name in getattr(value, "_fields", ()):  # what groupby gives
            found = getattr(value, name)
        case LoopContext() if name in LOOP_ATTRIBUTES:
            found = getattr(value, name)
        case TemplateModule() if not name.startswith("_"):
            found = vars(value).get(name, _MISSING)
        case Namespace() if not name.startswith("_"):
            found = getattr(value, name, _MISSING)
    if found is _MISSING:
        hint = "; lists do not change: write a + [b]" if name in _CHANGING else ""
        raise LookupError(f'{_KINDS.get(type(value), "this value")} has no "{name[:80]}"{hint}')
    return found


def item(value: Any, key: Any) -> Any:
    """Return `value[key]` for a template. Raises `LookupError` with the reason."""
    if isinstance(value, Instances):
        return value.instance(key)
    if isinstance(value, dict | Mapping):
        if isinstance(key, str | int) and key in value:
            return value[key]
        # Short, because a template may look up missing keys a million times.
        known = ", ".join(str(name)[:80] for name in islice(value, 12)) or "nothing"
        hint = "; use | items" if isinstance(key, str) and key in _MAPPING_METHODS else ""
        raise LookupError(f'there is no "{_short(key)}" here, only {known}{hint}')
    if isinstance(value, str | list | tuple | range) and isinstance(key, int):
        if -len(value) <= key < len(value):
            return value[key]
        raise LookupError(f"there is no item {key}, only {len(value)} items")
    if not isinstance(key, str):
        raise LookupError(f'there is no "{_short(key)}" here')
    return attribute(value, key)


def check_call(function: Any, arguments: tuple[Any, ...], budget: WorkBudget) -> bool:
    """Count a call and bound it if it is a method. Return whether its result must be counted.

    Raises `OverBudgetError` or `TypeError`.
    """
    budget.step(_CALL_STEPS)
    budget.work(len(arguments))
    if isinstance(function, MethodType) and isinstance(function.__self__, LoopContext):
        budget.walk(*arguments)
    if not isinstance(function, BuiltinMethodType):
        return False
    owner = function.__self__
    budget.walk(owner, *arguments)
    if isinstance(owner, str):
        _check_text_method(function.__name__, owner, arguments, budget)
    return True


def _short(key: object) -> str:
    return key[:80] if isinstance(key, str) else f"{key}" if isinstance(key, int) else "that key"


def _check_text_method(
    name: str, text: str, arguments: tuple[Any, ...], budget: WorkBudget
) -> None:
    texts = [part for part in arguments if isinstance(part, str)]
    if name in _EACH_CHARACTER:
        budget.work(len(text) // 10)
        bounded(len(text) if text.isascii() or name.startswith("is") else 3 * len(text))
    if texts and name in _SEARCHING:
        check_scan(text, texts[0][:_LONGEST_CHEAP_SEARCH], budget)
    if name == "replace" and len(texts) == 2:
        bounded(replaced_size(text, texts[0], texts[1]))
    elif name == "join" and arguments and isinstance(arguments[0], list | tuple | dict | str):
        joined = [part for part in arguments[0] if isinstance(part, str)]
        bounded(sum(map(len, joined)) + len(text) * len(arguments[0]))
    elif name in _SPLITTERS and len(text) > 4 * MAX_ITEMS:
        raise OverBudgetError(f"a text over {4 * MAX_ITEMS:,} characters cannot be split")
    if texts and name in ("rsplit", "strip", "lstrip", "rstrip"):
        check_scan(text, texts[0], budget)


_KINDS: Final = {
    str: "a text",
    list: "a list",
    tuple: "a list",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "none",
    Macro: "a macro",
    LoopContext: "loop",
    TemplateModule: "the imported file",
    Namespace: "the namespace",
}


MAX_BITS: Final = 1_024
"""Up to this size arithmetic and conversion to text take a microsecond or two."""
_SEQUENCES: Final = (str, bytes, list, tuple, dict)


def check_operands(operator: str, left: object, right: object, budget: WorkBudget) -> None:
    """Raise `TypeError` or `OverBudgetError` if the result of an operation could be huge."""
    sequences = [one for one in (left, right) if isinstance(one, _SEQUENCES)]
    if sequences and operator != "+":
        raise TypeError(f"bad operand type for {operator}: '{type(sequences[0]).__name__}'")
    if sequences:
        _check_sum(left, right, budget)
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        if operator == "**":
            bits = left.bit_length() * max(right, 1)
        if bits > MAX_BITS:
            raise OverBudgetError("a number would have over 300 digits")


def _check_sum(left: object, right: object, budget: WorkBudget) -> None:
    if isinstance(left, str) and isinstance(right, str):
        bounded(len(left) + len(right))
    elif isinstance(left, list) and isinstance(right, list):
        budget.walk(left, right)
    else:
        raise TypeError(f"+ cannot add {type(left).__name__} and {type(right).__name__}")


COUNTED: Final = " counted"
CONCAT: Final = " concat"
FILE_WORK: Final = " file work"
WALKED: Final = " walked"
REUSED: Final = " reused"
MAPPING: Final = " mapping"
NUMBER: Final = " number"
SEARCHED: Final = " searched"
SEGMENT: Final = " segment"
BODY_WORK: Final = " body work"
INCLUDED: Final = " included"
WRITTEN_IN: Final = " written in"
"""Filter names that a template cannot write, as they contain a space."""

MAX_TEMPLATE_DEPTH: Final = 60
MAX_ELIFS: Final = 100
MAX_LOOPS: Final = 10
SMALL_NUMBER: Final = 1_000_000
"""Up to this size numbers stay constants; their hashes cannot be chosen freely."""
_MAY_FAIL: Final = (
    *(nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.With, nodes.AssignBlock),
    *(nodes.NSRef, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block),
)
_BODIES: Final = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)
_OTHER_FILES: Final = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_REFUSED: Final = {
    nodes.EvalContextModifier: "autoescape is not available in flows",
}


def rewrite(
    template: nodes.Template,
    *,
    ends: Mapping[int, End],
    file: str | None = None,
    is_path: bool = False,
) -> nodes.Template:
    """Rewrite a template so that every loop, new value and printed text is counted.

    `ends` maps the offset of each include to what follows it; `file` is where the text stands. In
    a path each expression must give one safe segment. Raises `TemplateSyntaxError` for tags that
    flows do not allow.
    """
    check_shape(template, is_path=is_path)
    parent, works = parent_of(template), _works(template)
    if parent is not None:  # what is printed before it would stay
        template.body = [parent, *(node for node in template.body if node is not parent)]
    is_shared = parent is not None or next(template.find_all(nodes.Block), None) is not None
    rewriter = _Rewriter(ends, works, file=file if is_shared else None, is_path=is_path)
    rewritten = rewriter.visit(template)
    if not isinstance(rewritten, nodes.Template):
        raise AssertionError("a template stays a template")
    return rewritten


def _works(template: nodes.Template) -> dict[int, int]:
    """Return the work of running each body once without inner bodies, by the id of its node.

    Without recursion, as `_all_nodes`.
    """
    works: dict[int, int] = {}
    waiting: list[tuple[nodes.Node, int]] = [(template, id(template))]
    while waiting:
        node, owner = waiting.pop()
        is_lookup = isinstance(node, nodes.Getattr | nodes.Getitem)
        works[owner] = works.get(owner, 0) + (LOOKUP if is_lookup else 1)
        for field, value in node.iter_fields():
            is_inner = field in ("body", "test") if isinstance(node, nodes.For) else field == "body"
            inside = id(node) if is_inner and isinstance(node, _BODIES) else owner
            children = value if isinstance(value, list) else [value]
            waiting += [(child, inside) for child in children if isinstance(child, nodes.Node)]
    return works


def check_shape(template: nodes.Template, *, is_path: bool = False) -> None:
    """Raise `TemplateSyntaxError` for nodes that flows do not allow or that crash the compiler."""
    for node, depth, loops in _all_nodes(template):
        reason = why_refused(node, depth)
        if loops > MAX_LOOPS:
            reason = f"loops are nested over {MAX_LOOPS} deep; use a macro"
        if isinstance(node, nodes.Extends) and (depth > 1 or parent_of(template) is not node):
            reason = "extends stands once in a file, outside of other tags"
        if is_path and isinstance(node, _OTHER_FILES):
            reason = "a path cannot include, import or extend"
        if reason:
            raise TemplateSyntaxError(reason, node.lineno)


def why_refused(node: nodes.Node, depth: int = 0) -> str:
    """Return why flows do not allow `node`, or an empty string."""
    if depth > MAX_TEMPLATE_DEPTH:
        return (
            f"the template is nested over {MAX_TEMPLATE_DEPTH} deep; split it with set or include"
        )
    if isinstance(node, nodes.For) and node.recursive:
        return "recursive loops are not available in flows; use a macro"
    if isinstance(node, nodes.Extends) and not _is_literal(node.template):
        return "extends takes one literal path; use include for one that varies"
    if isinstance(node, nodes.Include) and isinstance(node.template, nodes.List | nodes.Tuple):
        return "include takes one path; add ignore missing if the file may be absent"
    if isinstance(node, nodes.Name) and node.name == "loop" and node.ctx == "store":
        return "loop is defined by for; choose another name"
    if isinstance(node, nodes.Tuple) and any(isinstance(n, nodes.Slice) for n in node.items):
        return "a slice takes one range"
    if isinstance(node, nodes.If) and len(node.elif_) > MAX_ELIFS:
        return f"an if has over {MAX_ELIFS} branches; look the value up in a mapping"
    return _refused(type(node))


@cache
def _refused(kind: type[nodes.Node]) -> str:
    return next((why for refused, why in _REFUSED.items() if issubclass(kind, refused)), "")


def _is_literal(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


def always_compiles(template: nodes.Template) -> bool:
    """Return whether a template that passes `check_shape` certainly compiles."""
    for node, _, _ in _all_nodes(template):
        if isinstance(node, _MAY_FAIL):
            return False
        if isinstance(node, nodes.Call | nodes.Filter | nodes.Test) and len(node.kwargs) > 1:
            return False  # a name may be given twice
    return True


def _all_nodes(template: nodes.Template) -> Iterator[tuple[nodes.Node, int, int]]:
    """Yield every node with its depth and the loops around it.

    Without recursion, as the depth may be large.
    """
    waiting: list[tuple[nodes.Node, int, int]] = [(template, 0, 0)]
    while waiting:
        node, depth, loops = waiting.pop()
        yield node, depth, loops
        loops += isinstance(node, nodes.For)
        waiting += [(child, depth + 1, loops) for child in children_of(node)]


def children_of(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield what `iter_child_nodes` of Jinja does, in half the time."""
    for field in node.fields:
        value = getattr(node, field, None)
        if isinstance(value, nodes.Node):
            yield value
        elif isinstance(value, list):
            for part in value:
                if isinstance(part, nodes.Node):
                    yield part


class _Rewriter(NodeTransformer):
    """`file` is set for a template whose blocks or text are rendered for another file."""

    def __init__(
        self, ends: Mapping[int, End], works: Mapping[int, int], *, file: str | None, is_path: bool
    ) -> None:
        self._ends = ends
        self._works = works
        self._file = file
        self._is_path = is_path

    def generic_visit(self, node: nodes.Node, *args: object, **kwargs: object) -> nodes.Node:
        node = super().generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                node.iter = _filter(node.iter, COUNTED, self._works.get(id(node), 0))
            case nodes.Template() | nodes.Macro() | nodes.CallBlock() | nodes.Block() if node.body:
                node.body = [self._body_work(node), *node.body]
            case nodes.Call(node=nodes.Name(name="read" | "glob")) if self._file and node.args:
                node.args = [_filter(node.args[0], WRITTEN_IN, self._file), *node.args[1:]]
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                node.template = _filter(node.template, FILE_WORK)
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
                return _filter(node, REUSED)
            case nodes.Const() if type(node.value) is int and node.value > SMALL_NUMBER:
                return _filter(nodes.Const(str(node.value), lineno=node.lineno), NUMBER)
            case nodes.Getitem():
                return _filter(node, REUSED) if isinstance(node.arg, nodes.Slice) else node
        return node

    def _included(self, node: nodes.Include) -> nodes.Node:
        """Return an include with the line end it needs."""
        end = nodes.Const(self._ends[node.lineno], lineno=node.lineno)
        joined = nodes.Filter(None, INCLUDED, [end], [], None, None, lineno=node.lineno)
        return nodes.FilterBlock([node], joined, lineno=node.lineno)

    def _body_work(self, node: nodes.Node) -> nodes.Node:
        """Return a statement that counts the work of one run of the body of `node`."""
        nothing = nodes.Const(None, lineno=node.lineno)
        work = _filter(nothing, BODY_WORK, self._works.get(id(node), 0))
        return nodes.ExprStmt(work, lineno=node.lineno)

    def _printed(self, node: nodes.Expr) -> nodes.Expr:
        """Return an output node whose text is counted and, in a path, checked."""
        if isinstance(node, nodes.TemplateData):
            return nodes.Const(node.data, lineno=node.lineno)
        return _filter(node, SEGMENT) if self._is_path else node


def _filter(node: nodes.Node, name: str, *arguments: int | str) -> nodes.Expr:
    if isinstance(node, nodes.Const) and name == WALKED:
        return node
    given = [nodes.Const(argument, lineno=node.lineno) for argument in arguments]
    return nodes.Filter(node, name, given, [], None, None, lineno=node.lineno)


_FIND_FILE_WORK: Final = 200
"""The work of finding a file and starting its template."""
_SEARCHED_PER_UNIT: Final = 8
"""How many characters of a text cost one unit in a search."""


def inner_filters(budget: Callable[[], WorkBudget]) -> dict[str, Any]:
    """Return the filters that `rewrite` inserts; `budget` returns that of the current rendering."""
    made = {NUMBER: int, SEGMENT: segment, WRITTEN_IN: _written_in}
    return _counting_filters(budget) | _value_filters(budget) | made


def _written_in(value: Any, file: str) -> Any:
    return PathIn(value, file) if isinstance(value, str) else value


def _counting_filters(budget: Callable[[], WorkBudget]) -> dict[str, Any]:
    """Return the filters that return their value unchanged and count its use."""

    def counted(items: Any, each: int = 0) -> Any:
        if isinstance(items, dict | str | list | tuple | range):
            budget().step(len(items))
            budget().work(len(items) * each)
        elif not isinstance(items, Undefined):
            raise TypeError(f"a loop needs a list or a mapping, not {items!r}"[:100])
        return items

    def searched(value: Any) -> Any:
        budget().walk(value)
        budget().work(len(value) // _SEARCHED_PER_UNIT if isinstance(value, str) else 0)
        return value

    def body_work(_nothing: Any, work: int) -> None:
        budget().work(work)

    def file_work(value: Any) -> Any:
        budget().work(_FIND_FILE_WORK)
        return value

    def walked(value: Any) -> Any:
        budget().work(3)
        budget().walk(value)
        return value

    return {
        COUNTED: counted,
        SEARCHED: searched,
        BODY_WORK: body_work,
        FILE_WORK: file_work,
        WALKED: walked,
    }


def _value_filters(budget: Callable[[], WorkBudget]) -> dict[str, Any]:
    """Return the filters that make a value or count a new one."""

    def concat(parts: list[Any]) -> str:
        texts = [to_text(part) for part in parts]
        bounded(sum(map(len, texts)))
        return budget().count_text("".join(texts))

    def included(text: str, end: End) -> str:
        return budget().count_printed(included_text(text, end))

    def reused(value: Any) -> Any:
        return budget().count_reused(value)

    def made_mapping(parts: list[Any]) -> dict[Any, Any]:
        made = mapping(zip(parts[::2], parts[1::2], strict=True), budget())
        budget().count_reused(made)
        return made

    return {
        CONCAT: concat,
        INCLUDED: included,
        REUSED: reused,
        MAPPING: made_mapping,
    }


def segment(value: Any) -> str:
    """Return the text of an expression in a path. Raises `ValueError` unless it is one segment."""
    text = to_text(value)
    if not text or text.startswith(".") or any(character in text for character in "/\\\0\n"):
        raise ValueError(f'"{text[:80]}" is not one safe part of a path; use | slug')
    return text
