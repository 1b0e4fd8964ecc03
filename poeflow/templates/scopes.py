"""Where names are bound in a template, and where they are lost."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec
from jinja2 import nodes

from poeflow.problems import Place, Problem

STEP_ATTRIBUTES: Final = frozenset(
    {
        *("text", "data", "media", "reasoning", "tool_calls", "usage", "model", "outputs"),
        *("status", "all", "value", "key", "error"),
    }
)
FAN_OUT_ATTRIBUTES: Final = frozenset({"all", "status"})
"""What a step that runs once for each item has besides its instances, `steps.ID["key"]`."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The names a template may use: inputs, steps, and `extra` ones with free attributes.

    `fan_outs` are those of `steps` that run once for each item. `derived` are those of `extra`
    that come from a step, such as `item` over a step's data, `derived_inputs` those of `inputs`:
    no path may be built from them. `is_isolated` marks a file imported without context. `stands`
    tells whether the text is in the flow, in a file, or in one that another text includes: that
    may set names for it. `fields` has for some of `extra` all they may be asked for, `results` for
    each of `fan_outs` what one of its results has.
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
    stands: Literal["flow", "file", "included"] = "flow"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A use of an input, a step, or another name such as `item`, at its place.

    `attribute` is the one used of a step (`text`), None where it is an input or all of a step.
    """

    kind: Literal["input", "step", "name"]
    name: str
    place: Place
    attribute: str | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a template uses and what is wrong with it.

    `files` are the canonical paths of those it names literally, `globs` the literal patterns as
    written, `defined` the macros and variables it hands to those who import it. `is_open` tells
    that it includes a file which only a run can name.
    """

    references: tuple[Reference, ...] = ()
    files: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    defined: frozenset[str] = frozenset()
    is_open: bool = False


_MUTABLE: Final = "namespace"


class Bindings:
    """A stack of scopes.

    What macros, imports and namespaces give counts as coming from a step, because it may.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._stack: list[dict[str, bool]] = [{}]
        self._results: list[dict[str, str | None]] = [{}]
        self._guards: list[frozenset[str]] = []
        self._set: set[str] = set()
        self._gone: set[str] = set()

    @property
    def exported(self) -> frozenset[str]:
        return frozenset(name for name in self._stack[0] if not name.startswith("_"))

    def enter(self) -> None:
        self._stack.append({})
        self._results.append({})

    def leave(self) -> None:
        self._gone |= self._set & self._stack.pop().keys()
        self._results.pop()

    def bind(
        self, target: nodes.Node | str, *, is_derived: bool, result_of: str | None = None
    ) -> None:
        """Bind the names of a target; one name may be a result of the step `result_of`."""
        names = names_in(target)
        is_one = isinstance(target, nodes.Name)
        self._stack[-1].update(dict.fromkeys(names, is_derived))
        self._results[-1].update(dict.fromkeys(names, result_of if is_one else None))

    def was_set(self, name: str) -> bool:
        """Tell whether a name was set in a loop, block or macro that has ended."""
        return name in self._gone

    def result_of(self, name: str) -> str | None:
        """Return the step that a name is one of several results of, None where it is not."""
        for results in reversed(self._results):
            if name in results:
                return results[name]
        return None

    def assign(
        self, target: nodes.Node, value: nodes.Node, *, result_of: str | None = None
    ) -> None:
        """Bind what `set` sets."""
        is_namespace = any(
            isinstance(call.node, nodes.Name) and call.node.name == _MUTABLE
            for call in _with_below(value)
            if isinstance(call, nodes.Call)
        )
        self._set |= names_in(target)
        is_derived = is_namespace or self.comes_from_step(value)
        self.bind(target, is_derived=is_derived, result_of=result_of)

    def knows(self, name: str) -> bool:
        return any(name in names for names in (*self._stack, *self._guards))

    @contextlib.contextmanager
    def guarding(self, names: Iterable[str]) -> Iterator[None]:
        """Know `names` while the block lasts: a test makes sure that they are there."""
        self._guards.append(frozenset(names))
        yield
        self._guards.pop()

    def names(self) -> set[str]:
        return set().union(*self._stack, *self._guards)

    def comes_from_step(self, node: nodes.Node) -> bool:
        """Whether a value may come from a step, directly or through a name."""
        parts = tuple(_with_below(node))
        if any(isinstance(part, nodes.Name) and self._is_derived(part.name) for part in parts):
            return True
        return bool(self._scope.derived_inputs) and self._uses_derived_input(parts)

    def _uses_derived_input(self, parts: Iterable[nodes.Node]) -> bool:
        """Whether an input a step decided is used, or one whose name is not told."""
        known = 0
        for part in parts:
            if isinstance(part, nodes.Name) and part.name == "inputs":
                known -= 1
            elif isinstance(part, nodes.Getattr | nodes.Getitem) and _is_inputs(part.node):
                name = _literal_name(part)
                if name is None or name in self._scope.derived_inputs:
                    return not self.knows("inputs")
                known += 1
        return known < 0 and not self.knows("inputs")

    def scope_of_include(self) -> Scope:
        """Return what a file included here, with context, sees."""
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
            stands="included",
        )

    def _is_derived(self, name: str) -> bool:
        for names in reversed(self._stack):
            if name in names:
                return names[name]
        return name == "steps" or name in self._scope.derived


def guards(test: nodes.Node) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names a condition makes sure of: where it holds, and where it does not."""
    none: frozenset[str] = frozenset()
    match test:
        case nodes.Test(node=nodes.Name(name=name), name="defined"):
            return frozenset({name}), none
        case nodes.Test(node=nodes.Name(name=name), name="undefined"):
            return none, frozenset({name})
        case nodes.Test(node=nodes.Getattr(node=nodes.Name(name=name), attr=field)):
            of_field = frozenset({f"{name}.{field}"})
            is_held = {"defined": (of_field, none), "undefined": (none, of_field)}
            return is_held.get(test.name, (none, none))
        case nodes.Not(node=inner):
            held, failed = guards(inner)
            return failed, held
        case nodes.And() | nodes.Or():
            (one, one_not), (other, other_not) = guards(test.left), guards(test.right)
            if isinstance(test, nodes.And):
                return one | other, one_not & other_not
            return one & other, one_not | other_not
        case _:
            return none, none


