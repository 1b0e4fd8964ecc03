"""The sandboxed Jinja environment, its loader, and a lexer that records every node's offset.

`check` compiles in it without rendering. One environment serves one run and one thread.
"""

import math
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, Literal, NoReturn

import jinja2
import msgspec
from jinja2 import (
    BaseLoader,
    StrictUndefined,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
    nodes,
    pass_context,
)
from jinja2.lexer import Lexer, newline_re
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from poeflow.lazy_pattern import lazy_pattern
from poeflow.project.project import FileProblem
from poeflow.templates import includes, sandbox
from poeflow.templates.filters import counted_filters, counted_tests
from poeflow.templates.reader import Origin, Reader
from poeflow.templates.values import to_text
from poeflow.templates.work_budget import Allowance, WorkBudget, mapping_of, namespace_of


class Loader(BaseLoader):
    """Loads templates for Jinja from a reader, by canonical paths."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def canonical(self, path: object, *, relative_to: str) -> str:
        """Return the canonical path of an existing file. Raises `TemplateNotFound`."""
        try:
            return self._reader.source(to_text(path), relative_to=relative_to)[0]
        except FileProblem as error:  # without a message: the file may be optional
            raise TemplateNotFound(str(path)) from error

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        try:
            return self._reader.source(template, relative_to="//")[1], None, None
        except FileProblem as error:
            raise TemplateNotFound(template) from error


_READING: Final = 100
_SEARCHING: Final = 200
_VISIT: Final = 60
"""The work of reading a cached file, of a cached search, and of visiting a folder entry."""


def file_functions(
    reader: Reader, budget: Callable[[], WorkBudget]
) -> dict[str, Callable[..., Any]]:
    """Return the functions for templates; paths are relative to the file with the call."""

    @pass_context
    def read(context: Context, path: object) -> str:
        budget().work(_READING)
        text = reader.source(to_text(path), relative_to=_file_of(path, context))[1]
        budget().walk(text)
        return text

    @pass_context
    def glob(context: Context, pattern: object) -> list[str]:
        current = budget()
        current.work(_SEARCHING)
        written, relative_to = to_text(pattern), _file_of(pattern, context)
        found = reader.glob(
            written, relative_to=relative_to, visit=lambda count: current.work(count * _VISIT)
        )
        current.count_reused(found)
        return found

    def dict_(*arguments: Any, **named: Any) -> dict[Any, Any]:
        made = mapping_of(budget(), *arguments, **named)
        budget().count_reused(made)
        return made

    def namespace(*arguments: Any, **named: Any) -> Namespace:
        return namespace_of(budget(), *arguments, **named)

    return {"read": read, "glob": glob, "dict": dict_, "namespace": namespace}


def _file_of(path: object, context: Context) -> str:
    """Return the file a path is written in: in what another file extends not the one rendered."""
    return path.file if isinstance(path, includes.PathIn) else context.name or "//"


MAX_TOKENS: Final = 50_000
MAX_BRACKETS: Final = 40
MAX_DIGITS: Final = 100
_POSITION: Final = lazy_pattern(r" at \d+$")
_CRLF: Final = lazy_pattern(r"\r\n")


class OffsetLexer(Lexer):
    """Yields the tokens of Jinja's lexer with their offsets; their number and depth are bounded."""

    def tokeniter(
        self,
        source: str,
        name: str | None,
        filename: str | None = None,
        state: str | None = None,
    ) -> Iterator[tuple[int, str, str]]:
        text = newline_re.sub("\n", source)
        offsets = _Offsets(source)
        position = depth = last = 0
        try:
            tokens = super().tokeniter(text, name, filename, state)
            for count, (_line, kind, value) in enumerate(tokens):
                # Jinja strips white space between tokens, so the next one may be further on.
                last = position = max(text.find(value, position), position)
                if kind == "operator":
                    depth += depth_change(value)
                _check(kind, value, count, depth)
                yield offsets.original(position) + 1, kind, value
                position += len(value)
        except TemplateSyntaxError as error:
            message = _POSITION.sub("", error.message or "")
            start = last if message.startswith("Missing end") else position
            place = offsets.original(start) + 1
            raise TemplateSyntaxError(message, place, name, filename) from None


def depth_change(operator: str) -> int:
    """Return 1 for an operator that opens a bracket, -1 for one that closes one, else 0."""
    return (operator in "([{") - (operator in ")]}")


class _Offsets:
    """Converts offsets in a text with Jinja's line ends to offsets in the original text."""

    def __init__(self, source: str) -> None:
        found = _CRLF.finditer(source) if "\r" in source else ()
        self._shortened = [match.start() - index for index, match in enumerate(found)]

    def original(self, offset: int) -> int:
        return offset + bisect_left(self._shortened, offset)


