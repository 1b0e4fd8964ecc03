"""Renders texts, paths, values and expressions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from jinja2 import Template, TemplateNotFound, TemplateSyntaxError
from jinja2 import TemplateError as JinjaError

from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place
from poeflow.project.project import FileProblem
from poeflow.templates.environment import (
    VALUE,
    Environment,
    Mode,
    depth_change,
    without_last_line_end,
)
from poeflow.templates.filters import NotANumberError
from poeflow.templates.reader import Origin
from poeflow.templates.template_errors import (
    NO_VALUE_AT_FIRST,
    syntax_problem,
    type_error_in_words,
    without_line_numbers,
)
from poeflow.templates.values import encodable, to_json
from poeflow.templates.work_budget import OverBudgetError, bounded

Values = Mapping[str, Json]

_TEMPLATE_ERRORS: Final = (
    JinjaError,
    FileProblem,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    NameError,
    RuntimeError,
    SyntaxError,
    MemoryError,
)
"""The exceptions that rendering a template can raise."""


class TemplateError(StepError):
    """A template failed at run time, at `place`; `reason` is the message without it."""

    def __init__(self, place: Place, message: str, *, hint: str = "") -> None:
        super().__init__(f"{place}: {message}", hint=hint)
        self.place = place
        self.reason = message


class NoNumberError(TemplateError):
    """A template converts a value to a number, perhaps an answer, that does not hold one.

    `value` is the text, None if it is no text.
    """

    def __init__(self, place: Place, error: NotANumberError) -> None:
        super().__init__(place, str(error), hint=error.hint)
        self.value = error.value


def render(environment: Environment, text: str, origin: Origin, values: Values) -> str:
    """Render `text` with `values`. Raises `TemplateError`."""
    if "{" not in text:
        return encodable(_as_jinja_leaves_it(text))
    return _rendered(environment, text, origin, values, mode="text")


def render_path(environment: Environment, text: str, origin: Origin, values: Values) -> str:
    """Render a path: each expression must give one safe segment. Raises as `render`."""
    if "{" not in text:
        return encodable(_as_jinja_leaves_it(text))
    return _rendered(environment, text, origin, values, mode="path")


def render_value(environment: Environment, text: str, origin: Origin, values: Values) -> Json:
    """Render `text`; if it is exactly one `{{ expression }}`, the value has its own type."""
    if "{" not in text:
        return render(environment, text, origin, values)
    stripped, moved = without_margin(text, origin)
    try:
        is_expression = environment.is_expression(stripped, moved)
    except _TEMPLATE_ERRORS as error:
        raise _located_error(environment, stripped, moved, None, error) from None
    if is_expression:
        return _evaluated(environment, stripped, moved, values)
    return render(environment, text, origin, values)


def evaluate(environment: Environment, expression: str, origin: Origin, values: Values) -> Json:
    """Return the value of an expression; `{{ x }}` is the same as `x`. Raises `TemplateError`."""
    text, moved = as_template(expression, origin)
    return _evaluated(environment, text, moved, values)


_COMPARE: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_DECIDE: Final = frozenset({"or", "not", "if", "else", "is"})
"""Words of an expression with which it is more than a comparison."""
_WRITTEN: Final = frozenset({"true", "false", "none", "True", "False", "None"})


class _Token(msgspec.Struct, frozen=True):
    """A token of an expression, where it begins, and in how many brackets it stands."""

    at: int
    kind: str
    value: str
    depth: int


def compared(
    environment: Environment, expression: str, origin: Origin, values: Values
) -> dict[str, Json]:
    """Return the sides of the comparison that makes an expression untrue, with their values.

    Written values are left out. Empty if it is more than comparisons that `and` joins.
    """
    text, moved = as_template(expression, origin)
    try:
        for part in _joined(environment, text, moved):
            if not evaluate(environment, _source(text, part), moved, values):
                sides = [_source(text, side) for side in _sides(part)]
                return {side: evaluate(environment, side, moved, values) for side in sides}
    except TemplateError:
        return {}
    return {}


def _source(text: str, tokens: Sequence[_Token]) -> str:
    return text[tokens[0].at : tokens[-1].at + len(tokens[-1].value)]


def _joined(environment: Environment, text: str, origin: Origin) -> Iterator[list[_Token]]:
    """Yield the tokens of each part of an expression that `and` joins."""
    depth, part = 0, list[_Token]()
    for at, kind, value in environment.lexer.tokeniter(text, origin.path):
        if kind in ("variable_begin", "variable_end", "whitespace"):
            continue
        if kind == "operator":
            depth += depth_change(value)
        if (depth, kind, value) == (0, "name", "and"):
            yield part
            part = []
        else:
            part.append(_Token(at - 1, kind, value, depth))
    yield part


def _sides(part: list[_Token]) -> Iterator[list[_Token]]:
    """Yield the sides of a comparison that are not written values, none for anything else."""
    outer = [one for one in part if one.depth == 0 and one.kind in ("operator", "name")]
    found = [one for one in outer if one.value in _COMPARE]
    if len(found) == 1 and not any(one.value in _DECIDE for one in outer):
        at = part.index(found[0])
        for side in (part[:at], part[at + 1 :]):
            if any(one.kind == "name" and one.value not in _WRITTEN for one in side):
                yield side


def as_template(expression: str, origin: Origin) -> tuple[str, Origin]:
    """Return a bare expression as a template, with the origin of the expression."""
    text, moved = without_margin(expression, origin)
    if text.startswith("{{") and text.endswith("}}"):
        return text, moved
    return f"{{{{ {text} }}}}", moved.moved(-len("{{ "), len(text))


def without_margin(text: str, origin: Origin) -> tuple[str, Origin]:
    """Return `text` without the white space around it, and its origin."""
    stripped = text.strip()
    if stripped == text:
        return text, origin
    return stripped, origin.moved(len(text) - len(text.lstrip()), len(text.rstrip()))


def _as_jinja_leaves_it(text: str) -> str:
    """Return a text without templates like Jinja: with LF, without its last line end."""
    return without_last_line_end(text).replace("\r\n", "\n").replace("\r", "\n")


def _rendered(
    environment: Environment, text: str, origin: Origin, values: Values, *, mode: Mode
) -> str:
    environment.begin()
    template = None
    try:
        template = environment.template(text, origin, mode)
        rendered = template.render(values)
        bounded(len(rendered) if rendered.isascii() else len(encodable(rendered).encode()))
    except _TEMPLATE_ERRORS as error:
        located = _located_error(environment, text, origin, template, error)
    else:
        return rendered
    raise located  # outside the except block, so that it holds no references to rendered values


def _evaluated(environment: Environment, text: str, origin: Origin, values: Values) -> Json:
    environment.begin()
    template = None
    try:
        template = environment.template(text, origin, "value")
        context = template.new_context(dict(values))
        for _ in template.root_render_func(context):
            raise AssertionError("an assignment prints nothing")
        value: Json = to_json(context.vars[VALUE])
    except _TEMPLATE_ERRORS as error:
        located = _located_error(environment, text, origin, template, error)
    else:
        return value
    raise located  # as in `_rendered`


def _located_error(
    environment: Environment,
    text: str,
    origin: Origin,
    root: Template | None,
    error: BaseException,
) -> TemplateError:
    """Return the error with the place where rendering failed; line numbers are offsets here.

    `root` is the template of `text`, None if it could not be compiled.
    """
    if isinstance(error, TemplateSyntaxError):
        if root is not None:
            text, origin = _file(environment, error.name or origin.path)
        problem = syntax_problem(error, text, origin)
        return TemplateError(problem.place, problem.message, hint=problem.hint)
    offset, found = 1, origin
    trace = error.__traceback__
    while trace is not None:
        template: Any = trace.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template):
            offset = template.get_corresponding_lineno(trace.tb_lineno)
            found = origin if template is root else _file(environment, template.name or "")[1]
        trace = trace.tb_next
    at, sentence, hint = max(offset - 1, 0), _sentence(error), ""
    if isinstance(error, OverBudgetError):
        hint = error.hint
    elif isinstance(error, TypeError):
        sentence, hint = type_error_in_words(sentence)
    if sentence.startswith(_NONE):
        failed = text if found is origin else _file(environment, found.path)[0]
        hint = _first_hint(failed, at)
        sentence = sentence.partition("; ")[0] if hint else sentence
    if isinstance(error, NotANumberError):
        return NoNumberError(found.locate(at), error)
    return TemplateError(found.locate(at), sentence, hint=hint)


_NONE: Final = "none has no "
_AT: Final = lazy_pattern(r"(?:\{\{[-+]?\s*)?(carry|previous)\b(?!\s*[.\[])")
_BEFORE: Final = lazy_pattern(r"(?:^|[^.\w])(carry|previous)$")


def _first_hint(text: str, at: int) -> str:
    """Return a hint for a name without a value that is at a place of a template, or before it."""
    found = _AT.match(text[at:]) or _BEFORE.search(text[:at])
    return NO_VALUE_AT_FIRST[found[1]] if found is not None else ""


def _file(environment: Environment, path: str) -> tuple[str, Origin]:
    """Return the text of an included file, cached by the reader, and its origin."""
    path, text = environment.reader.source(path, relative_to="//")
    return text, Origin.for_file(path, text, shown=environment.reader.shown(path))


def _sentence(error: BaseException) -> str:
    match error:
        case RecursionError():
            return "the template calls itself without end, or is nested too deep"
        case SyntaxError() | MemoryError():
            return "the template is too large or nested too deep"
        case FileProblem():
            return str(error)
        case TemplateNotFound():
            return str(error.__cause__ or f"there is no file {error}")
        case OverflowError():
            return "a number or a range is too large"
        case KeyError() | JinjaError():
            text = str(error.args[0] if error.args else error)
        case _:
            text = str(error) or type(error).__name__
    text = without_line_numbers(text)
    text = re.sub(r"^'(\w+)' is undefined$", r'"\1" is not there', text)
    return text[:1].lower() + text[1:]
