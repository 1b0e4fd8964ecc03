"""Messages for errors in a template's text: syntax, habits, values as texts, lost names."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec
from jinja2 import TemplateSyntaxError, nodes
from jinja2.lexer import Lexer

from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Problem
from poeflow.templates.kinds import tests_kinds
from poeflow.templates.reader import Origin
from poeflow.templates.scopes import names_in, with_below

_NO_ELSE: Final = lazy_pattern(
    r"^the inline if-expression on line .* no else section was defined\.$"
)
_IMPORTED_AT: Final = lazy_pattern(r" \(imported on line \d+( in '.*?')?\)")
_CHARACTERS: Final = {
    "&": ("&& is not an operator here", 'write "and"'),
    "!": ("! is not an operator here", 'write "not", or "!=" between two values'),
    "?": ("? is not an operator here", 'write "a if condition else b"'),
    "$": ("$ has no meaning here", "write names without it"),
}
RAW: Final = "to show braces as they are, write {% raw %} ... {% endraw %}"
_CLOSE: Final = "close it with }}"
_OPERATORS: Final = {
    "contains": "write 'x' in text",
    "includes": "write 'x' in text",
    "startswith": "write text.startswith('x')",
    "starts_with": "write text.startswith('x')",
    "endswith": "write text.endswith('x')",
    "ends_with": "write text.endswith('x')",
    "matches": "write text | regex_find('x')",
    "not": "write 'x' not in text",
    "AND": 'write "and"',
    "OR": 'write "or"',
    "eq": 'write "=="',
    "equals": 'write "=="',
    "ne": 'write "!="',
}
"""Operators of other languages, and what to write here."""
OTHER_METHODS: Final = {
    **dict.fromkeys(("contains", "includes", "__contains__"), "write 'x' in text"),
    "startsWith": "write text.startswith('x')",
    "endsWith": "write text.endswith('x')",
    "toLowerCase": "write text | lower",
    "toUpperCase": "write text | upper",
    "text": "it is the text already",
}
"""Methods of texts in other languages, and what to write here."""
_KINDS: Final = {"string": "a text", "integer": "a number", "float": "a number"}
_MISSING: Final = (
    "Expected an expression, got 'end of print statement'",
    "unexpected 'end of print statement'",
)
_OPENED: Final = lazy_pattern(r"\{\{[-+]?\s*$")
_NEAR: Final = 20
_INNERMOST: Final = lazy_pattern(r"innermost block that needs to be closed is '(\w+)'")
_STRAY: Final = lazy_pattern(r"^expected token 'end of print statement', got '(\w+)'$")
_HINTS: Final = {
    "got ':'": RAW,
    "expected token ':', got '}'": RAW,
    "expected token 'end of print statement'": _CLOSE,
    "expected 'end of print statement'": _CLOSE,
    "expected token 'end of statement block'": "close it with %}",
    "unexpected '}'": _CLOSE,
    "unexpected char": RAW,
    "Missing end of comment": RAW,
    "Missing end of raw": "add {% endraw %}",
    "Tag name expected": RAW,
}


def habit_warnings(text: str, origin: Origin, lexer: Lexer) -> Iterator[Problem]:
    """Yield warnings for valid text that is probably not meant: `${{`, long comments.

    The `lexer` gives offsets as line numbers.
    """
    if "${{" not in text and "{#" not in text:
        return
    before = ""
    try:
        for position, kind, value in lexer.tokeniter(text, None):
            if kind == "variable_begin" and before.endswith("$"):
                place = origin.locate(position - 2)
                hint = "write {{ ... }} alone, or {{ '$' }} before it if you mean the sign"
                yield Problem(place, "the $ before {{ stays in the text", hint, "warning")
            if kind == "comment" and "\n" in value:
                place = origin.locate(position - 3)
                message = "a {# comment #} over several lines is left out of the text"
                hint = "check that nothing you need is in it"
                yield Problem(place, message, hint, "warning")
            before = value if kind == "data" else ""
    except TemplateSyntaxError:
        return


def syntax_problem(
    error: TemplateSyntaxError, text: str, origin: Origin, *, is_bare: bool = False
) -> Problem:
    """Return Jinja's syntax error, whose line number is an offset, as a problem.

    `is_bare` if the text is an expression that is written without braces.
    """
    offset = min(max(error.lineno - 1, 0), len(text))
    message, hint = _message_and_hint(error.message or "the template cannot be read", text, offset)
    if is_bare and hint == _CLOSE:
        hint = "write an operator before it"
    elif is_bare and hint == RAW:
        hint = "write the value that is meant"
    return Problem(origin.locate(offset), message[:1].lower() + message[1:], hint)


_TYPE_ERRORS: Final = {
    lazy_pattern(pattern): message
    for pattern, message in {
        r"'(\S+)' not supported between instances of '(\w+)' and '(\w+)'": (
            "{0} cannot compare {1} with {2}"
        ),
        r"unsupported operand type\(s\) for (\S+): '(\w+)' and '(\w+)'": (
            "{0} cannot take {1} and {2}"
        ),
        r"(\+) cannot add (\w+) and (\w+)": "{0} cannot add {1} and {2}",
        r"bad operand type for (?:unary )?(\S+?)(?:\(\))?: '(\w+)'": (
            "{0} works on numbers only, not on {1}"
        ),
        r"type (?=\w+ doesn't define __(\w+)__)(\w+) .*": "{0} works on numbers only, not on {1}",
        r"not all arguments converted during string formatting": "this test is for numbers only",
        r"object of type '(\w+)' has no len\(\)": "{0} has no length",
        r"argument of type '(\w+)' is not (?:a container or )?iterable": "nothing can be in {0}",
        r"'in <string>' requires string as left operand, not (\w+)": (
            "in a text there can be a text, not {0}"
        ),
        r"'(\w+)' object is not iterable": "{0} is not a list",
        r"'(\w+)' object cannot be interpreted as an integer": "{0} is not a whole number",
        r"slice indices must be .*": "the ends of a slice must be whole numbers",
    }.items()
}
"""Python's messages on types that do not go together, and those for the writer of a template."""
_TYPES: Final = {
    **dict.fromkeys(("int", "float"), "a number"),
    **dict.fromkeys(("list", "tuple", "range"), "a list"),
    **dict.fromkeys(("dict", "InstanceValue", "Instances"), "a mapping"),
    "str": "a text",
    "bool": "true or false",
    "NoneType": "none",
}
_TO_NUMBER: Final = "cells of csv and answers are text: write | int or | float"
_OF_A_LIST: Final = "write | map('int') or | map('float') before it"
_MIN_WORDS: Final = 2
"""Messages with a single word do not name the operator and a type."""
_NOT_NONE: Final = "test it before with: is not none"


