"""Formats bots: a table of many, and one as YAML to paste into a flow."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

from poeflow.bots import USD_PER_POINT, Bot, Parameter
from poeflow.digest import encode_json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.redact import visible
from poeflow.report.terminal.text import aligned

_HEAD: Final = (
    "name", "takes -> gives", "context", "$/M in", "$/M out", "$/request", "parameters"
)  # fmt: skip
_LEFT: Final = 2
"""So many columns hold words, the others numbers."""
_UNKNOWN: Final = "-"
_MILLION: Final = 1_000_000
_PLAIN: Final = lazy_pattern(r"[A-Za-z][A-Za-z0-9._-]*")
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_NO_CHARACTERS: Final = {0xFFFE: "?", 0xFFFF: "?"}
_WIDEST: Final = 40
_LONGEST: Final = 100


def bot_table(bots: Iterable[Bot]) -> str:
    """Return a table with a line for each bot; what the server does not list is `-`."""
    rows = [_HEAD, *(_row(bot) for bot in bots)]
    return "".join(f"{line}\n" for line in aligned(rows, words=_LEFT))


def bot_yaml(bot: Bot) -> str:
    """Return everything about a bot as YAML: facts as comments, then `model` and `extra_body`.

    Parameters have their defaults, with the accepted values beside them; those without a default
    are commented out.
    """
    facts = [(name, text) for name, text in _facts(bot) if text]
    width = max(len(name) for name, _ in facts)
    lines = [f"# {name:<{width}}  {_flat(text)}" for name, text in facts]
    lines.append(f"model: {_scalar(bot.name)}")
    return "\n".join([*lines, *_extra_body(bot.parameters or ())]) + "\n"


def _row(bot: Bot) -> tuple[str, ...]:
    price = bot.pricing
    return (
        _flat(bot.name),
        _flat(f"{_listed(bot.input_modalities)} -> {_listed(bot.output_modalities)}"),
        _UNKNOWN if bot.context.length is None else _short(bot.context.length),
        _UNKNOWN if price.prompt is None else _usd(price.prompt * _MILLION),
        _UNKNOWN if price.completion is None else _usd(price.completion * _MILLION),
        _UNKNOWN if price.request is None else _usd(price.request),
        _UNKNOWN if bot.parameters is None else str(len(bot.parameters)),
    )


def _listed(texts: tuple[str, ...] | None) -> str:
    return ",".join(texts or ()) or _UNKNOWN


def _short(tokens: int) -> str:
    if tokens >= _MILLION:
        return f"{tokens / _MILLION:.2f}".rstrip("0").rstrip(".") + "M"
    return f"{tokens // 1000}k" if tokens >= 10_000 else str(tokens)


def _usd(amount: Decimal) -> str:
    """Format an amount with at least two decimals, and at most six."""
    whole, _, decimals = f"{amount:.6f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _facts(bot: Bot) -> Iterator[tuple[str, str]]:
    yield "about", bot.description
    yield "id", f"{bot.id}, by {bot.owner}" if bot.owner else bot.id
    yield "takes", ", ".join(bot.input_modalities or ()) or "not listed"
    yield "gives", ", ".join(bot.output_modalities or ()) or "not listed"
    yield "features", "not listed" if bot.features is None else ", ".join(bot.features) or "none"
    yield "endpoints", ", ".join(bot.endpoints or ())
    yield "context", _context(bot)
    yield "price", _price(bot) or "not listed"
    yield "points", _points(bot)


def _context(bot: Bot) -> str:
    facts = []
    if bot.context.length is not None:
        facts.append(f"{bot.context.length:,} tokens")
    if bot.context.max_output is not None:
        facts.append(f"answers of up to {bot.context.max_output:,}")
    return ", ".join(facts) or "not listed"


def _price(bot: Bot) -> str:
    """Say what a bot costs in USD."""
    price = bot.pricing
    parts = {"in": price.prompt, "out": price.completion, "cached in": price.cached}
    tokens = {name: cost * _MILLION for name, cost in parts.items() if cost is not None}
    prices = ", ".join(f"{_usd(cost)} USD {name}" for name, cost in tokens.items())
    request = "" if price.request is None else f"{_usd(price.request)} USD a request"
    return "; ".join(text for text in (prices and f"{prices}, a million tokens", request) if text)


def _points(bot: Bot) -> str:
    """Say about how many points a bot costs."""
    price = bot.pricing
    parts = {"in": price.prompt, "out": price.completion}
    tokens = {name: cost * 1000 for name, cost in parts.items() if cost is not None}
    points = ", ".join(f"{_as_points(cost)} {name}" for name, cost in tokens.items())
    request = "" if price.request is None else f"about {_as_points(price.request)} a request"
    return "; ".join(
        text for text in (points and f"about {points}, a thousand tokens", request) if text
    )


def _as_points(cost: Decimal) -> str:
    points = cost / USD_PER_POINT
    return f"{points:,.1f}" if points < 100 else f"{points:,.0f}"


def _extra_body(parameters: tuple[Parameter, ...]) -> Iterator[str]:
    if not parameters:
        return
    is_set = any(parameter.default is not None for parameter in parameters)
    yield "extra_body:" if is_set else "# extra_body:"
    lines = [_setting(parameter) for parameter in parameters]
    width = min(_WIDEST, max(map(len, lines)))
    for line, parameter in zip(lines, parameters, strict=True):
        more = f"; {parameter.description}" if parameter.description else ""
        comment = _flat(parameter.accepts + more)[:_LONGEST]
        yield f"{line:<{width}}  # {comment}"


def _setting(parameter: Parameter) -> str:
    name = _scalar(parameter.name)
    if parameter.default is None:
        return f"  # {name}:"
    value = parameter.default
    text = _quoted(value) if isinstance(value, str) else encode_json(value).decode()
    return f"  {name}: {text}"


def _scalar(text: str) -> str:
    """Return a text as YAML, plain if YAML reads it as the same text."""
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if is_plain else _quoted(text)


def _quoted(text: str) -> str:
    """Return a text in double quotes, with YAML's escapes for characters that are not printable."""
    written = encode_json(text).decode()
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in written)


def _flat(text: str) -> str:
    """Return a text as one printable line, fit for a YAML comment."""
    return visible(" ".join(text.split())).translate(_NO_CHARACTERS)