def _check(kind: str, value: str, count: int, depth: int) -> None:
    """Raise `TemplateSyntaxError` for tokens that would crash the parser or compiler."""
    if count == MAX_TOKENS:
        raise TemplateSyntaxError(f"the template has over {MAX_TOKENS:,} words", 1)
    if depth > MAX_BRACKETS:
        raise TemplateSyntaxError(f"brackets are nested over {MAX_BRACKETS} deep", 1)
    if kind in ("integer", "float") and len(value) > MAX_DIGITS:
        raise TemplateSyntaxError(f"a number has over {MAX_DIGITS} digits", 1)
    if kind == "float" and math.isinf(float(value.replace("_", ""))):
        raise TemplateSyntaxError(f"the number {value} is too large", 1)


Mode = Literal["text", "path", "value"]
VALUE: Final = "the_value_of_this_expression"
"""The variable in which a template compiled for its value stores it."""
_LAST_LINE_END: Final = lazy_pattern(r"(?:\r\n|\r|\n)\Z")
_COMPILING: Final = 5
"""The work of compiling one character of an included file."""
_MAX_COMPILED: Final = 1_000
_MAX_COMPILED_TEXT: Final = 1024 * 1024
"""How many compiled templates are cached, and how many characters of them."""
_LONGEST_SHARED: Final = 500
_MAX_SHARED: Final = 32 * 1024
"""How long a text may be to share its tree, and all of them: a tree has a hundred times as much."""
_FAILED_LOOKUP: Final = 20
_FAILED_SEARCH: Final = 400
GLOBALS: Final = frozenset({"range", "dict", "namespace", "read", "glob"})


