"""What `a.b`, `a[b]` and `a.b()` may reach: keys of mappings, items of lists, a few methods."""

from collections.abc import Mapping
from itertools import islice
from types import BuiltinMethodType, MethodType
from typing import Any, Final

from jinja2.environment import TemplateModule
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.utils import Namespace

from poeflow.templates.budget import MAX_ITEMS, Budget, OverBudgetError, bounded
from poeflow.templates.instances import Instances

STRING_METHODS: Final = frozenset(
    {
        *("capitalize", "count", "endswith", "find", "isalpha", "isdigit", "join", "lower"),
        *("lstrip", "removeprefix", "removesuffix", "replace", "rsplit", "rstrip", "split"),
        *("splitlines", "startswith", "strip", "title", "upper"),
    }
)
_LIST_METHODS: Final = frozenset({"count", "index"})
LOOP_ATTRIBUTES: Final = frozenset(
    {
        *("changed", "cycle", "first", "index", "index0", "last", "length", "nextitem"),
        *("previtem", "revindex", "revindex0"),
    }
)
_SPLITTERS: Final = frozenset({"rsplit", "split", "splitlines"})
_SEARCHING: Final = frozenset({"count", "find", "replace", "split"})
_EACH_CHARACTER: Final = frozenset(
    {"capitalize", "isalpha", "isdigit", "lower", "splitlines", "split", "title", "upper"}
)
"""Methods that look at each character by itself, which takes ten times as long as copying it."""
_PATTERN: Final = 100
"""The longest text looked for that takes longer to find than its length says."""
_CALL: Final = 3
_MAPPING_METHODS: Final = frozenset({"get", "items", "keys", "values"})
_CHANGING: Final = frozenset({"append", "extend", "insert"})
_MISSING: Final = object()


def attribute(value: Any, name: str) -> Any:
    """Return what a template may see as `value.name`. Raises `LookupError` saying why not."""
    found = _MISSING
    match value:
        case Instances():
            return value.attribute(name)
        case Mapping():
            return item(value, name)
        case Undefined():
            return value.attribute  # raises its error
        case str() if name in STRING_METHODS:
            found = getattr(value, name)
        case list() if name in _LIST_METHODS:
            found = getattr(value, name)
        case tuple() if name in getattr(value, "_fields", ()):  # what groupby gives
            found = getattr(value, name)
        case LoopContext() if name in LOOP_ATTRIBUTES:
            found = getattr(value, name)
        case TemplateModule() if not name.startswith("_"):
            found = vars(value).get(name, _MISSING)
        case Namespace() if not name.startswith("_"):
            found = getattr(value, name, _MISSING)
    if found is _MISSING:
        hint = "; lists do not change: write a + [b]" if name in _CHANGING else ""
        raise LookupError(f'{_KINDS.get(type(value), "this value")} has no "{name[:80]}"{hint}')
    return found


def item(value: Any, key: Any) -> Any:
    """Return what a template may see as `value[key]`. Raises `LookupError` saying why not."""
    if isinstance(value, Instances):
        return value.instance(key)
    if isinstance(value, Mapping):
        if isinstance(key, str | int) and key in value:
            return value[key]
        # Short, because a template may ask for what is not there a million times.
        known = ", ".join(str(name)[:80] for name in islice(value, 12)) or "nothing"
        hint = "; use | items" if isinstance(key, str) and key in _MAPPING_METHODS else ""
        raise LookupError(f'there is no "{_short(key)}" here, only {known}{hint}')
    if isinstance(value, str | list | tuple | range) and isinstance(key, int):
        if -len(value) <= key < len(value):
            return value[key]
        raise LookupError(f"there is no item {key}, only {len(value)} items")
    if not isinstance(key, str):
        raise LookupError(f'there is no "{_short(key)}" here')
    return attribute(value, key)


def check_call(function: Any, arguments: tuple[Any, ...], budget: Budget) -> bool:
    """Count a call, and bound it where it is a method. Return whether its result is to be counted.

    Raises `OverBudgetError` or `TypeError`.
    """
    budget.step(_CALL)
    budget.work(len(arguments))
    if isinstance(function, MethodType) and isinstance(function.__self__, LoopContext):
        budget.walk(*arguments)
    if not isinstance(function, BuiltinMethodType):
        return False
    owner = function.__self__
    budget.walk(owner, *arguments)
    if isinstance(owner, str):
        _check_text_method(function.__name__, owner, arguments, budget)
    return True


def replaced_size(text: str, old: str, new: str) -> int:
    """Return how long `text` may become when `old` is replaced."""
    return len(text) + (text.count(old) if old else len(text) + 1) * len(new)


def check_scan(text: str, needle: str, budget: Budget) -> None:
    """Count a search whose time grows with the product of both lengths."""
    budget.work(len(text) // 20 + len(text) * len(needle) // 100)


def _short(key: object) -> str:
    return key[:80] if isinstance(key, str) else f"{key}" if isinstance(key, int) else "that key"


def _check_text_method(name: str, text: str, arguments: tuple[Any, ...], budget: Budget) -> None:
    texts = [part for part in arguments if isinstance(part, str)]
    if name in _EACH_CHARACTER:
        budget.work(len(text) // 10)
        bounded(len(text) if text.isascii() or name.startswith("is") else 3 * len(text))
    if texts and name in _SEARCHING:
        check_scan(text, texts[0][:_PATTERN], budget)
    if name == "replace" and len(texts) == 2:
        bounded(replaced_size(text, texts[0], texts[1]))
    elif name == "join" and arguments and isinstance(arguments[0], list | tuple | dict | str):
        joined = [part for part in arguments[0] if isinstance(part, str)]
        bounded(sum(map(len, joined)) + len(text) * len(arguments[0]))
    elif name in _SPLITTERS and len(text) > 4 * MAX_ITEMS:
        raise OverBudgetError(f"a text over {4 * MAX_ITEMS:,} characters cannot be split")
    if texts and name in ("rsplit", "strip", "lstrip", "rstrip"):
        check_scan(text, texts[0], budget)


_KINDS: Final = {
    str: "a text",
    list: "a list",
    tuple: "a list",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "none",
    Macro: "a macro",
    LoopContext: "loop",
    TemplateModule: "the imported file",
    Namespace: "the namespace",
}
