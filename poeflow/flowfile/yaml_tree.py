"""Parses YAML text into a tree with the place of every key and value.

It is built from libyaml's events, so nesting, aliases and size are bounded while reading.
Scalars follow YAML 1.2's core schema; digits with a leading zero stay text.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
import yaml
from yaml._yaml import CParser

from poeflow.digest import Json, encode_json
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.yaml_messages import QUOTE, alias_hint, core_value, yaml_problem
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import NotTextError, text_of
from poeflow.problems import Place, Problem

Style = Literal["plain", "single", "double", "literal", "folded", "flow", "block"]


class Node(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One YAML value: its plain `data`, its place and its children.

    `line`, `column` count from 1; `start` and `end` are offsets into the document's text. `keys`
    and `values` are the entries of a mapping by name, `items` those of a sequence. `size` counts
    the node and those below it, aliases expanded. `file` is set if a node comes from another file
    than its document: from the project's settings, or a file that the flow names for a part of it.
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
        """Return the node's place, in `path` unless it has a file of its own."""
        return Place(self.file or path, self.line, self.column)

    def child(self, step: str | int) -> "Node | None":
        if isinstance(step, str):
            return self.values.get(step)
        return self.items[step] if 0 <= step < len(self.items) else None

    def with_data(self, path: tuple[str, ...], data: str) -> "Node":
        """Return the node with another text at a path of keys."""
        if not path:
            return msgspec.structs.replace(self, data=data)
        changed = self.values[path[0]].with_data(path[1:], data)
        return with_values(self, {**self.values, path[0]: changed})


def with_values(node: Node, values: Mapping[str, Node]) -> Node:
    """Return a mapping with only these values."""
    return msgspec.structs.replace(
        node,
        values=dict(values),
        keys={key: node for key, node in node.keys.items() if key in values},
        data={key: node.data for key, node in values.items()},
    )


def merged_mapping(node: Node, values: Mapping[str, Node], other: Node) -> Node:
    """Return a mapping with more values, which take their keys from the `other` one."""
    return msgspec.structs.replace(
        node,
        values=dict(values),
        keys={key: node.keys.get(key) or other.keys[key] for key in values},
        data={key: node.data for key, node in values.items()},
    )


KeyPath = tuple[str | int, ...]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed file: `path` as the user sees it, its text, and its tree (None if unreadable)."""

    path: str
    text: str
    root: Node | None
    problems: tuple[Problem, ...] = ()

    def node(self, path: KeyPath) -> Node | None:
        """Return the node at a path of keys and indexes, or None."""
        node = self.root
        for step in path:
            if node is None:
                return None
            node = node.values.get(step) if type(step) is str else node.child(step)
        return node

    def place(self, path: KeyPath) -> Place:
        """Return the place of the value at `path`, or of the nearest node above it."""
        for length in range(len(path), -1, -1):
            node = self.node(path[:length])
            if node is not None:
                return node.place(self.path)
        return Place(self.path)

    def key_place(self, path: KeyPath) -> Place:
        """Return the place of the last key of `path`, or of the item if it is an index."""
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

        It is exact for `|` blocks and for scalars in one line without escapes; for others it
        returns the scalar's start.
        """
        return lambda offset: _locate(self, path, offset)


def _block_shift(text: str, node: Node) -> int | None:
    """Return the indentation of a `|` block, or None if it is empty."""
    value = str(node.data)
    blank = value[: len(value) - len(value.lstrip())].count("\n")
    lines = value.split("\n", blank + 1)
    written = text[node.start : node.end].split("\n", blank + 2)
    if not value.strip() or len(written) < blank + 2:
        return None
    return len(written[blank + 1]) - len(lines[blank])


def _locate(document: Document, path: KeyPath, offset: int) -> Place:
    node = document.node(path)
    if node is None or node.file or not isinstance(node.data, str):
        return document.place(path)
    shift = _block_shift(document.text, node) if node.style == "literal" else None
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


MAX_BYTES: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_ALIASES: Final = 100
MAX_NODES: Final = 500_000
"""How many keys and values a document may have: they take a few seconds and 300 MiB."""
_MAX_PROBLEMS: Final = 1_000
_NONE: Final[dict[str, Node]] = {}
"""The keys and values of scalars and sequences: one shared object, as there are many nodes."""
_SHOWN: Final = 40
_LIBYAML_TOO_DEEP: Final = "exceeded maximum nesting depth"
MAX_ALIASED_NODES: Final = 10_000
_FORBIDDEN: Final = lazy_pattern("[\x00\x85\u2028\u2029\ud800-\udfff]")
_FORBIDDEN_NAMES: Final = {
    "\0": "a NUL byte",
    "\x85": "U+0085 (next line)",
    "\u2028": "U+2028 (a line separator)",
    "\u2029": "U+2029 (a paragraph separator)",
}
_CORE_TAGS: Final = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!"}

