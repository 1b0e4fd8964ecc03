"""A YAML file as a tree that remembers where everything stands."""

from collections.abc import Callable
from typing import Literal

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.problems import Place, Problem

Style = Literal["plain", "single", "double", "literal", "folded", "flow", "block"]


class Node(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One YAML value: its plain `data`, its place and its children.

    `line`, `column` count from 1; `start` and `end` are offsets into the document's text. `keys`
    and `values` are the entries of a mapping by name, `items` those of a sequence. `size` counts
    the nodes below, itself included, aliases expanded. `file` is set where a node stands in another
    file than the document it is in: what a flow shares with others.
    """

    data: Json
    style: Style
    line: int
    column: int
    start: int
    end: int
    keys: dict[str, "Node"] = {}
    values: dict[str, "Node"] = {}
    items: tuple["Node", ...] = ()
    size: int = 1
    file: str = ""

    def place(self, path: str) -> Place:
        """Return where the node stands, in `path` if in no file of its own."""
        return Place(self.file or path, self.line, self.column)

    def child(self, step: str | int) -> "Node | None":
        if isinstance(step, str):
            return self.values.get(step)
        return self.items[step] if 0 <= step < len(self.items) else None


KeyPath = tuple[str | int, ...]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed file: `path` as the user sees it, its text, and its tree (None if unreadable)."""

    path: str
    text: str
    root: Node | None
    problems: tuple[Problem, ...] = ()

    def node(self, path: KeyPath) -> Node | None:
        """Return the node at a path of keys and indexes, or None where there is none."""
        node = self.root
        for step in path:
            node = node.child(step) if node is not None else None
        return node

    def place(self, path: KeyPath) -> Place:
        """Return where the value at `path` stands, or the nearest thing above it."""
        for length in range(len(path), -1, -1):
            node = self.node(path[:length])
            if node is not None:
                return node.place(self.path)
        return Place(self.path)

    def key_place(self, path: KeyPath) -> Place:
        """Return where the last key of `path` is written; an item's own place in a sequence."""
        parent = self.node(path[:-1]) if path else None
        key = parent.keys.get(path[-1]) if parent and isinstance(path[-1], str) else None
        return key.place(self.path) if key else self.place(path)

    def written(self, path: KeyPath) -> str:
        """Return the source text of the scalar at `path`."""
        node = self.node(path)
        if node is not None and node.file:
            return encode_json(node.data).decode()
        return self.text[node.start : node.end] if node is not None else ""

    def locator(self, path: KeyPath) -> Callable[[int], Place]:
        """Return a function from an offset in the scalar's value to its place in this file.

        Exact for `|` blocks and for scalars written on one line without escapes; elsewhere the
        scalar's start.
        """
        node = self.node(path)
        if node is None or not isinstance(node.data, str):
            return lambda _offset: self.place(path)
        shift = _block_shift(self.text, node) if node.style == "literal" else None
        return lambda offset: _locate(self, node, shift, offset)


def _block_shift(text: str, node: Node) -> int | None:
    """Return the columns a `|` block is indented by, or None where it is empty."""
    source = text[node.start : node.end].split("\n")[1:]
    for written, value in zip(source, str(node.data).split("\n"), strict=False):
        if value.strip():
            return len(written) - len(value)
    return None


def _locate(document: Document, node: Node, shift: int | None, offset: int) -> Place:
    value = str(node.data)
    before = value[:offset]
    line, column = before.count("\n"), offset - (before.rfind("\n") + 1)
    if node.style == "literal" and shift is not None:
        return Place(document.path, node.line + 1 + line, shift + column + 1)
    quote = 1 if node.style in ("single", "double") else 0
    written = document.text[node.start + quote : node.end - quote]
    if written == value and line == 0:
        return Place(document.path, node.line, node.column + quote + column)
    return node.place(document.path)
