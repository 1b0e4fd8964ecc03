"""The sandbox: Jinja without a way out, without surprises at compile time, with bounded work.

`check` compiles in it and renders nothing. One environment serves one run and one thread.
"""

import sys
from collections.abc import Callable
from typing import Any, Final, Literal, NoReturn

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
    nodes,
    pass_context,
)
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from poeflow.files import FileProblem
from poeflow.templates import access, rewrite
from poeflow.templates.budget import Budget, bounded
from poeflow.templates.filters import counted_filters, counted_tests
from poeflow.templates.lexer import OffsetLexer
from poeflow.templates.loader import Loader
from poeflow.templates.operators import check_operands
from poeflow.templates.origin import Origin
from poeflow.templates.reader import Reader
from poeflow.templates.scope import Checked, Scope
from poeflow.templates.texts import text_of

Mode = Literal["text", "path", "value"]
VALUE: Final = "the_value_of_this_expression"
"""The variable in which a template compiled for its value leaves it."""
GLOBALS: Final = frozenset({"range", "dict", "namespace", "read", "glob"})


class Environment(ImmutableSandboxedEnvironment):
    """Compiles and renders the templates of one run; files come from `reader`."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, reader: Reader) -> None:
        super().__init__(
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            optimized=False,
            finalize=self._finalize(),
            loader=Loader(reader),
            cache_size=400,
        )
        self.reader = reader
        self.budget = Budget()
        self.checked: dict[tuple[str, Scope], Checked] = {}
        self._compiled: dict[tuple[Mode, str, str], Template] = {}
        self._offset_lexer: OffsetLexer | None = None
        self.filters = counted_filters(lambda: self.budget) | self._inner_filters()
        self.tests = counted_tests(lambda: self.budget)
        known = {name: self.globals[name] for name in ("range", "dict", "namespace")}
        self.globals = known | {"read": self._read(), "glob": self._glob()}

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
        """Parse `text` as written. Raises `jinja2.TemplateSyntaxError`."""
        return Parser(self, text, origin.path).parse()

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
        rewritten = rewrite.rewrite(parsed, is_path=mode == "path")
        code = self.compile(rewritten, name=origin.path)
        template = Template.from_code(self, code, self.globals)
        self._compiled[mode, origin.path, text] = template
        return template

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return rewrite.rewrite(Parser(self, source, name, filename).parse())

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raise as is: Jinja would rewrite the trace by line numbers, which are offsets here."""
        error = sys.exception()
        if error is None:
            raise AssertionError("there is an exception to handle")
        raise error

    def join_path(self, template: str, parent: str) -> str:
        try:
            return self.reader.source(text_of(template), relative_to=parent)[0]
        except FileProblem as error:
            raise TemplateNotFound(template, str(error)) from None

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look a name up: on mappings always the key, elsewhere the few safe methods."""
        return self._found(access.attribute, obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._found(access.item, obj, argument)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        is_new = access.check_call(obj, args, self.budget)
        result = super().call(context, obj, *args, **kwargs)
        return self.budget.kept(result) if is_new else result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.budget.work(1)
        check_operands(operator, left, right, self.budget)
        return self.budget.kept(super().call_binop(context, operator, left, right))

    def _found(self, look: Callable[[Any, Any], Any], obj: Any, name: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj.attribute  # raises its error
        try:
            return look(obj, name)
        except LookupError as error:
            return self.undefined(str(error.args[0]), obj, str(name))

    def _inner_filters(self) -> dict[str, Any]:
        """Return what `rewrite` puts around loops, new values and operands."""

        def walked(value: Any) -> Any:
            self.budget.walk(value)
            return value

        def kept(value: Any) -> Any:
            return self.budget.kept(value)

        def stepped(value: Any) -> Any:
            self.budget.step()
            return value

        return {
            rewrite.COUNTED: self._counted,
            rewrite.CONCAT: self._concat,
            rewrite.KEPT: kept,
            rewrite.SEGMENT: _segment,
            rewrite.STEPPED: stepped,
            rewrite.WALKED: walked,
        }

    def _counted(self, items: Any) -> Any:
        if isinstance(items, dict | str | list | tuple | range):
            self.budget.step(len(items))
        elif not isinstance(items, Undefined):
            raise TypeError(f"a loop needs a list or a mapping, not {items!r}"[:100])
        return items

    def _concat(self, parts: list[Any]) -> str:
        texts = [text_of(part) for part in parts]
        bounded(sum(map(len, texts)))
        return self.budget.made("".join(texts))

    def _finalize(self) -> Callable[..., str]:
        @pass_context
        def finalize(_context: Context, value: Any) -> str:
            return self.budget.made(text_of(value))

        return finalize

    def _read(self) -> Callable[..., str]:
        @pass_context
        def read(context: Context, path: str) -> str:
            return self.reader.source(str(path), relative_to=context.name or "//")[1]

        return read

    def _glob(self) -> Callable[..., list[str]]:
        @pass_context
        def glob(context: Context, pattern: str) -> list[str]:
            return self.reader.glob(str(pattern), relative_to=context.name or "//")

        return glob


def only_expression(parsed: nodes.Template) -> nodes.Expr | None:
    """Return the expression of a text that is exactly one `{{ expression }}`, else None."""
    body = parsed.body[0] if len(parsed.body) == 1 else None
    if not isinstance(body, nodes.Output) or len(body.nodes) != 1:
        return None
    expression = body.nodes[0]
    return None if isinstance(expression, nodes.TemplateData) else expression


def _segment(value: Any) -> str:
    """Return what an expression adds to a path. Raises `ValueError` unless it is one segment."""
    text = text_of(value)
    if not text or text.startswith(".") or any(character in text for character in "/\\\0\n"):
        raise ValueError(f'"{text[:80]}" is not one safe part of a path; use | slug')
    return text