def type_error_in_words(text: str) -> tuple[str, str]:
    """Return Python's message on types that do not go together in words of templates, and a hint.

    Any other message is returned as it is, without a hint.
    """
    for pattern, message in _TYPE_ERRORS.items():
        found = pattern.fullmatch(text.partition("; ")[0])
        if found is not None:
            words = [_TYPES.get(word, word) for word in found.groups()]
            return message.format(*words), _hint_for(words)
    return text, ""


def _hint_for(words: Collection[str]) -> str:
    """Return what to write in place of an operator with types that do not go together."""
    if "none" in words:
        return _NOT_NONE
    is_mixed = "a text" in words and not {"a list", "a mapping"} & set(words)
    if not is_mixed or len(words) < _MIN_WORDS:
        return ""
    if "sum" in words:
        return _OF_A_LIST
    return f"join texts with ~; {_TO_NUMBER}" if "+" in words else _TO_NUMBER


def without_line_numbers(text: str) -> str:
    """Return Jinja's run-time message without line numbers, which are offsets here."""
    text = _NO_ELSE.sub("this if has no else, and its condition is false; add: else ''", text)
    return _IMPORTED_AT.sub("", text)


def _message_and_hint(message: str, text: str, offset: int) -> tuple[str, str]:
    message = message.rstrip(".")
    character = text[offset : offset + 1]
    if message.startswith("unexpected") and _is_foreign(text, offset):
        return message, RAW
    if message.startswith("unexpected char") and character in _CHARACTERS:
        return _CHARACTERS[character]
    if "||" in text[max(offset - 1, 0) : offset + 2]:
        return "|| is not an operator here", 'write "or"'
    if text[offset - 2 : offset + 1] in ("===", "!=="):
        return "= is one too many here", 'write "==" or "!="'
    if text[offset - 1 : offset + 1] == "<>":
        return "<> is not an operator here", 'write "!="'
    if text[offset : offset + 2] == "=~" or text[offset - 1 : offset + 1] == "=~":
        return "=~ is not an operator here", "write text | regex_find('x')"
    if "got '='" in message:
        return "= does not compare", 'write "=="'
    if message.startswith(_MISSING):
        return "an expression is missing here", RAW
    missing = re.match(r"No (filter|test) named '(.*)'", message)
    if missing:
        return f'unknown {missing[1]} "{missing[2]}"', ""
    unknown = re.match(r"Encountered unknown tag '(\w+)'", message)
    if unknown:
        return f'unknown tag "{unknown[1]}"', _tag_hint(unknown[1])
    ended = re.match(r"Unexpected end of template.*following tags: (.*?)\. The innermost", message)
    if ended:
        innermost = _INNERMOST.search(message)
        if innermost:
            tag = innermost[1]
            return f"the template ends, and its {tag} is not closed", f"add {{% end{tag} %}}"
        return f"the template ends where {ended[1]} is expected", "close what is open"
    stray = _STRAY.search(message)
    if stray:
        found = _KINDS.get(stray[1], f'"{stray[1]}"')
        return f"{found} is not expected here", _OPERATORS.get(stray[1], _CLOSE)
    return message, next((hint for part, hint in _HINTS.items() if part in message), "")


