"""The scopes of a template: which names are bound where, and what is known of their values."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, Self, TypeGuard

import msgspec
from jinja2 import nodes

from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place, Problem
from poeflow.templates.kinds import (
    ANY_ITEM,
    LIST_FILTERS,
    NO_RESULT_KINDS,
    Kind,
    KnownKinds,
    KnownWords,
    Lookup,
    ResultKinds,
    attribute_name,
    first_name,
    way_to,
)
from poeflow.templates.values import Shape

ANY_STEP: Final = "*"
_INDEX: Final = lazy_pattern(r"\[\d+\]")
VERDICT_ATTRIBUTES: Final = frozenset({"verdicts", "score", "passed"})
"""What a step with `expect` has besides, if any text of its flow reads one of them."""
STEP_ATTRIBUTES: Final = frozenset(
    {
        *VERDICT_ATTRIBUTES,
        *("text", "data", "media", "reasoning", "tool_calls", "usage", "model", "outputs"),
        *("status", "all", "value", "key", "error", "used_default"),
    }
)
FAN_OUT_ATTRIBUTES: Final = frozenset({"all", "status"})
"""The attributes of a step that runs once for each item, besides `steps.ID["key"]`."""

MEANT_ELSEWHERE: Final = {
    **dict.fromkeys(("null", "nil", "undefined", "None_"), "write none"),
    **dict.fromkeys(
        ("env", "environ", "secrets", "os"),
        "flows cannot read the environment; declare an input and pass --input",
    ),
    **dict.fromkeys(
        ("item", "loop"), "only a step that runs once for each item has it: add for_each:"
    ),
    "key": "only a step with for_each: or matrix: has it, except in its own for_each:",
    "matrix": "only a step that runs over combinations has it: add matrix:",
    "source": "only a step that runs over another one has it: for_each: steps.ID",
    "self": "a block is not called by its name: write a macro",
    "super": "only a block that fills one of the file that is extended has it",
    "sample": "only prompts, params, save, media and expect: of a step with samples: have it",
    "output": "only expect: and until: can use the answer",
    "outputs": "only until: of a flow that is repeated has them: write steps.ID.outputs",
    **dict.fromkeys(
        ("previous", "repeat"),
        "only prompts, params, with: and expect: of a step with repeat: have it",
    ),
    "carry": "only a step with for_each: {carry: ...} has it, and carry: itself sees previous",
    **dict.fromkeys(
        ("now", "today", "datetime"),
        "templates know no time: add an input with the date",
    ),
    "verdicts": "only until: of repeat: has them; elsewhere write previous.verdicts",
}
"""Names with a meaning in other languages or at other places of a flow."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The names a template may use: inputs, steps, and `extra` names with any attributes.

    `fan_outs` are those of `steps` that run once for each item. `derived` are those of `extra`
    that come from a step, such as `item` over a step's data, and `derived_inputs` those of
    `inputs`: paths must not use them. `is_isolated` if a file is imported without context.
    `stands` is where the text is: in the flow, in a file, or in a file that another text includes
    and may define names for. `fields` lists the attributes of some `extra` names, `results` those
    of one result of each of `fan_outs`, `outputs` those of the flows that steps use. `shapes` are
    those of the data of steps, as far as they are known, and of `extra` names. `ensured` are the
    ways to values that a condition has tested, `kinds` what the values at the ends of some ways are
    in every run, `result_kinds` what those in the items of results are, and `words` the only ones
    that some values can be. Of `secrets`, inputs too, texts are sent with the value.
    """

    inputs: frozenset[str]
    steps: frozenset[str]
    extra: frozenset[str] = frozenset({"flow"})
    fan_outs: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()
    derived_inputs: frozenset[str] = frozenset()
    is_isolated: bool = False
    fields: tuple[tuple[str, frozenset[str]], ...] = ()
    results: tuple[tuple[str, frozenset[str]], ...] = ()
    outputs: tuple[tuple[str, frozenset[str]], ...] = ()
    shapes: tuple[tuple[str, Shape], ...] = ()
    ensured: frozenset[str] = frozenset()
    kinds: KnownKinds = ()
    result_kinds: ResultKinds = NO_RESULT_KINDS
    words: KnownWords = ()
    secrets: frozenset[str] = frozenset()
    stands: Literal["flow", "file", "included"] = "flow"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A use of an input, a step, or another name such as `item`, with its place.

    `attribute` is that of a step (`text`), None for an input or a whole step. The kind `verdicts`
    reads how a result of the step `name` was judged, of the step of `source` if that is empty. The
    kind `items` reads the item of a result. In both `name` is `ANY_STEP` if a value may be a
    result of any step.
    """

    kind: Literal["input", "step", "name", "verdicts", "items"]
    name: str
    place: Place
    attribute: str | None = None


