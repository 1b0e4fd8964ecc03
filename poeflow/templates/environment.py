"""The sandbox: Jinja without a way out, with its loader and a lexer that knows every node's place.

`check` compiles in it and renders nothing. One environment serves one run and one thread.
"""

import math
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NoReturn

import jinja2
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

from poeflow.project.project import FileProblem
from poeflow.templates import sandbox as access
from poeflow.templates import sandbox as rewrite
from poeflow.templates.budget import Allowance, Budget
from poeflow.templates.filters import counted_filters, counted_tests
from poeflow.templates.includes import End, line_ends
from poeflow.templates.mapping_keys import mapping_of, namespace_of
from poeflow.templates.reader import Origin, Reader
from poeflow.templates.sandbox import check_operands, finalizer
from poeflow.templates.values import text_of


class Loader(BaseLoader):
    """Gives Jinja the texts of a reader, by canonical paths."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def canonical(self, path: object, *, relative_to: str) -> str:
        """Return the canonical path of a file there is. Raises `TemplateNotFound`."""
        try:
            return self._reader.source(text_of(path), relative_to=relative_to)[0]
        except FileProblem as error:  # not put in words: the file may be one that may be missing
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
"""The work of reading a file again, of a search that is known, and of an entry looked at."""


def file_functions(reader: Reader, budget: Callable[[], Budget]) -> dict[str, Callable[..., Any]]:
    """Return the functions of templates; paths are relative to the file that calls them."""

    @pass_context
    def read(context: Context, path: object) -> str:
        budget().work(_READING)
        text = reader.source(text_of(path), relative_to=context.name or "//")[1]
        budget().walk(text)
        return text

    @pass_context
    def glob(context: Context, pattern: object) -> list[str]:
        current = budget()
        current.work(_SEARCHING)
        written, relative_to = text_of(pattern), context.name or "//"
        found = reader.glob(
            written, relative_to=relative_to, visit=lambda count: current.work(count * _VISIT)
        )
        current.held(found)
        return found

    def dict_(*arguments: Any, **named: Any) -> dict[Any, Any]:
        made = mapping_of(budget(), *arguments, **named)
        budget().held(made)
        return made

    def namespace(*arguments: Any, **named: Any) -> Namespace:
        return namespace_of(budget(), *arguments, **named)

    return {"read": read, "glob": glob, "dict": dict_, "namespace": namespace}


MAX_TOKENS: Final = 50_000
MAX_BRACKETS: Final = 40
MAX_DIGITS: Final = 100
_POSITION: Final = re.compile(r" at \d+$")
_CRLF: Final = re.compile(r"\r\n")


class OffsetLexer(Lexer):
    """Emits the tokens of Jinja's own lexer, each with its offset; bounded in number and depth."""

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
                # White space Jinja strips lies between tokens, so the next one may stand further.
                last = position = max(text.find(value, position), position)
                if kind == "operator":
                    depth += (value in "([{") - (value in ")]}")
                _check(kind, value, count, depth)
                yield offsets.original(position) + 1, kind, value
                position += len(value)
        except TemplateSyntaxError as error:
            message = _POSITION.sub("", error.message or "")
            start = last if message.startswith("Missing end") else position
            place = offsets.original(start) + 1
            raise TemplateSyntaxError(message, place, name, filename) from None


class _Offsets:
    """Leads from offsets in a text with Jinja's line ends back to the text as written."""

    def __init__(self, source: str) -> None:
        found = _CRLF.finditer(source) if "\r" in source else ()
        self._shortened = [match.start() - index for index, match in enumerate(found)]

    def original(self, offset: int) -> int:
        return offset + bisect_left(self._shortened, offset)


def _check(kind: str, value: str, count: int, depth: int) -> None:
    """Refuse what would make the parser or the compiler fall over."""
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
"""The variable in which a template compiled for its value leaves it."""
_LAST_LINE_END: Final = re.compile(r"(?:\r\n|\r|\n)\Z")
_COMPILING: Final = 5
"""The work of compiling one character of an included file."""
_MAX_COMPILED: Final = 1_000
_MAX_COMPILED_TEXT: Final = 1024 * 1024
"""How many compiled templates are kept, and how many characters of them."""
_FAILED_LOOKUP: Final = 20
_FAILED_SEARCH: Final = 400
GLOBALS: Final = frozenset({"range", "dict", "namespace", "read", "glob"})