class Environment(ImmutableSandboxedEnvironment):
    """Compiles and renders the templates of one run; files come from `reader`.

    `allowance` limits their work together and can be shared with other environments; without one
    each rendering has only its own limit.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, reader: Reader, allowance: Allowance | None = None) -> None:
        self._files = Loader(reader)
        self._allowance = allowance or Allowance(is_unlimited=True)
        shared = _shared_parts(self._allowance)
        super().__init__(
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,
            finalize=shared.finalize,
            loader=self._files,
            cache_size=400,
        )
        self.reader = reader
        self._allowance.budget = self._allowance.next_budget()
        self._compiled: dict[tuple[Mode, str, str], Template] = {}
        self._compiled_text = 0
        self._trees = shared.trees
        self.filters = shared.filters
        self.tests = shared.tests
        own = file_functions(reader, lambda: self.budget)
        self.globals = {"range": self.globals["range"], **own}

    @property
    def allowance(self) -> Allowance:
        return self._allowance

    @property
    def budget(self) -> WorkBudget:
        return self._allowance.budget

    def begin(self) -> None:
        """Begin a rendering with a new budget."""
        self._allowance.budget = self._allowance.next_budget(self._allowance.budget)

    @property
    def lexer(self) -> OffsetLexer:
        return _lexer()

    def template(self, text: str, origin: Origin, mode: Mode = "text") -> Template:
        """Compile `text`, with a cache. Raises `jinja2.TemplateSyntaxError`.

        In mode `value` the text must be one expression; the template stores its value in `VALUE`.
        """
        known = self._compiled.get((mode, origin.path, text))
        return known or self.compiled(text, origin, mode)

    def parsed(self, text: str, origin: Origin) -> nodes.Template:
        """Parse `text` without its last line end. Raises `jinja2.TemplateSyntaxError`.

        Equal texts of all flows of a command may share one tree, which is never modified.
        """
        return self._trees.tree(text, lambda: self._new_tree(text, origin))

    def _new_tree(self, text: str, origin: Origin) -> nodes.Template:
        return Parser(self, without_last_line_end(text), origin.path).parse()

    def is_expression(self, text: str, origin: Origin) -> bool:
        """Return whether `text` is exactly one `{{ expression }}`. Raises as `template`."""
        if ("value", origin.path, text) in self._compiled:
            return True
        return only_expression(self.parsed(text, origin)) is not None

    def compiled(self, text: str, origin: Origin, mode: Mode = "text") -> Template:
        """Compile `text`, from a tree of its own, which is modified. Raises as `template`."""
        parsed = self._new_tree(text, origin)
        if mode == "value":
            expression = only_expression(parsed)
            if expression is None:
                raise TemplateSyntaxError("this is not one expression", 1, origin.path)
            target = nodes.Name(VALUE, "store", lineno=expression.lineno)
            parsed.body = [nodes.Assign(target, expression, lineno=expression.lineno)]
        ends = self._ends(without_last_line_end(text), origin.path)
        kind = Template if includes.parent_of(parsed) is None else _Extending
        file, is_path = origin.path, mode == "path"
        rewritten = sandbox.rewrite(parsed, ends=ends, file=file, is_path=is_path)
        code = self.compile(rewritten, name=origin.path)
        template = kind.from_code(self, code, self.globals)
        self._keep((mode, origin.path, text), template)
        return template

    def _keep(self, key: tuple[Mode, str, str], template: Template) -> None:
        """Cache a compiled template; the oldest ones are dropped."""
        self._compiled[key] = template
        self._compiled_text += len(key[2])
        while len(self._compiled) > 1 and (
            len(self._compiled) > _MAX_COMPILED or self._compiled_text > _MAX_COMPILED_TEXT
        ):
            first = next(iter(self._compiled))
            del self._compiled[first]
            self._compiled_text -= len(first[2])

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse an included file with its last line end, as the including line may continue."""
        self.budget.work(len(source) * _COMPILING)
        parsed = Parser(self, source, name, filename).parse()
        return sandbox.rewrite(parsed, ends=self._ends(source, name), file=name)

    def _ends(self, text: str, name: str | None) -> dict[int, includes.End]:
        """Return the line end of each include in a text that can be parsed."""
        return includes.line_ends(self.lexer.tokeniter(text, name)) if "include" in text else {}

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raise unchanged: Jinja would rewrite the traceback by line numbers, here offsets."""
        error = sys.exception()
        if error is None:
            raise AssertionError("there is an exception to handle")
        raise error

    def join_path(self, template: str, parent: str) -> str:
        try:
            return self._files.canonical(template, relative_to=parent)
        except TemplateNotFound:
            self.budget.work(_FAILED_SEARCH)
            raise

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look up an attribute: on mappings always the key, otherwise one of a few safe methods."""
        if type(obj) is dict and attribute in obj:  # as most are
            return obj[attribute]
        try:
            return sandbox.attribute(obj, attribute)
        except LookupError as error:
            self.budget.work(_FAILED_LOOKUP)
            return self.undefined(str(error.args[0]), obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            return sandbox.item(obj, argument)
        except LookupError as error:
            self.budget.work(_FAILED_LOOKUP)
            return self.undefined(str(error.args[0]), obj)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        is_new = sandbox.check_call(obj, (*args, *kwargs.values()), self.budget)
        result = super().call(context, obj, *args, **kwargs)
        return self.budget.count_new(result) if is_new else result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.budget.work(20 if operator == "**" else 5)
        sandbox.check_operands(operator, left, right, self.budget)
        return self.budget.count_reused(super().call_binop(context, operator, left, right))


class _Extending(Template):
    """A template that extends another one, whose last line end is left out as its own would be."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        return without_last_line_end(super().render(*args, **kwargs))


class _SharedParts(msgspec.Struct, frozen=True):
    """What all environments with one allowance share: making it takes half a millisecond."""

    filters: dict[str, Any]
    tests: dict[str, Any]
    finalize: Callable[..., str]
    trees: "_Trees"


class _Trees:
    """The trees of short texts, to parse the same one once: many steps and flows repeat them."""

    def __init__(self) -> None:
        self._known: dict[str, nodes.Template] = {}
        self._size = 0

    def tree(self, text: str, parse: Callable[[], nodes.Template]) -> nodes.Template:
        """Return the tree of a text."""
        known = self._known.get(text)
        if known is not None:
            return known
        made = parse()
        if len(text) <= _LONGEST_SHARED:
            if self._size > _MAX_SHARED:
                self._known.clear()
                self._size = 0
            self._known[text] = made
            self._size += len(text)
        return made


@lru_cache(maxsize=1)
def _shared_parts(allowance: Allowance) -> _SharedParts:
    def budget() -> WorkBudget:
        return allowance.budget

    return _SharedParts(
        sandbox.inner_filters(budget) | counted_filters(budget),
        counted_tests(budget),
        _finalizer(allowance),
        _Trees(),
    )


@lru_cache(maxsize=1)
def _lexer() -> OffsetLexer:
    """Return the lexer of all environments, which have one syntax."""
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return OffsetLexer(ImmutableSandboxedEnvironment(**options))


def without_last_line_end(text: str) -> str:
    """Return a text without its last line end: files end with one, prompts do not."""
    return text[: -len(found[0])] if (found := _LAST_LINE_END.search(text)) else text


@lru_cache(maxsize=100)
def certainly_compiles(parsed: nodes.Template, *, is_path: bool) -> bool:
    """Return whether a tree, which flows may share, compiles for sure. Raises as `check_shape`."""
    sandbox.check_shape(parsed, is_path=is_path)
    return sandbox.always_compiles(parsed)


def only_expression(parsed: nodes.Template) -> nodes.Expr | None:
    """Return the expression of a text that is exactly one `{{ expression }}`, else None."""
    body = parsed.body[0] if len(parsed.body) == 1 else None
    if not isinstance(body, nodes.Output) or len(body.nodes) != 1:
        return None
    expression = body.nodes[0]
    return None if isinstance(expression, nodes.TemplateData) else expression


def _finalizer(allowance: Allowance) -> Callable[..., str]:
    """Return the function that converts every printed value.

    It takes the context, so that Jinja does not call it while compiling.
    """

    @pass_context
    def finalize(_context: Context, value: Any) -> str:
        text = value if type(value) is str else to_text(value)
        return allowance.budget.count_printed(text)

    return finalize
