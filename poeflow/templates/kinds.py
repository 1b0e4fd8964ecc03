"""What leads to values in templates, and what these are in every run: texts, numbers, a few words.

Finds where they are compared with what they never are, and where secrets are looked at. Shapes of
data are those of `values`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from jinja2 import nodes

from poeflow.flowfile.patterns import one_of
from poeflow.lazy_pattern import lazy_pattern

Lookup = nodes.Getattr | nodes.Getitem
"""An attribute or an item of a value: `x.name`, `x["name"]`."""


def way_to(node: nodes.Node) -> str:
    """Return the names that lead to a value, as `steps.draft.data.title`.

    Empty if it is more than lookups of literal names and numbers.
    """
    if type(node) is nodes.Getattr:  # as most are
        owner = way_to(node.node)
        return f"{owner}.{node.attr}" if owner else ""
    if isinstance(node, nodes.Name):
        return node.name
    owner = way_to(node.node) if isinstance(node, Lookup) else ""
    if not owner or not isinstance(node, Lookup):
        return ""
    if (name := attribute_name(node)) is not None:
        return f"{owner}.{name}"
    key = node.arg if isinstance(node, nodes.Getitem) else None
    return f"{owner}[{key.value}]" if isinstance(key, nodes.Const) else ""


def spelled(node: nodes.Node) -> str:
    """Return a value as it is looked up, empty if it is more than `way_to` knows."""
    if not isinstance(node, Lookup):
        return way_to(node)
    owner, key = spelled(node.node), node.arg if isinstance(node, nodes.Getitem) else None
    if isinstance(node, nodes.Getattr) and owner:
        return f"{owner}.{node.attr}"
    if not owner or not isinstance(key, nodes.Const):
        return ""
    return f'{owner}["{key.value}"]' if isinstance(key.value, str) else f"{owner}[{key.value}]"


def tests_kinds(parsed: nodes.Node) -> bool:
    """Whether a template tests what its values are, as in `x is mapping`."""
    return any(test.name in _KIND_TESTS for test in parsed.find_all(nodes.Test))


def first_name(way: str) -> str:
    """Return the name at which a way to a value begins."""
    return way.partition(".")[0].partition("[")[0]


def attribute_name(node: Lookup) -> str | None:
    """Return the name after the dot or in literal brackets, None if it is computed."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    value = node.arg.value if isinstance(node.arg, nodes.Const) else None
    return value if isinstance(value, str) else None


def name_offset(node: Lookup) -> int:
    """Return the offset of the name itself: Jinja gives that of the dot or bracket before it."""
    return node.lineno if isinstance(node, nodes.Getattr) else node.arg.lineno - 1


def _begin(node: nodes.Node) -> int:
    """Return the offset at which a value begins."""
    while isinstance(node, Lookup):
        node = node.node
    return node.lineno - 1


LIST_FILTERS: Final = frozenset(
    {"list", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "unique"}
)
"""Filters that return items of the list they are given."""


class ResultSteps:
    """Finds the step that a value is one of several results of.

    `listed` are the steps that have several, `fan_outs` those of them that have them by key.
    `is_steps` tells whether a value is all steps, and `named` returns the step that the value of a
    name is a result of.
    """

    def __init__(
        self,
        listed: frozenset[str],
        fan_outs: frozenset[str],
        is_steps: Callable[[nodes.Node], bool],
        named: Callable[[str], str | None],
    ) -> None:
        self._listed = listed
        self._fan_outs = fan_outs
        self._is_steps = is_steps
        self._named = named

    def of(self, node: nodes.Node) -> str | None:
        """Return the step that a value is one of several results of, or None."""
        match node:
            case nodes.Name():
                return self._named(node.name)
            case nodes.Filter(name="first" | "last" | "max" | "min"):
                return self.of_list(node.node)
            case nodes.Getitem(arg=nodes.Slice()):
                return None
            case nodes.Getitem(node=nodes.Filter() as owner):
                return self.of_list(owner)
            case nodes.Getitem() if isinstance(node.node, Lookup):
                return self._step(node.node, self._fan_outs) or self.of_list(node.node)
        return None

    def of_list(self, node: nodes.Node | None) -> str | None:
        """Return the step that a value is a list of results of, or None."""
        match node:
            case nodes.Filter() if node.name in LIST_FILTERS:
                return self.of_list(node.node)
            case nodes.Getitem(arg=nodes.Slice()):
                return self.of_list(node.node)
            case nodes.Getattr(attr="all", node=nodes.Getattr() | nodes.Getitem() as owner):
                return self._step(owner, self._listed)
        return None

    def _step(self, node: Lookup, steps: frozenset[str]) -> str | None:
        """Return the step that is looked up, if it is one of some `steps`."""
        name = attribute_name(node)
        return name if self._is_steps(node.node) and name in steps else None


