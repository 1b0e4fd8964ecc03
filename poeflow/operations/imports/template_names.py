"""The variables of other tools' templates, which flows write with `inputs.` or `matrix.` before."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, TypeAlias

from jinja2 import Environment, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from poeflow.lazy_pattern import lazy_pattern

_NAME: Final = lazy_pattern(r"[A-Za-z_]\w*")
_DOLLAR: Final = lazy_pattern(r"\$(?:(\$)|\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_BRACES: Final = lazy_pattern(r"\{[{%#]|[}%#]\}")
_TAG: Final = lazy_pattern(r"\{\{(?:(?!\{\{|\}\}).)*+\}\}|\{%(?:(?!\{%|%\}).)*+%\}", re.DOTALL)
_BLOCK: Final = lazy_pattern(
    r"\{%(?![-+]?\s*+raw\b)(?:(?!\{%|%\}).)*+%\}|\{#(?:(?!\{#|#\}).)*+#\}", re.DOTALL
)
"""A tag or comment after which a flow drops the end of a line."""
_REST_OF_LINE: Final = lazy_pattern(r"[ \t\r]*+(?:\n|\Z)")
_QUOTED: Final = lazy_pattern(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_NUNJUCKS: Final = (
    (lazy_pattern(r"([=!]=)="), r"\1"),
    (lazy_pattern(r"\|\s*dump\b"), "| tojson"),
    (lazy_pattern(r"\s*\|\s*safe\b"), ""),
    (lazy_pattern(r"\.length\b(?!\s*\()"), " | length"),
    (lazy_pattern(r"(\{%-?\s*)elseif\b"), r"\1elif"),
    (lazy_pattern(r"\bnull\b"), "none"),
)
"""What Nunjucks writes otherwise than Jinja, outside of quotes."""
_MEMBER: Final = frozenset({".", "|", "is"})
"""What stands before an attribute, a filter or a test."""
Token: TypeAlias = tuple[int, str, str]


def is_name(text: str) -> bool:
    """Return whether a template can have a variable of this name."""
    return _NAME.fullmatch(text) is not None


def variables_of(template: str) -> frozenset[str]:
    """Return the names that a template takes from outside. Raises `ValueError` if it is invalid."""
    try:
        return frozenset(find_undeclared_variables(_jinja().parse(template)))
    except TemplateSyntaxError as error:
        raise ValueError(error.message or "it is no template") from None
    except RecursionError:
        raise ValueError("its parts are nested too deeply") from None


def is_template(text: str) -> bool:
    """Return whether a text is a valid template of Jinja."""
    try:
        variables_of(text)
    except ValueError:
        return False
    return True


def renamed(template: str, new: Mapping[str, str]) -> str:
    """Return a template with other expressions for its variables. Raises `ValueError`.

    Names that it sets itself, attributes, filters and names of arguments stay as they are.
    """
    outside = variables_of(template) & new.keys()
    tokens: list[Token] = list(_jinja().lex(template))
    words = [at for at, (_, kind, _) in enumerate(tokens) if kind != "whitespace"]
    after = {at: tokens[following][2] for at, following in pairwise(words)}
    before = {following: tokens[at][2] for at, following in pairwise(words)}
    return "".join(
        new[text]
        if kind == "name"
        and text in outside
        and before.get(at) not in _MEMBER
        and after.get(at) != "="
        else text
        for at, (_, kind, text) in enumerate(tokens)
    )


def dollars_as_braces(text: str) -> str:
    """Return a text with `{{ name }}` for `$name` and `${name}`, and one dollar for two.

    Braces that it has itself stay what they are: text.
    """
    text = verbatim(text)
    return _DOLLAR.sub(lambda match: "$" if match[1] else f"{{{{ {match[2] or match[3]} }}}}", text)


def verbatim(text: str) -> str:
    """Return a text as a template that renders to it."""
    return _BRACES.sub(lambda match: f"{{{{ '{match[0]}' }}}}", text)


def from_nunjucks(template: str) -> str:
    """Return a template of Nunjucks as one of Jinja."""
    return with_lines(_TAG.sub(lambda match: _jinja_tag(match[0]), template))


def with_lines(template: str) -> str:
    """Return a template that keeps the ends of lines that other tools keep.

    A flow drops the end of a line after each block tag and comment, and the spaces before one at
    the beginning of a line. Here it does for tags with a line of their own.
    """

    def kept(match: re.Match[str]) -> str:
        tag = match[0]
        start = match.start()
        while start and template[start - 1] in " \t":
            start -= 1
        is_first = start == 0 or template[start - 1] == "\n"
        if is_first and _REST_OF_LINE.match(template, match.end()):
            return tag
        if template.startswith("\n", match.end()) and tag[-3] not in "-+":
            tag = f"{tag[:-2]}+{tag[-2:]}"
        if is_first and start < match.start() and tag[2] not in "-+":
            tag = f"{tag[:2]}+{tag[2:]}"
        return tag

    return _BLOCK.sub(kept, template)


def _jinja_tag(tag: str) -> str:
    parts = _QUOTED.split(tag)
    for at in range(0, len(parts), 2):
        for pattern, other in _NUNJUCKS:
            parts[at] = pattern.sub(other, parts[at])
    return "".join(parts)


class _AnyFilter(dict[str, Any]):
    """Filters and tests of which none is unknown: those of a flow are checked with it."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, str)


def _jinja() -> Environment:
    found = Environment(autoescape=False, keep_trailing_newline=True)  # noqa: S701 - renders nothing
    found.filters, found.tests = _AnyFilter(found.filters), _AnyFilter(found.tests)
    return found