class Meaning(msgspec.Struct, frozen=True):
    """What is known of a value: the step that it is one of several results of, its shape.

    `way` are the names that lead to it, if a tag gave it another one.
    """

    result_of: str | None = None
    shape: Shape | None = None
    way: str = ""


UNKNOWN: Final = Meaning()


class CheckedTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """What a template uses and what is wrong with it.

    `files` are the canonical paths of literal file names, `globs` literal patterns as written,
    `defined` the macros and variables that can be imported from it. `is_open` if it includes a
    file that is known only in a run. `blocks` are those that a file that extends it can fill, each
    with the names it has where it stands; `required` are those of them that one must fill.
    """

    references: tuple[Reference, ...] = ()
    files: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    defined: frozenset[str] = frozenset()
    is_open: bool = False
    blocks: tuple[tuple[str, frozenset[str]], ...] = ()
    required: frozenset[str] = frozenset()
    ensured: frozenset[str] = frozenset()

    def unfilled(self, place: Place) -> Iterator[Problem]:
        """Yield a problem for each required block, if this is rendered and not extended."""
        for name in sorted(self.required):
            hint = f"write {{% block {name} %}} ... {{% endblock %}} in a file that extends it"
            yield Problem(place, f'nothing fills the required block "{name}"', hint)

    def with_problems(self, more: Iterable[Problem]) -> Self:
        return msgspec.structs.replace(self, problems=(*self.problems, *more))

    def joined(self, included: Iterable[Self]) -> Self:
        """Return this with what the files it names use, without duplicates."""
        parts = (self, *included)
        if len(parts) == 1:
            return msgspec.structs.replace(
                self,
                references=tuple(dict.fromkeys(self.references)),
                files=tuple(dict.fromkeys(self.files)),
                globs=tuple(dict.fromkeys(self.globs)),
                problems=tuple(dict.fromkeys(self.problems)),
            )
        return msgspec.structs.replace(
            self,
            references=tuple(dict.fromkeys(found for part in parts for found in part.references)),
            files=tuple(dict.fromkeys(file for part in parts for file in part.files)),
            globs=tuple(dict.fromkeys(pattern for part in parts for pattern in part.globs)),
            problems=tuple(dict.fromkeys(problem for part in parts for problem in part.problems)),
            is_open=any(part.is_open for part in parts),
        )