Kind = Literal["text", "cell", "path", "integer", "number", "list"]
"""What a value is for certain; a cell is a text of a table in csv, a path that of a file."""
TEXTS: Final = frozenset({"text", "cell", "path"})
"""The kinds that are texts."""
_SIGNS: Final = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}
_MIRRORED: Final = {"lt": "gt", "lteq": "gteq", "gt": "lt", "gteq": "lteq"}
_ORDERED: Final = frozenset(_MIRRORED)
_EQUALS: Final = frozenset({"eq", "ne", "in", "notin"})
KnownKinds = tuple[tuple[str, Kind], ...]
"""What the values at the ends of some ways are."""
ANY_ITEM: Final = "[]"
"""What stands in a way for any item of a list."""
_OF_RESULT: Final = lazy_pattern(
    r"steps\.(?P<step>\w+)\.(?:all\[\]|[^.\[\]]+)\.(?P<way>(?:item|matrix|key)\b.*)"
)
_KIND_TESTS: Final = frozenset(
    {"boolean", "float", "integer", "iterable", "mapping", "number", "sequence", "string"}
)
KindOf = Callable[[nodes.Node], Kind | None]


class ResultKinds:
    """What the keys of results and the values in their items are in every run.

    `of_step` has the ways in one result, by step. Two are equal only if they are the same.
    """

    __slots__ = ("_of_step",)

    def __init__(self, of_step: Mapping[str, KnownKinds]) -> None:
        self._of_step = {step: dict(kinds) for step, kinds in of_step.items()}

    def kind(self, way: str) -> Kind | None:
        """Return what a value is to which a way leads, as `steps.ID.all[].item.n`."""
        found = _OF_RESULT.fullmatch(way)
        return self._of_step.get(found["step"], {}).get(found["way"]) if found else None


NO_RESULT_KINDS: Final = ResultKinds({})


class _NoText(NamedTuple):
    """A value as it is written, the filter that makes such a one of a text, and what text it is."""

    written: str
    made_by: str
    text: str


def mismatches(comparison: nodes.Compare, kind_of: KindOf) -> Iterator[tuple[int, str, str]]:
    """Yield where a text is compared with what is no text, what is wrong, and a hint."""
    left = comparison.expr
    for operand in comparison.ops:
        right, operator = operand.expr, operand.op
        is_among = operator not in _SIGNS
        listed = right.items if isinstance(right, nodes.List | nodes.Tuple) else []
        for text, sign, others in (
            (left, operator, listed if is_among else [right]),
            (right, _MIRRORED.get(operator, operator), [] if is_among else [left]),
        ):
            kind = kind_of(text)
            found = [_no_text(other, kind, kind_of) for other in others]
            if kind in TEXTS and found and all(found) and found[0] is not None:
                what = "the text of a cell" if kind == "cell" else f"a {kind}"
                written = spelled(text) or way_to(text)
                yield _begin(text), *_mismatch(written, what, sign, found[0])
        left = right


def miscalculations(operation: nodes.BinExpr, kind_of: KindOf) -> Iterator[tuple[int, str, str]]:
    """Yield where a text is added to a number or calculated with, what is wrong, and a hint."""
    parts = (operation.left, operation.right)
    left, right = (_summand(part, kind_of) for part in parts)
    begin = _begin(operation.left)
    if isinstance(operation, nodes.Add):
        if {left, right} == {"a text", "a number"}:
            way = spelled(operation.left if left == "a text" else operation.right)
            more = f", or write {way} | int" if way else ""
            yield begin, f"+ cannot add {left} and {right}", f"join texts with ~{more}"
        return
    texts = [part for part in parts if kind_of(part) in TEXTS]
    for text in texts[:1]:  # templates do not repeat texts either, unlike Python
        is_joined = any(isinstance(part, nodes.Const) for part in parts) and left == right
        way = spelled(text) or "text"
        hint = "join texts with ~" if is_joined else f"write {way} | int, or | float"
        yield begin, f"{operation.operator} works on numbers only, not on a text", hint