def names_in(target: nodes.Node | str) -> set[str]:
    """Return the names a target binds."""
    if isinstance(target, str):
        return {target}
    return {node.name for node in _with_below(target) if isinstance(node, nodes.Name)}


def _is_inputs(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "inputs"


def _literal_name(node: nodes.Getattr | nodes.Getitem) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    value = node.arg.value if isinstance(node.arg, nodes.Const) else None
    return value if isinstance(value, str) else None


def _with_below(node: nodes.Node) -> Iterable[nodes.Node]:
    return (node, *node.find_all(nodes.Node))


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """A name that is set at `offset`, and forgotten before it is used, as Jinja's scopes end."""

    name: str
    offset: int
    in_loop: bool


def losses(template: nodes.Template, known: frozenset[str]) -> tuple[Loss, ...]:
    """Return what a template sets in loops and blocks for later, in vain.

    `known` are names that were there before: they have their old values again.
    """
    finder = _Losses(known)
    finder.visit(template)
    return tuple(sorted(finder.found, key=lambda loss: loss.offset))


class _Block:
    """A scope that is open: the names set in it, those read before that, and what is set anew.

    `lost` is what blocks inside it set, which have ended.
    """

    def __init__(self, kind: str, names: Iterable[str] = ()) -> None:
        self.kind = kind
        self.names = set(names)
        self.read: set[str] = set()
        self.anew: dict[str, Loss] = {}
        self.lost: dict[str, set[Loss]] = {}


class _Losses:
    """Walks a template in the order it is rendered in. `found` is what somebody misses."""

    def __init__(self, known: Iterable[str]) -> None:
        self.found: set[Loss] = set()
        self._blocks = [_Block("file", known)]

    def visit(self, node: nodes.Node) -> None:
        match node:
            case nodes.Assign():
                self.visit(node.node)
                self._set(node.target)
            case nodes.AssignBlock():
                self._inside("block", node.body, before=node.filter)
                self._set(node.target)
            case nodes.For():
                own = names_in(node.target) | {"loop"}
                tested = [node.test] if node.test is not None else []
                self._inside("loop", [*tested, *node.body], own, before=node.iter)
                self._inside("block", node.else_)
            case nodes.With():
                own = {name for target in node.targets for name in names_in(target)}
                self._inside("block", node.body, own, before=nodes.List(node.values))
            case nodes.FilterBlock():
                self._inside("block", node.body, before=node.filter)
            case nodes.Macro() | nodes.CallBlock():
                own = {argument.name for argument in node.args}
                self._inside("function", [*node.defaults, *node.body], own)
            case nodes.Name(ctx="load"):
                self._read(node.name)
            case _:
                for child in node.iter_child_nodes():
                    self.visit(child)

    def _inside(
        self,
        kind: str,
        body: Iterable[nodes.Node],
        names: Iterable[str] = (),
        *,
        before: nodes.Node | None = None,
    ) -> None:
        """Visit what is in a scope of its own, after what is `before` it."""
        if before is not None:
            self.visit(before)
        self._blocks.append(_Block(kind, names))
        for node in body:
            self.visit(node)
        block = self._blocks.pop()
        around = self._blocks[-1].lost
        for name, missed in block.lost.items():
            around.setdefault(name, set()).update(missed)
        for name, loss in block.anew.items():
            around.setdefault(name, set()).add(loss)

    def _set(self, target: nodes.Node) -> None:
        block = self._blocks[-1]
        for node in _with_below(target):
            if isinstance(node, nodes.Name):
                if node.name not in block.names and self._is_set_anew(node.name):
                    in_loop = block.kind == "loop"
                    loss = Loss(name=node.name, offset=node.lineno - 1, in_loop=in_loop)
                    block.anew[node.name] = loss
                    if in_loop and node.name in block.read:
                        self.found.add(loss)
                block.names.add(node.name)
                block.lost.pop(node.name, None)

    def _is_set_anew(self, name: str) -> bool:
        """Whether a block around this one has the name; a function's own names are nobody's."""
        *around, block = self._blocks
        return block.kind != "function" and any(name in other.names for other in around)

    def _read(self, name: str) -> None:
        for block in reversed(self._blocks):
            self.found |= block.lost.pop(name, set())
            if name in block.names:
                break
            block.read.add(name)
