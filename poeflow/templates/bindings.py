"""The names a template binds itself, and which of them come from a step."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

from jinja2 import nodes

from poeflow.templates.scope import Scope

_MUTABLE: Final = "namespace"


class Bindings:
    """A stack of scopes.

    What macros, imports and namespaces give counts as coming from a step, because it may.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._stack: list[dict[str, bool]] = [{}]
        self._guards: list[frozenset[str]] = []

    @property
    def exported(self) -> frozenset[str]:
        return frozenset(name for name in self._stack[0] if not name.startswith("_"))

    def enter(self) -> None:
        self._stack.append({})

    def leave(self) -> None:
        self._stack.pop()

    def bind(self, target: nodes.Node | str, *, is_derived: bool) -> None:
        self._stack[-1].update(dict.fromkeys(names_in(target), is_derived))

    def assign(self, target: nodes.Node, value: nodes.Node) -> None:
        """Bind what `set` sets."""
        is_namespace = any(
            isinstance(call.node, nodes.Name) and call.node.name == _MUTABLE
            for call in _with_below(value)
            if isinstance(call, nodes.Call)
        )
        self.bind(target, is_derived=is_namespace or self.comes_from_step(value))

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
