"""What stands around loops, operands, new values and printed text: it counts them.

`rewrite` puts these filters in by names no template can write.
"""

from collections.abc import Callable
from typing import Any, Final

from jinja2 import pass_context
from jinja2.runtime import Context, Undefined

from poeflow.templates import rewrite
from poeflow.templates.budget import Budget, bounded
from poeflow.templates.includes import End, joined
from poeflow.templates.mapping_keys import mapping
from poeflow.templates.values import text_of

_FILE: Final = 200
"""The work of finding a file and starting its template."""
_SEARCHED: Final = 8
"""How many characters of a text cost a unit where another text is looked for in it."""


def inner_filters(budget: Callable[[], Budget]) -> dict[str, Any]:
    """Return the filters that `rewrite` puts in; `budget` is that of the rendering under way."""
    made = {rewrite.NUMBER: int, rewrite.SEGMENT: segment}
    return _on_the_way(budget) | _of_new_values(budget) | made


def _on_the_way(budget: Callable[[], Budget]) -> dict[str, Any]:
    """Return those that hand a value on and count what is done with it."""

    def counted(items: Any, each: int = 0) -> Any:
        if isinstance(items, dict | str | list | tuple | range):
            budget().step(len(items))
            budget().work(len(items) * each)
        elif not isinstance(items, Undefined):
            raise TypeError(f"a loop needs a list or a mapping, not {items!r}"[:100])
        return items

    def searched(value: Any) -> Any:
        budget().walk(value)
        budget().work(len(value) // _SEARCHED if isinstance(value, str) else 0)
        return value

    def spent(_nothing: Any, work: int) -> None:
        budget().work(work)

    def stepped(value: Any) -> Any:
        budget().work(_FILE)
        return value

    def walked(value: Any) -> Any:
        budget().work(3)
        budget().walk(value)
        return value

    return {
        rewrite.COUNTED: counted,
        rewrite.SEARCHED: searched,
        rewrite.SPENT: spent,
        rewrite.STEPPED: stepped,
        rewrite.WALKED: walked,
    }


def _of_new_values(budget: Callable[[], Budget]) -> dict[str, Any]:
    """Return those that make a value, or count one that was made."""

    def concat(parts: list[Any]) -> str:
        texts = [text_of(part) for part in parts]
        bounded(sum(map(len, texts)))
        return budget().made("".join(texts))

    def included(text: str, end: End) -> str:
        return budget().printed(joined(text, end))

    def kept(value: Any) -> Any:
        return budget().held(value)

    def made_mapping(parts: list[Any]) -> dict[Any, Any]:
        made = mapping(zip(parts[::2], parts[1::2], strict=True), budget())
        budget().held(made)
        return made

    return {
        rewrite.CONCAT: concat,
        rewrite.INCLUDED: included,
        rewrite.KEPT: kept,
        rewrite.MAPPING: made_mapping,
    }


def finalizer(budget: Callable[[], Budget]) -> Callable[..., str]:
    """Return what every printed value goes through.

    It takes the context, which keeps Jinja from calling it when it compiles.
    """

    @pass_context
    def finalize(_context: Context, value: Any) -> str:
        return budget().printed(text_of(value))

    return finalize


def segment(value: Any) -> str:
    """Return what an expression adds to a path. Raises `ValueError` unless it is one segment."""
    text = text_of(value)
    if not text or text.startswith(".") or any(character in text for character in "/\\\0\n"):
        raise ValueError(f'"{text[:80]}" is not one safe part of a path; use | slug')
    return text