_STYLES: Final[dict[str, Style]] = {
    "": "plain",
    "'": "single",
    '"': "double",
    "|": "literal",
    ">": "folded",
}


def parse(text: str, path: str) -> Document:
    """Parse one YAML document. Never raises for invalid text: see `problems`."""
    refusal = _refusal(text, path)
    if refusal is not None:
        return Document(path=path, text=text, root=None, problems=(refusal,))
    builder = _Builder(text, path)
    try:
        root = builder.document()
    except _UnreadableError as error:
        problems = (*builder.problems, error.problem)
        return Document(path=path, text=text, root=None, problems=problems)
    except (yaml.MarkedYAMLError, yaml.reader.ReaderError) as yaml_error:
        if getattr(yaml_error, "problem", None) == _LIBYAML_TOO_DEEP:
            return _too_deep(yaml_error, text, path)
        problems = (*builder.problems, yaml_problem(yaml_error, text, path))
        return Document(path=path, text=text, root=None, problems=problems)
    return Document(path=path, text=text, root=root, problems=tuple(builder.problems))


def decode(data: bytes, path: str) -> str | Problem:
    """Decode UTF-8 without BOM, line ends as LF, or return the problem."""
    if len(data) > MAX_BYTES:
        return Problem(Place(path), f"the file has {len(data):,} bytes; the limit is 4 MiB")
    try:
        return text_of(data)
    except NotTextError as error:
        return Problem(Place(path, error.line, error.column), error.reason, error.hint)