def _is_foreign(text: str, offset: int) -> bool:
    """Return whether braces are those of another language: `{{> x }}`, `{{! x }}`."""
    before = text[max(offset - _NEAR, 0) : offset]
    is_alone = text[offset : offset + 1] in _CHARACTERS and before[-1:].isspace()
    return bool(_OPENED.search(before)) and not is_alone


def _tag_hint(tag: str) -> str:
    if tag.startswith("end"):
        return "there is no open tag of this kind here"
    tags = "if, for, set, macro, call, with, filter, include, import, from, extends, block, raw"
    return f"known: {tags}; {RAW}"


NO_VALUE_AT_FIRST: Final = {
    "carry": "the first instance has none: write {{ carry or '' }}, or {% if carry %}",
    "previous": "the first turn has none: write {% if previous %}...{% endif %}",
}
"""What to write for names that have no value at first."""
_TO_TEXT: Final[Mapping[str, str]] = {
    "true or false": "use | tojson, or test it with if",
    "a list": "use | tojson, | join(', ') or a loop",
    "a mapping": "use | tojson or name one of its keys",
}
"""What to write for values without a text of their own."""
ONE_PATH: Final = (
    'an attachment is one path or pattern: write "{{ inputs.files[0] }}" for each, or "docs/*.md"'
)
_TO_PATH: Final[Mapping[str, str]] = {**_TO_TEXT, "a list": ONE_PATH}
"""What to write for such values in the path of an attachment."""
_SURE: Final = (nodes.With, nodes.Scope, nodes.AssignBlock, nodes.FilterBlock)
"""Statements whose contents are always rendered."""
_KEEPS_RESULTS: Final = frozenset({"list", "reject", "rejectattr", "select", "selectattr", "sort"})