class Environment(ImmutableSandboxedEnvironment):
    """Compiles and renders the templates of one run; files come from `reader`.

    What they may do together is in `allowance`, which other environments may share; without one
    each rendering is bounded by itself.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, reader: Reader, allowance: Allowance | None = None) -> None:
        self._files = Loader(reader)
        super().__init__(
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,
            finalize=finalizer(lambda: self.budget),
            loader=self._files,
            cache_size=400,
        )
        self.reader = reader
        self.allowance = allowance or Allowance(is_free=True)
        self.budget = self.allowance.next_budget()
        self._compiled: dict[tuple[Mode, str, str], Template] = {}
        self._compiled_text = 0
        self._offset_lexer: OffsetLexer | None = None
        self.filters = counted_filters(lambda: self.budget)
        self.tests = counted_tests(lambda: self.budget)
        own = file_functions(reader, lambda: self.budget)
        self.globals = {"range": self.globals["range"], **own}

    def begin(self) -> None:
        """Begin a rendering: it has a budget of its own."""
        self.budget = self.allowance.next_budget(self.budget)

    @property
    def lexer(self) -> OffsetLexer:
        if self._offset_lexer is None:
            self._offset_lexer = OffsetLexer(self)
        return self._offset_lexer

    def template(self, text: str, origin: Origin, mode: Mode = "text") -> Template:
        """Compile `text`, once. Raises `jinja2.TemplateSyntaxError`.

        In mode `value` the text must be one expression, whose value the template leaves in `VALUE`.
        """
        known = self._compiled.get((mode, origin.path, text))
        return known or self.compiled(text, self.parsed(text, origin), origin, mode)

    def parsed(self, text: str, origin: Origin) -> nodes.Template:
        """Parse `text` as written, less its last line end. Raises `jinja2.TemplateSyntaxError`."""
        return Parser(self, without_last_line_end(text), origin.path).parse()

    def is_expression(self, text: str, origin: Origin) -> bool:
        """Whether `text` is exactly one `{{ expression }}`. Raises as `template`."""
        if ("value", origin.path, text) in self._compiled:
            return True
        return only_expression(self.parsed(text, origin)) is not None

    def compiled(
        self, text: str, parsed: nodes.Template, origin: Origin, mode: Mode = "text"
    ) -> Template:
        """Compile what `text` was parsed to, which is changed by it. Raises as `template`."""
        if mode == "value":
            expression = only_expression(parsed)
            if expression is None:
                raise TemplateSyntaxError("this is not one expression", 1, origin.path)
            target = nodes.Name(VALUE, "store", lineno=expression.lineno)
            parsed.body = [nodes.Assign(target, expression, lineno=expression.lineno)]
        ends = self._ends(without_last_line_end(text), origin.path)
        rewritten = rewrite.rewrite(parsed, ends=ends, is_path=mode == "path")
        code = self.compile(rewritten, name=origin.path)
        template = Template.from_code(self, code, self.globals)
        self._keep((mode, origin.path, text), template)
        return template

    def _keep(self, key: tuple[Mode, str, str], template: Template) -> None:
        """Keep a compiled template; those compiled first make room."""
        self._compiled[key] = template
        self._compiled_text += len(key[2])
        while len(self._compiled) > 1 and (
            len(self._compiled) > _MAX_COMPILED or self._compiled_text > _MAX_COMPILED_TEXT
        ):
            first = next(iter(self._compiled))
            del self._compiled[first]
            self._compiled_text -= len(first[2])

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse an included file, last line end and all: its includer has a line to go on with."""
        self.budget.work(len(source) * _COMPILING)
        parsed = Parser(self, source, name, filename).parse()
        return rewrite.rewrite(parsed, ends=self._ends(source, name))

    def _ends(self, text: str, name: str | None) -> dict[int, End]:
        """Return what follows each include of a text that can be parsed."""
        return line_ends(self.lexer.tokeniter(text, name)) if "include" in text else {}

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raise as is: Jinja would rewrite the trace by line numbers, which are offsets here."""
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
        """Look a name up: on mappings always the key, elsewhere the few safe methods."""
        try:
            return access.attribute(obj, attribute)
        except LookupError as error:
            self.budget.work(_FAILED_LOOKUP)
            return self.undefined(str(error.args[0]), obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            return access.item(obj, argument)
        except LookupError as error:
            self.budget.work(_FAILED_LOOKUP)
            return self.undefined(str(error.args[0]), obj)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        is_new = access.check_call(obj, (*args, *kwargs.values()), self.budget)
        result = super().call(context, obj, *args, **kwargs)
        return self.budget.kept(result) if is_new else result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.budget.work(20 if operator == "**" else 5)
        check_operands(operator, left, right, self.budget)
        return self.budget.held(super().call_binop(context, operator, left, right))


def without_last_line_end(text: str) -> str:
    """Return a text as prompts are sent: a file ends with a line end, a prompt does not."""
    return text[: -len(found[0])] if (found := _LAST_LINE_END.search(text)) else text


def only_expression(parsed: nodes.Template) -> nodes.Expr | None:
    """Return the expression of a text that is exactly one `{{ expression }}`, else None."""
    body = parsed.body[0] if len(parsed.body) == 1 else None
    if not isinstance(body, nodes.Output) or len(body.nodes) != 1:
        return None
    expression = body.nodes[0]
    return None if isinstance(expression, nodes.TemplateData) else expression