def parse_value(text: str) -> Json:
    """Parse YAML that came from outside (an answer, a filter) to plain data.

    Raises `InvalidFlowError` with the problems found.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidFlowError((Problem(Place("value"), "the text is over 4 MiB"),))
    document = parse(text, "value")
    if document.problems:
        raise InvalidFlowError(document.problems)
    return document.root.data if document.root is not None else None


class _UnreadableError(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Builder:
    """Builds nodes from libyaml's events; collects problems that do not stop the parsing."""

    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.text = text
        self.problems: list[Problem] = []
        self._last_line = text.count("\n")
        self._next: Callable[[], Any] = CParser(text).get_event
        """Returns libyaml's next event; PyYAML's stubs lack most of its attributes."""
        self._anchors: dict[str, Node | None] = {}
        self._aliases = 0
        self._nodes = 0
        self._aliased_nodes = 0

    def document(self) -> Node | None:
        self._next()
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        root = self._node(self._next(), 1)
        self._next()
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._add_problem(event, "a second document begins here", "keep one document per file")
        return root

    def _node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _UnreadableError(self._problem(event, f"nested deeper than {MAX_DEPTH} levels"))
        self._nodes += 1
        if self._nodes > MAX_NODES:
            message = f"over {MAX_NODES:,} keys and values are in the file"
            raise _UnreadableError(self._problem(event, message, "split it, or keep data in CSV"))
        if type(event) is yaml.ScalarEvent and event.anchor is None and event.tag is None:
            return self._scalar(event)  # as almost all are
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if event.tag is not None and event.tag not in _CORE_TAGS:
            name = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            self._add_problem(
                event, f"unknown tag {name!r}", "remove it; poeflow reads plain YAML 1.2"
            )
        node = self._build(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _build(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, depth)
        if not isinstance(event, yaml.MappingStartEvent):
            raise AssertionError(f"libyaml gave {event!r} where a value is expected")
        return self._mapping(event, depth)

    def _scalar(self, event: Any) -> Node:
        mark, style = event.start_mark, _STYLES[event.style or ""]
        line, column = self._line_and_column(mark)
        data: Json = event.value
        if style == "plain" and event.tag is None:
            data = core_value(event.value)
            if isinstance(data, float) and data - data != 0:
                shown = event.value if len(event.value) < _SHOWN else f"{event.value[:_SHOWN]}..."
                self._add_problem(event, f"{shown} is not a number JSON can hold", "quote it")
                data = None
        return Node(
            data=data,
            style=style,
            line=line,
            column=column,
            start=mark.index,
            end=event.end_mark.index,
            keys=_NONE,
            values=_NONE,
        )

    def _sequence(self, start: Any, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Node(
            data=[item.data for item in items],
            style="flow" if start.flow_style else "block",
            line=start.start_mark.line + 1,
            column=start.start_mark.column + 1,
            start=start.start_mark.index,
            end=_end(event),
            keys=_NONE,
            values=_NONE,
            items=tuple(items),
            size=1 + sum(item.size for item in items),
        )

    def _mapping(self, start: Any, depth: int) -> Node:
        keys: dict[str, Node] = {}
        values: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, depth)
            value = self._node(self._next(), depth + 1)
            if key is None:
                continue
            name = str(key.data)
            if name in keys:
                line = keys[name].line
                message = f'the key "{name}" is here twice, first in line {line}'
                self._add_problem(event, message, "keep one")
                continue
            keys[name], values[name] = key, value
        return Node(
            data={name: value.data for name, value in values.items()},
            style="flow" if start.flow_style else "block",
            line=start.start_mark.line + 1,
            column=start.start_mark.column + 1,
            start=start.start_mark.index,
            end=_end(event),
            keys=keys,
            values=values,
            size=1 + sum(value.size for value in values.values()),
        )

    def _key(self, event: Any, depth: int) -> Node | None:
        """Return a mapping key; add a problem and return None if it is not text."""
        key = self._node(event, depth + 1)
        if isinstance(key.data, str):
            if key.data == "<<" and key.style == "plain":
                hint = "write the keys out, or use models: and defaults:"
                self._add_problem(event, "merge keys (<<) are not part of YAML 1.2", hint)
                return None
            return key
        written = self.text[key.start : key.end].strip()
        if isinstance(key.data, list | dict):
            raise _UnreadableError(self._collection_as_key(event))
        self._add_problem(
            event, f"the key {written or 'null'} is not text", f'quote it: "{written}"'
        )
        return None

    def _collection_as_key(self, event: Any) -> Problem:
        start = event.start_mark.index
        if self.text[start - 1 : start + 1] != "{{":
            return self._problem(event, "a key must be text, not a collection")
        problem = self._problem(event, "a value that begins with {{ is a mapping to YAML", QUOTE)
        line, column = problem.place.line, problem.place.column - 1
        return msgspec.structs.replace(problem, place=Place(self.path, line, column))

    def _alias(self, event: Any) -> Node:
        name = event.anchor or ""
        target = self._anchors.get(name)
        if target is None:
            if name in self._anchors:
                message = f"the alias *{name} refers to itself"
                raise _UnreadableError(self._problem(event, message, "remove it"))
            message = f"there is no anchor &{name} above this alias"
            raise _UnreadableError(self._problem(event, message, alias_hint(name)))
        self._aliases += 1
        self._aliased_nodes += target.size
        if self._aliases > MAX_ALIASES or self._aliased_nodes > MAX_ALIASED_NODES:
            message = (
                f"aliases expand too far; at most {MAX_ALIASES} aliases"
                f" and {MAX_ALIASED_NODES:,} values"
            )
            raise _UnreadableError(self._problem(event, message))
        return target

    def _add_problem(self, event: Any, message: str, hint: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(self._problem(event, message, hint))

    def _problem(self, event: Any, message: str, hint: str = "") -> Problem:
        return Problem(self._place(event.start_mark), message, hint)

    def _place(self, mark: Any) -> Place:
        return Place(self.path, *self._line_and_column(mark))

    def _line_and_column(self, mark: Any) -> tuple[int, int]:
        """Return a mark's place; libyaml reports the end of a text on an extra line."""
        if mark.line > self._last_line:
            return self._last_line + 1, len(self.text) - self.text.rfind("\n")
        return mark.line + 1, mark.column + 1


def _too_deep(yaml_error: Any, text: str, path: str) -> Document:
    """Report our own depth limit: libyaml reads ahead, and may meet its limit before ours.

    libyaml 0.2.6, in PyYAML since 6.0.4, allows 1,000 levels; older ones have no limit.
    """
    before = parse(text[: yaml_error.problem_mark.index], path)
    return msgspec.structs.replace(before, text=text)


def _end(event: Any) -> int:
    return int(event.end_mark.index)


def _refusal(text: str, path: str) -> Problem | None:
    if text.isascii() and "\0" not in text:
        return None
    found = _FORBIDDEN.search(text)
    if found is None:
        return None
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    name = _FORBIDDEN_NAMES.get(found.group(), f"U+{ord(found.group()):04X} (half a character)")
    hint = 'remove it, or write it as an escape in "double quotes"'
    return Problem(Place(path, line, column), f"{name} is in the file", hint)