class NonTextFinder:
    """Finds what a template prints although it is not a text in any run.

    `kind_of` returns what an attribute of a step is, or an input if the step is empty: None for a
    text or if that is not known.
    `names` are those that the template may use: some have no value at first. The
    template `is_attached` if it is the path of an attachment.
    """

    def __init__(
        self,
        kind_of: Callable[[str, str], str | None],
        names: Collection[str],
        *,
        is_attached: bool = False,
    ) -> None:
        self._kind_of = kind_of
        self._to_text = _TO_PATH if is_attached else _TO_TEXT
        self._first = NO_VALUE_AT_FIRST.keys() & names
        self._bound: set[str] = set()
        """Names that the template binds."""
        self._no_items: set[str] = set()
        """Those of them that are not the item of a loop."""
        self._parsed: nodes.Template | None = None

    def problems(self, parsed: nodes.Template, origin: Origin) -> Iterator[Problem]:
        """Yield a problem for each value that is printed as it is, which always fails."""
        self._bound = {node.name for node in parsed.find_all(nodes.Name) if node.ctx != "load"}
        self._no_items = self._bound - {_item(node) for node in parsed.find_all(nodes.For)}
        self._parsed = parsed
        for offset, message, hint in self._printed(parsed.body, {}, is_sure=True):
            yield Problem(origin.locate(offset), message, hint)
        self._parsed = None

    def _printed(
        self, body: Iterable[nodes.Node], items: Mapping[str, str], *, is_sure: bool
    ) -> Iterator[tuple[int, str, str]]:
        """Yield the faults of a body; `items` are names of results, with their steps."""
        for node in body:
            if isinstance(node, nodes.Output):
                for part in node.nodes:
                    yield from self._fault(part, items, is_sure=is_sure)
            elif isinstance(node, nodes.For):
                inner = {**items, _item(node): _step_of(node.iter)}
                yield from self._printed(node.body, inner, is_sure=False)
                yield from self._printed(node.else_, items, is_sure=False)
            elif not isinstance(node, nodes.Macro | nodes.CallBlock):
                inside = (one for one in node.iter_child_nodes() if isinstance(one, nodes.Stmt))
                sure = is_sure and isinstance(node, _SURE)
                yield from self._printed(inside, items, is_sure=sure)

    def _tests_kinds(self) -> bool:
        """Whether the template tests what its values are: they may then be of any kind."""
        return self._parsed is not None and tests_kinds(self._parsed)

    def _fault(
        self, node: nodes.Node, items: Mapping[str, str], *, is_sure: bool
    ) -> Iterator[tuple[int, str, str]]:
        """Yield offset, message and hint if a printed value is not a text."""
        root = node
        while isinstance(root, nodes.Getattr | nodes.Getitem):
            root = root.node
        if not isinstance(root, nodes.Name):
            return
        if is_sure and root.name in self._first and root.name not in self._bound:
            yield (
                root.lineno - 1,
                f"{root.name} has no value at first",
                NO_VALUE_AT_FIRST[root.name],
            )
        elif isinstance(node, nodes.Getattr) and _is_input(node) and root.name not in self._bound:
            kind = self._kind_of("", node.attr)
            if kind is not None and not self._tests_kinds():
                yield node.lineno, f"inputs.{node.attr} is {kind}, not a text", self._to_text[kind]
        elif isinstance(node, nodes.Getattr) and root.name not in self._no_items:
            step = items.get(root.name, "") if node.node is root else _of_steps(node.node)
            kind = self._kind_of(step, node.attr) if step else None
            if kind is not None and not self._tests_kinds():
                is_of_step = isinstance(node.node, nodes.Getattr)
                written = f"steps.{step}.{node.attr}" if is_of_step else node.attr
                yield node.lineno, f"{written} is {kind}, not a text", self._to_text[kind]


def _step_of(node: nodes.Node | None) -> str:
    """Return the step whose results a loop runs over, empty for anything else."""
    while isinstance(node, nodes.Filter) and node.name in _KEEPS_RESULTS:
        node = node.node
    return _of_steps(node.node) if isinstance(node, nodes.Getattr) and node.attr == "all" else ""