def _summand(node: nodes.Node, kind_of: KindOf) -> str | None:
    """Return what is added, None if it is not certain."""
    value: object = node.value if isinstance(node, nodes.Const) else None
    kind = kind_of(node)
    if isinstance(value, str) or kind in TEXTS:
        return "a text"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number or kind in ("integer", "number") else None


def equal_words(comparison: nodes.Compare) -> Iterator[nodes.Node]:
    """Yield the words, also of lists, whose equality with what is no literal is tested."""
    if any(operand.op in _EQUALS for operand in comparison.ops):
        parts = (comparison.expr, *(operand.expr for operand in comparison.ops))
        words = [
            part.items if isinstance(part, nodes.List | nodes.Tuple) else [part] for part in parts
        ]
        if not any(isinstance(word, nodes.Const) for listed in words for word in listed):
            yield from (word for listed in words for word in listed)


KnownWords = tuple[tuple[str, frozenset[str]], ...]
"""The only words that the values at the ends of some ways can be."""
_STATUSES: Final = frozenset({"ok", "failed", "skipped"})
_STATUS_ELSEWHERE: Final = {
    **dict.fromkeys(("success", "succeeded", "done", "complete", "completed", "passed"), "ok"),
    **dict.fromkeys(("failure", "error", "errored"), "failed"),
}
_STATUS: Final = lazy_pattern(r"steps\.\w+\.status")


class Words:
    """Finds the literal words that a value is compared with although it never is one of them.

    `way_of` returns the names that lead to a value of the flow, `step_of` the step of whose one
    result it is.
    """

    def __init__(
        self,
        known: KnownWords,
        way_of: Callable[[nodes.Node], str],
        step_of: Callable[[nodes.Node], str | None],
    ) -> None:
        self._known = dict(known)
        self._way_of = way_of
        self._step_of = step_of

    def never_equal(self, comparison: nodes.Compare) -> Iterator[tuple[int, str, str]]:
        """Yield where a value is compared with another word, what is wrong, and a hint."""
        left = comparison.expr
        for operand in comparison.ops:
            right = operand.expr
            if operand.op in ("eq", "ne"):
                yield from self._others(left, [right])
                yield from self._others(right, [left])
            elif operand.op in _EQUALS and isinstance(right, nodes.List | nodes.Tuple):
                yield from self._others(left, right.items)
            left = right

    def _others(
        self, value: nodes.Node, words: Iterable[nodes.Node]
    ) -> Iterator[tuple[int, str, str]]:
        """Yield the words that a value never is, unless it may be one that is beside them."""
        known = self._of(value) if isinstance(value, Lookup) else None
        literals = [word.value if isinstance(word, nodes.Const) else None for word in words]
        texts = [word for word in literals if isinstance(word, str)]
        if known and texts == literals and texts and known.isdisjoint(texts):
            meant = _STATUS_ELSEWHERE.get(texts[0]) if known is _STATUSES else None
            hint = f"write '{meant}'" if meant else one_of(texts[0], known)
            yield _begin(value), f"{spelled(value)} is never '{texts[0]}'", hint

    def _of(self, value: Lookup) -> frozenset[str] | None:
        name, way = attribute_name(value), self._way_of(value)
        step = self._step_of(value.node) if name in ("status", "value") else None
        if name == "status" and (step is not None or _STATUS.fullmatch(way)):
            return _STATUSES
        return self._known.get(way if step is None else f"steps.{step}.value")


def _no_text(node: nodes.Node, beside: Kind | None, kind_of: KindOf) -> _NoText | None:
    """Return a value that is certainly no text, None if it may be one.

    None stands for what a step did not give, so that it is `beside` the text of a cell only.
    """
    minus, value = ("-", node.node) if isinstance(node, nodes.Neg) else ("", node)
    match value:
        case nodes.Const(value=None):
            return _NoText("none", "", "''") if beside == "cell" else None
        case nodes.Const(value=bool(truth)):
            return _NoText(str(truth).lower(), "", f"'{truth}'".lower())
        case nodes.Const(value=int() | float() as number):
            made_by = "float" if isinstance(number, float) else "int"
            return _NoText(f"{minus}{number}", made_by, f"'{minus}{number}'")
    filters = {"integer": "int", "number": "float"}
    made_by = filters.get(kind_of(value) or "", "")
    return _NoText(f"{minus}{way_to(value)}", made_by, "") if made_by else None


