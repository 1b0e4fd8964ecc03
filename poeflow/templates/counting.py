"""What stands around loops, operands, new values and printed text: it counts them.

`rewrite` puts these filters in by names no template can write.
"""

from collections.abc import Callable
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context, Undefined

from poeflow.templates import rewrite
from poeflow.templates.budget import Budget, bounded
from poeflow.templates.includes import joined
from poeflow.templates.texts import text_of


def inner_filters(budget: Callable[[], Budget]) -> dict[str, Any]:
    """Return the filters that `rewrite` puts in; `budget` is that of the rendering under way."""

    def counted(items: Any) -> Any:
        if isinstance(items, dict | str | list | tuple | range):
            budget().step(len(items))
        elif not isinstance(items, Undefined):
            raise TypeError(f"a loop needs a list or a mapping, not {items!r}"[:100])
        return items

    def concat(parts: list[Any]) -> str:
        texts = [text_of(part) for part in parts]
        bounded(sum(map(len, texts)))
        return budget().made("".join(texts))

    def kept(value: Any) -> Any:
        return budget().kept(value)

    def stepped(value: Any) -> Any:
        budget().step()
        return value

    def walked(value: Any) -> Any:
        budget().walk(value)
        return value

    return {
        rewrite.COUNTED: counted,
        rewrite.CONCAT: concat,
        rewrite.INCLUDED: joined,
        rewrite.KEPT: kept,
        rewrite.SEGMENT: segment,
        rewrite.STEPPED: stepped,
        rewrite.WALKED: walked,
    }


def finalizer(budget: Callable[[], Budget]) -> Callable[..., str]:
    """Return what every printed value goes through.

    It takes the context, which keeps Jinja from calling it when it compiles.
    """

    @pass_context
    def finalize(_context: Context, value: Any) -> str:
        return budget().made(text_of(value))

    return finalize


def segment(value: Any) -> str:
    """Return what an expression adds to a path. Raises `ValueError` unless it is one segment."""
    text = text_of(value)
    if not text or text.startswith(".") or any(character in text for character in "/\\\0\n"):
        raise ValueError(f'"{text[:80]}" is not one safe part of a path; use | slug')
    return text