def _of_steps(node: nodes.Node) -> str:
    """Return the step that `steps.ID` or `steps.ID["key"]` names, empty for anything else."""
    if isinstance(node, nodes.Getitem):
        node = node.node
    if not isinstance(node, nodes.Getattr) or not isinstance(node.node, nodes.Name):
        return ""
    return node.attr if node.node.name == "steps" else ""


def _is_input(node: nodes.Getattr) -> bool:
    """Return whether a value is `inputs.NAME`."""
    return isinstance(node.node, nodes.Name) and node.node.name == "inputs"


def _item(node: nodes.For) -> str:
    """Return the name that a loop binds, empty if it binds several."""
    return node.target.name if isinstance(node.target, nodes.Name) else ""


LOST_HINT: Final = (
    "names set in a loop or block are lost at its end: "
    "write {% set ns = namespace(x=none) %} before, {% set ns.x = ... %} in it"
)


def loss_warnings(
    template: nodes.Template, known: frozenset[str], origin: Origin
) -> Iterator[Problem]:
    """Yield a warning for each name that is set in a loop or block and read after its end.

    `known` are names defined before the template: after the block they have their old values.
    """
    finder = _LostNameFinder(known)
    finder.visit(template)
    for loss in sorted(finder.found, key=lambda loss: loss.offset):
        where = "each turn of the loop" if loss.in_loop else "the block"
        message = f'what "{loss.name}" is set to here is lost at the end of {where}'
        hint = (
            f"write {{% set ns = namespace({loss.name}=...) %}} before, "
            f"{{% set ns.{loss.name} = ... %}} here, and read ns.{loss.name}"
        )
        yield Problem(origin.locate(loss.offset), message, hint, "warning")


class _LostName(msgspec.Struct, frozen=True, kw_only=True):
    """A name that is set at `offset` and lost before it is used, as its scope ends."""

    name: str
    offset: int
    in_loop: bool


class _Block:
    """An open scope: the names set in it, those read before, and those set again.

    `lost` are names set by inner blocks that have ended.
    """

    def __init__(self, kind: str, names: Iterable[str] = ()) -> None:
        self.kind = kind
        self.names = set(names)
        self.read: set[str] = set()
        self.set_again: dict[str, _LostName] = {}
        self.lost: dict[str, set[_LostName]] = {}


class _LostNameFinder:
    """Walks a template in the order of rendering. `found` are the lost names that are read."""

    def __init__(self, known: Iterable[str]) -> None:
        self.found: set[_LostName] = set()
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
            case nodes.Block():
                self._inside("block", node.body)
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
        """Visit the node `before` a new scope, then the nodes inside it."""
        if before is not None:
            self.visit(before)
        self._blocks.append(_Block(kind, names))
        for node in body:
            self.visit(node)
        block = self._blocks.pop()
        around = self._blocks[-1].lost
        for name, lost_in_body in block.lost.items():
            around.setdefault(name, set()).update(lost_in_body)
        for name, loss in block.set_again.items():
            around.setdefault(name, set()).add(loss)

    def _set(self, target: nodes.Node) -> None:
        block = self._blocks[-1]
        for node in with_below(target):
            if isinstance(node, nodes.Name):
                if node.name not in block.names and self._is_set_again(node.name):
                    in_loop = block.kind == "loop"
                    loss = _LostName(name=node.name, offset=node.lineno - 1, in_loop=in_loop)
                    block.set_again[node.name] = loss
                    if in_loop and node.name in block.read:
                        self.found.add(loss)
                block.names.add(node.name)
                block.lost.pop(node.name, None)

    def _is_set_again(self, name: str) -> bool:
        """Return whether an outer block has the name; the names of a function are its own."""
        *around, block = self._blocks
        return block.kind != "function" and any(name in other.names for other in around)

    def _read(self, name: str) -> None:
        for block in reversed(self._blocks):
            self.found |= block.lost.pop(name, set())
            if name in block.names:
                break
            block.read.add(name)
