"""The variables of other tools' templates, which flows write with `inputs.` or `matrix.` before."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final, TypeAlias

from jinja2 import Environment, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from poeflow.lazy_pattern import lazy_pattern

_NAME: Final = lazy_pattern(r"[A-Za-z_]\w*")
_DOLLAR: Final = lazy_pattern(r"\$(?:(\$)|\{(\w+)\}|(\w+))")
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
    """Return a text with `{{ name }}` for `$name` and `${name}`, and one dollar for two."""
    return _DOLLAR.sub(lambda match: "$" if match[1] else f"{{{{ {match[2] or match[3]} }}}}", text)


def _jinja() -> Environment:
    return Environment(autoescape=False, keep_trailing_newline=True)  # noqa: S701 - renders nothing