def _mismatch(written: str, what: str, operator: str, other: _NoText) -> tuple[str, str]:
    """Return what is wrong with a comparison of a text, and a hint."""
    sign = f" {_SIGNS[operator]} {other.written}" if operator in _SIGNS else ""
    is_ordered = operator in _ORDERED
    number = f"{written} | {other.made_by}{sign}" if other.made_by else ""
    ways = [way for way in (number, "" if is_ordered else other.text) if way]
    hint = f"write {', or '.join(ways)}" if ways else ""
    if is_ordered:
        return (
            f"{written} is {what}: {_SIGNS[operator]} cannot compare it with {other.written}",
            hint,
        )
    result = "always differs from" if operator in ("ne", "notin") else "never equals"
    return f"{written} is {what}, which {result} {other.written}", hint


_WHOLE: Final = frozenset(
    {"d", "default", "e", "escape", "forceescape", "indent", "safe", "string", "tojson", "trim"}
)
"""Filters that leave a text as it is, but for what is around it or how it is escaped."""
_COMPARING: Final = frozenset(
    {"eq", "equalto", "ne", "in", "lower", "upper", "sameas", "gt", "lt", "ge", "le"}
)
"""Tests that look at the characters of a text."""
_LOOKING: Final = (
    *(nodes.Filter, nodes.FilterBlock, nodes.Compare, nodes.Test),
    *(nodes.Getattr, nodes.Getitem, nodes.For),
)


def altered_inputs(parsed: nodes.Node, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield the offset and the name of each of these inputs whose characters a template looks at.

    It may insert one, whole, and test whether it is there.
    """
    aliases = {
        assigned.target.name: name
        for assigned in parsed.find_all(nodes.Assign)
        if isinstance(assigned.target, nodes.Name)
        for _, name in _inserted(assigned.node, names, {})
    }
    tested = set(map(id, _tested_for_presence(parsed)))
    found: dict[tuple[int, str], None] = {}
    for node in parsed.find_all(_LOOKING):
        for subject in () if id(node) in tested else _looked_at(node):
            found |= dict.fromkeys(_inserted(subject, names, aliases))
    yield from found


def _looked_at(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield the values of whose characters, or items, a node makes something else."""
    match node:
        case nodes.Filter(node=nodes.Expr() as subject) if node.name not in _WHOLE:
            yield subject
        case nodes.FilterBlock() if node.filter.name not in _WHOLE:
            yield from (one for out in node.find_all(nodes.Output) for one in out.nodes)
        case nodes.Compare():
            yield from (node.expr, *(operand.expr for operand in node.ops))
        case nodes.Test() if node.name in _COMPARING:
            yield node.node
        case nodes.Getattr() | nodes.Getitem():
            yield node.node
        case nodes.For():
            yield node.iter


def _tested_for_presence(parsed: nodes.Node) -> Iterator[nodes.Node]:
    """Yield the nodes that only tell whether a value is there: `x | length > 0`, `x != ""`."""
    for compared in parsed.find_all(nodes.Compare):
        sides = (compared.expr, *(operand.expr for operand in compared.ops))
        if any(isinstance(side, nodes.Const) and side.value in (0, 1, "", None) for side in sides):
            yield from (compared, *sides)
    waiting: list[nodes.Node] = [one.test for one in parsed.find_all(nodes.If)]
    waiting += [one.test for one in parsed.find_all(nodes.CondExpr)]
    while waiting:
        match waiting.pop():
            case nodes.Not(node=inner):
                waiting.append(inner)
            case nodes.And() | nodes.Or() as both:
                waiting += (both.left, both.right)
            case nodes.Filter(name="length" | "count") as counted:
                yield counted


def _inserted(
    node: nodes.Node, names: Collection[str], aliases: Mapping[str, str]
) -> Iterator[tuple[int, str]]:
    """Yield the offset and the name of each input that is whole in the text of a value."""
    match node:
        case nodes.Name() if node.name in aliases:
            yield node.lineno - 1, aliases[node.name]
        case (
            nodes.Getattr(node=nodes.Name(name="inputs"))
            | nodes.Getitem(node=nodes.Name(name="inputs"))
        ):
            name = attribute_name(node)
            if name in names and name is not None:
                yield name_offset(node), name
        case nodes.Filter(node=nodes.Expr() as inner) if node.name in _WHOLE:
            yield from _inserted(inner, names, aliases)
        case nodes.Concat():
            for part in node.nodes:
                yield from _inserted(part, names, aliases)
        case nodes.Add():
            yield from _inserted(node.left, names, aliases)
            yield from _inserted(node.right, names, aliases)
        case nodes.CondExpr():
            for part in filter(None, (node.expr1, node.expr2)):
                yield from _inserted(part, names, aliases)