class Bindings:
    """A stack of scopes.

    Values from macros, imports and namespaces count as coming from a step, because they may.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._stack: list[dict[str, bool]] = [{}]
        self._meanings: list[dict[str, Meaning]] = [{}]
        self._guards = [scope.ensured]
        self._kinds = dict(scope.kinds)
        self._set: set[str] = set()
        self._ended_names: set[str] = set()

    @property
    def exported(self) -> frozenset[str]:
        return frozenset(name for name in self._stack[0] if not name.startswith("_"))

    def enter(self) -> None:
        self._stack.append({})
        self._meanings.append({})

    def leave(self) -> None:
        self._ended_names |= self._set & self._stack.pop().keys()
        self._meanings.pop()

    def bind(
        self, target: nodes.Node | str, *, is_derived: bool, meaning: Meaning = UNKNOWN
    ) -> None:
        """Bind the names of a target; of one name the `meaning` may be known."""
        names = names_in(target)
        is_one = isinstance(target, nodes.Name)
        self._stack[-1].update(dict.fromkeys(names, is_derived))
        self._meanings[-1].update(dict.fromkeys(names, meaning if is_one else UNKNOWN))

    def was_set(self, name: str) -> bool:
        """Return whether a name was set in a loop, block or macro that has ended."""
        return name in self._ended_names

    def meaning(self, name: str) -> Meaning:
        """Return what is known of the value of a name."""
        for meanings in reversed(self._meanings):
            if name in meanings:
                return meanings[name]
        return UNKNOWN

    def result_of(self, name: str) -> str | None:
        """Return the step that the value of a name is one of several results of, or None."""
        return self.meaning(name).result_of

    def kind(self, node: nodes.Node) -> Kind | None:
        """Return what a value is in every run, None if that is not known."""
        way = _INDEX.sub(ANY_ITEM, self.way_in_flow(node))
        return self._kinds.get(way) or self._scope.result_kinds.kind(way)

    def way(self, node: nodes.Node) -> str:
        """Return the names that lead to a value, with what a tag gave the first of them."""
        if isinstance(node, nodes.Filter) and node.name in ("first", "last"):
            return self.way_of_each(node.node)
        return self._followed(way_to(node))

    def way_in_flow(self, node: nodes.Node) -> str:
        """Return the names that lead to a value; empty if the template sets the first of them."""
        way = self.way(node)
        return "" if self.knows(first_name(way)) else way

    def way_of_each(self, node: nodes.Node | None) -> str:
        """Return the names that lead to any item of a list."""
        while _is_part_of_list(node):
            node = node.node
        way = "" if node is None else self.way(node)
        return way and way + ANY_ITEM

    def step_of_key(self, way: str) -> str:
        """Return the step of whose items a way leads to a key, if it is one of a step itself."""
        step = way.removeprefix("steps.").removesuffix(ANY_ITEM)
        is_own = way == f"steps.{step}{ANY_ITEM}" and not self.knows("steps")
        return step if is_own else ""

    def _followed(self, way: str) -> str:
        name = first_name(way)
        begin = self.meaning(name).way
        return begin + way.removeprefix(name) if begin else way

    def shape(self, name: str) -> Shape | None:
        """Return the shape of the value of a name, None if it is not known."""
        return self.meaning(name).shape

    def assign(self, target: nodes.Node, value: nodes.Node, *, meaning: Meaning) -> None:
        """Bind the names that `set` assigns."""
        is_namespace = any(
            isinstance(call.node, nodes.Name) and call.node.name == "namespace"
            for call in with_below(value)
            if isinstance(call, nodes.Call)
        )
        names = names_in(target)
        if not self._set.isdisjoint(names):
            meaning = Meaning(meaning.result_of)  # which of the values it has is not known
        self._set |= names
        is_derived = is_namespace or self.comes_from_step(value)
        self.bind(target, is_derived=is_derived, meaning=meaning)

    @contextlib.contextmanager
    def in_block(self, names: Iterable[str], *, is_scoped: bool) -> Iterator[None]:
        """Bind `names` inside a block, which knows names of loops around it only if `is_scoped`."""
        outer = self._stack, self._meanings
        if not is_scoped:
            self._stack, self._meanings = self._stack[:1], self._meanings[:1]
        self.enter()
        for name in names:
            self.bind(name, is_derived=True)
        yield
        self.leave()
        self._stack, self._meanings = outer

    def knows(self, name: str) -> bool:
        return any(name in names for names in (*self._stack, *self._guards))

    @contextlib.contextmanager
    def guarding(self, names: Iterable[str]) -> Iterator[None]:
        """Treat `names`, and values that names lead to, as defined inside the block."""
        known = frozenset(names)
        followed = {way for way in map(self._followed, known) if ANY_ITEM not in way}
        self._guards.append(known | {way for way in followed if not way.isidentifier()})
        yield
        self._guards.pop()

    def ensures(self, node: Lookup) -> bool:
        """Return whether a test around it ensures that an attribute or item is there."""
        if not self._guards:  # as almost always
            return False
        ways = {way_to(node), self.way(node)}
        return any(not ways.isdisjoint(names) for names in self._guards)

    def names(self) -> set[str]:
        ensured = (name for names in self._guards for name in names if name.isidentifier())
        return set().union(*self._stack, ensured)

    def comes_from_step(self, node: nodes.Node) -> bool:
        """Return whether a value may come from a step, directly or through a name."""
        parts = tuple(with_below(node))
        if any(isinstance(part, nodes.Name) and self._is_derived(part.name) for part in parts):
            return True
        return bool(self._scope.derived_inputs) and self._uses_derived_input(parts)

    def _uses_derived_input(self, parts: Iterable[nodes.Node]) -> bool:
        """Return whether a derived input is used, or one whose name is not literal."""
        if self.knows("inputs"):
            return False  # the template sets a variable of this name
        uses = lookups = 0
        for part in parts:
            if _is_inputs(part):
                uses += 1
            elif isinstance(part, Lookup) and _is_inputs(part.node):
                name = attribute_name(part)
                if name is None or name in self._scope.derived_inputs:
                    return True
                lookups += 1
        return uses > lookups  # all inputs together are used, as in a loop over them

    def scope_of_include(self) -> Scope:
        """Return the scope of a file that is included here with context."""
        names = self.names()
        derived = {name for name in names if self._is_derived(name)}
        return Scope(
            inputs=self._scope.inputs,
            steps=self._scope.steps,
            extra=self._scope.extra | names,
            fan_outs=self._scope.fan_outs,
            derived=(self._scope.derived - names) | derived,
            derived_inputs=self._scope.derived_inputs,
            is_isolated=self._scope.is_isolated,
            fields=tuple(known for known in self._scope.fields if known[0] not in names),
            results=self._scope.results,
            outputs=self._scope.outputs,
            shapes=tuple(known for known in self._scope.shapes if known[0] not in names),
            ensured=frozenset().union(*self._guards),
            kinds=tuple(known for known in self._scope.kinds if first_name(known[0]) not in names),
            result_kinds=NO_RESULT_KINDS if "steps" in names else self._scope.result_kinds,
            words=tuple(known for known in self._scope.words if first_name(known[0]) not in names),
            stands="included",
        )

    def _is_derived(self, name: str) -> bool:
        for names in reversed(self._stack):
            if name in names:
                return names[name]
        return name == "steps" or name in self._scope.derived


def guards(test: nodes.Node) -> tuple[frozenset[str], frozenset[str]]:
    """Return what is defined if a condition is true, and what if it is false.

    That are names, and ways to values.
    """
    none: frozenset[str] = frozenset()
    match test:
        case nodes.Test(node=value, name="defined" | "undefined" as state):
            tested = frozenset({way_to(value)} - {""})
            return (tested, none) if state == "defined" else (none, tested)
        case nodes.Compare(
            expr=nodes.Const(value=str(name)),
            ops=[nodes.Operand(op="in" | "notin" as operator, expr=owner)],
        ):
            way = way_to(owner)
            tested = frozenset({f"{way}.{name}"} if way else ())
            return (tested, none) if operator == "in" else (none, tested)
        case nodes.Not(node=inner):
            held, failed = guards(inner)
            return failed, held
        case nodes.And() | nodes.Or():
            (left_held, left_failed), (right_held, right_failed) = (
                guards(test.left),
                guards(test.right),
            )
            if isinstance(test, nodes.And):
                return left_held | right_held, left_failed & right_failed
            return left_held & right_held, left_failed | right_failed
        case _:
            return none, none


def _is_part_of_list(node: nodes.Node | None) -> TypeGuard[nodes.Filter | nodes.Getitem]:
    """Return whether a value has items of a list that is written in it."""
    if isinstance(node, nodes.Filter):
        return node.name in LIST_FILTERS
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)


def names_in(target: nodes.Node | str) -> set[str]:
    """Return the names a target binds."""
    if isinstance(target, str):
        return {target}
    return {node.name for node in with_below(target) if isinstance(node, nodes.Name)}


def _is_inputs(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "inputs"


def with_below(node: nodes.Node) -> Iterable[nodes.Node]:
    return (node, *node.find_all(nodes.Node))


class Shapes:
    """Finds the shapes of expressions.

    `known` are those of the data of steps, as `steps.ID`, of names, and of the data of names, as
    `output.data`; `step_of` returns the step
    of whose one result an expression is.
    """

    def __init__(
        self,
        known: Mapping[str, Shape],
        bound: Bindings,
        step_of: Callable[[nodes.Node], str | None],
    ) -> None:
        self._known = known
        self._bound = bound
        self._step_of = step_of

    def of(self, node: nodes.Node | None) -> Shape | None:
        """Return the shape of a value, None if it is not known."""
        if not self._known:
            return None
        match node:
            case nodes.Name():
                is_bound = self._bound.knows(node.name)
                return self._bound.shape(node.name) if is_bound else self._known.get(node.name)
            case nodes.Filter(name="first" | "last"):
                return self.of_each(node.node)
            case nodes.Filter() if node.name in LIST_FILTERS:
                return None if may_be_absent(node) else self._list(node.node)
            case nodes.Getitem(arg=nodes.Slice()):
                return self._list(node.node)
            case nodes.Getattr() | nodes.Getitem():
                return self._at(node, attribute_name(node))
        return None

    def of_each(self, node: nodes.Node | None) -> Shape | None:
        """Return the shape of each item of a list, None if it is not known."""
        shape = self.of(node)
        return None if shape is None else shape.items

    def _list(self, node: nodes.Node | None) -> Shape | None:
        shape = self.of(node)
        return shape if shape is not None and shape.kind == "list" else None

    def _at(self, node: Lookup, name: str | None) -> Shape | None:
        owner = node.node
        if name == "data" and isinstance(owner, nodes.Name) and not self._bound.knows(owner.name):
            return self._known.get(f"{owner.name}.data")
        step = self._step_of(owner) if name == "data" else None
        if step is not None:
            return self._known.get(f"steps.{step}")
        shape = self.of(owner)
        if shape is None:
            return None
        return shape.items if name is None else shape.at((name,))


def may_be_absent(node: nodes.Filter) -> bool:
    """Whether a filter takes items without the attribute that it names."""
    tests = [one.value for one in node.args[1:2] if isinstance(one, nodes.Const)]
    if node.name == "groupby" and node.args[1:]:
        return True  # there is a default
    return tests in (["defined"], ["undefined"]) or any(one.key == "default" for one in node.kwargs)


def literal_texts(node: nodes.Node) -> list[tuple[str, int]]:
    """Return the text of a literal node with its offset, else nothing."""
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return [(node.value, node.lineno - 1)]
    return []
