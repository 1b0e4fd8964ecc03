"""The properties of a bot: its modalities, features, prices and own parameters.

Values that are missing, null or malformed count as unknown, never as "no".
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, Literal, Self, assert_never

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.redact import visible

_MAX_PRICE: Final = Decimal(1_000_000)
_MAX_VALUES: Final = 1000
_SHOWN: Final = 12

RESERVED_KEYS: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "n", "tools", "tool_choice"}
)
"""Keys not allowed in `extra_body`: each has its own argument, `model` would change the bot."""
ParameterKind = Literal["enum", "boolean", "string", "number", "any"]
USD_PER_POINT: Final = Decimal("0.00003")
"""Derived, not an official rate: 8,369 prompt tokens at 0.85 USD a million were 238 points."""


_MAX_NAME: Final = 200
_DATES: Final = (4, 6, 8)
"""How many digits a date in a name may have."""


def other_name(asked: str, served: str | None) -> str:
    """Return the name by which a model answered, if it is not the one that was asked, else empty.

    It comes from a server, so it is cut and has no control characters.
    """
    name = visible((served or "")[:_MAX_NAME].encode("utf-8", "replace").decode())
    return "" if not asked or name.casefold() == asked.casefold() else name


def is_snapshot(name: str, asked: str) -> bool:
    """Whether a name is the asked one with a date: `gpt-5-2025-08-07` of `GPT-5`.

    Other characters than letters and digits do not count, nor does what is before a slash.
    """
    whole, begin = _letters(name), _letters(asked)
    date = whole.removeprefix(begin)
    return whole.startswith(begin) and date.isdecimal() and len(date) in _DATES


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.rpartition("/")[2].casefold()))


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One of a bot's own parameters, which go under `extra_body`.

    `values` are those of an enum, always texts; `minimum` and `maximum` bound a number. The kind
    is `any` if its schema is not understood.
    """

    name: str
    kind: ParameterKind
    values: tuple[str, ...] = ()
    minimum: int | float | None = None
    maximum: int | float | None = None
    default: bool | int | float | str | None = None
    description: str = ""

    @classmethod
    def parse(cls, raw: Json) -> Self | None:
        """Return the parameter, or None if the entry has no name."""
        entry = _mapping(raw)
        schema = _mapping(entry.get("schema"))
        name, values = _text(entry.get("name")), schema.get("enum")
        if not name:
            return None
        return cls(
            name=name,
            kind=_KINDS.get(_text(schema.get("type")), "any") if values is None else _enum(values),
            values=(_texts(values) or ())[:_MAX_VALUES],
            minimum=_number(schema.get("minimum")),
            maximum=_number(schema.get("maximum")),
            default=_default(entry.get("default_value")),
            description=_text(entry.get("description")),
        )

    @property
    def accepts(self) -> str:
        """The allowed values: `4, 6, 8`, `0 to 31999`, `true or false`, `a text`."""
        match self.kind:
            case "enum":
                more = ", ..." if len(self.values) > _SHOWN else ""
                return ", ".join(self.values[:_SHOWN]) + more
            case "boolean":
                return "true or false"
            case "number":
                return _bounds(self.minimum, self.maximum)
            case "string":
                return "a text"
            case "any":
                return "any value"
            case _:
                assert_never(self.kind)

    def as_declared(self, value: Json) -> Json:
        """Return `value` as spelled in the bot's list of values: 8 as `"8"`, 1 as `"1.0"`.

        Values of enums are texts, unlike those in YAML. Other values are returned unchanged.
        """
        if not isinstance(value, bool | int | float):
            return value
        spelled = encode_json(value).decode()
        if spelled in self.values:
            return spelled
        if isinstance(value, bool):
            return value
        number = _decimal(spelled)
        equal = (each for each in self.values if number is not None and _decimal(each) == number)
        return next(equal, value)


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """Prices in USD: `prompt`, `completion` and `cached` per token, `request` per send.

    None means unknown, not free. That `request` is in USD is inferred from its magnitude.
    """

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None
    cached: Decimal | None = None

    @classmethod
    def parse(cls, raw: Json) -> Self:
        entry = _mapping(raw)
        return cls(
            prompt=_price(entry.get("prompt")),
            completion=_price(entry.get("completion")),
            request=_price(entry.get("request")),
            cached=_price(entry.get("input_cache_read")),
        )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """Return the estimated USD of one request, or None if a price is not known.

        Tokens are as the server reports them, often an estimate; cached tokens are not discounted.
        """
        if self.prompt is None and self.completion is None:
            return self.request
        if self.prompt is None or self.completion is None:
            return None
        tokens = self.prompt * prompt_tokens + self.completion * completion_tokens
        return tokens + (self.request or 0)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The context window and the maximum output of a bot, in tokens; None if not known."""

    length: int | None = None
    max_output: int | None = None


class Bot(msgspec.Struct, frozen=True, kw_only=True):
    """One bot. `name` is its display name, `id` the same in lower case.

    None means unknown, an empty tuple none.
    """

    id: str
    name: str
    description: str = ""
    owner: str = ""
    input_modalities: tuple[str, ...] | None = None
    output_modalities: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    pricing: Pricing = Pricing()
    context: Context = Context()
    parameters: tuple[Parameter, ...] | None = None

    @classmethod
    def parse(cls, raw: Json) -> Self | None:
        """Return the bot, or None if the entry has no name."""
        entry = _mapping(raw)
        bot_id = _text(entry.get("id"))
        architecture = _mapping(entry.get("architecture"))
        window = _mapping(entry.get("context_window"))
        if not bot_id:
            return None
        return cls(
            id=bot_id,
            name=_text(_mapping(entry.get("metadata")).get("display_name")) or bot_id,
            description=_text(entry.get("description")),
            owner=_text(entry.get("owned_by")),
            input_modalities=_texts(architecture.get("input_modalities")),
            output_modalities=_texts(architecture.get("output_modalities")),
            features=_texts(entry.get("supported_features")),
            endpoints=_texts(entry.get("supported_endpoints")),
            pricing=Pricing.parse(entry.get("pricing")),
            context=Context(
                length=_count(window.get("context_length")) or _count(entry.get("context_length")),
                max_output=_count(window.get("max_output_tokens")),
            ),
            parameters=_parameters(entry.get("parameters")),
        )

    def parameter(self, name: str) -> Parameter | None:
        return next((each for each in self.parameters or () if each.name == name), None)


_KINDS: Final[dict[str, ParameterKind]] = {
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "string": "string",
}


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f"{minimum} to {maximum}"
    if minimum is not None:
        return f"a number from {minimum}"
    return "a number" if maximum is None else f"a number up to {maximum}"


def _enum(values: Json) -> ParameterKind:
    """Return the kind of a list of values: an enum if they are texts and not too many."""
    if not isinstance(values, list) or not 0 < len(values) <= _MAX_VALUES:
        return "any"
    return "enum" if all(isinstance(value, str) for value in values) else "any"


def _parameters(raw: Json) -> tuple[Parameter, ...] | None:
    if not isinstance(raw, list):
        return None
    return tuple(found for each in raw if (found := Parameter.parse(each)) is not None)


def _mapping(raw: Json) -> Mapping[str, Json]:
    return raw if isinstance(raw, dict) else {}


def _text(raw: Json) -> str:
    """Return a text, empty if it is not one; lone surrogates become `?`."""
    return raw.encode("utf-8", "replace").decode() if isinstance(raw, str) else ""


def _texts(raw: Json) -> tuple[str, ...] | None:
    """Return the texts of a list, None if it is not a list."""
    if not isinstance(raw, list):
        return None
    return tuple(_text(each) for each in raw if isinstance(each, str))


def _default(raw: Json) -> bool | int | float | str | None:
    return _text(raw) if isinstance(raw, str) else raw if isinstance(raw, bool) else _number(raw)


def _number(raw: Json) -> int | float | None:
    return raw if isinstance(raw, int | float) and not isinstance(raw, bool) else None


def _count(raw: Json) -> int | None:
    return raw if isinstance(raw, int) and not isinstance(raw, bool) and raw > 0 else None


def _price(raw: Json) -> Decimal | None:
    """Return a price from a decimal text or a number; None if it is neither, or implausible."""
    found = _decimal(raw) if isinstance(raw, str) else _decimal(str(_number(raw)))
    return found if found is not None and 0 <= found < _MAX_PRICE else None


def _decimal(text: str) -> Decimal | None:
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None
