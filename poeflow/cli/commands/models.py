"""`poeflow models`: list the bots of the server, or show one, and store the list for `check`."""

import os
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal, TypedDict, Unpack

import click

from poeflow.bots import USD_PER_POINT, Bot, Parameter
from poeflow.cli.completing import BOTS
from poeflow.cli.output import print_json, print_text, say, say_warning
from poeflow.cli.private_files_options import env_file_option, environment_with
from poeflow.client.catalogue import CATALOGUE, Catalogue, store_catalogue, stored_catalogue
from poeflow.client.sync import PoeClient
from poeflow.digest import encode_json
from poeflow.errors import APIResponseError, DiskError, UsageError
from poeflow.flowfile.patterns import one_of
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.providers import poe_address
from poeflow.operations.run_options import RunOptions, user_config
from poeflow.project.project import Project
from poeflow.redact import visible
from poeflow.report.terminal.text import aligned
from poeflow.settings import api_key_from, server_of
from poeflow.store.workspace import Workspace

EPILOG: Final = """\b
Examples:
  poeflow models --takes image --search claude
  poeflow models Veo-3.1
  git add --force .poeflow/models.json    # check the same everywhere, CI included

Prices are those the server lists, in USD: for a million tokens in and out, or for a request. "-" is
a price that it does not list, which does not mean free.
"""
_DAY: Final = 24 * 60 * 60.0
_TIMEOUT: Final = 60.0


class _Options(TypedDict):
    search: str
    takes: str
    gives: str
    output: Literal["text", "json"]
    refresh: bool
    offline: bool
    env_file: Path | None


@click.command(epilog=EPILOG)
@click.argument("name", required=False, shell_complete=BOTS)
@click.option(
    "--search",
    metavar="TEXT",
    default="",
    help="Only those with all words in name, owner or description.",
)
@click.option(
    "--takes", metavar="KIND", default="", help="Only those that take text, image, audio or video."
)
@click.option(
    "--gives", metavar="KIND", default="", help="Only those that give text, image, audio or video."
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--refresh", is_flag=True, help="Fetch the list even if it is less than a day old.")
@click.option("--offline", is_flag=True, help="Use the list stored in the project; send nothing.")
@env_file_option
def models(name: str | None, **options: Unpack[_Options]) -> None:
    """List the bots, or show the one called NAME with its parameters, ready to paste.

    The list is stored in the project, in .poeflow/models.json. With it `check` warns of bots,
    parameters, values and attachments that do not fit, if flows use the same server. It is fetched
    once a day.
    """
    if options["refresh"] and options["offline"]:
        raise UsageError("--refresh and --offline exclude each other", hint="use one of them")
    if name is not None and (options["search"] or options["takes"] or options["gives"]):
        raise UsageError("NAME and filters exclude each other", hint="leave NAME out to filter")
    project = Project.find(Path.cwd())
    catalogue = _kept(project) if options["offline"] else _fetched(project, options)
    if name is not None:
        bot = _found(catalogue, name)
        if options["output"] == "json":
            print_json(bot)
        else:
            print_text(bot_yaml(bot))
        return
    _check_kind(catalogue, "takes", options["takes"])
    _check_kind(catalogue, "gives", options["gives"])
    bots = [bot for bot in catalogue.bots if _fits(bot, options)]
    if options["output"] == "json":
        print_json(bots)
        return
    if bots:
        print_text(bot_table(bots))
    count = f"{len(bots)} of {len(catalogue.bots)} bots"
    click.echo(f"{count}; poeflow models NAME shows one", err=True)


def _kept(project: Project) -> Catalogue:
    server = server_of(os.environ)
    catalogue, fault = stored_catalogue(project, os.environ)
    if catalogue is None:
        message = fault or f"there is no {CATALOGUE} of {server}"
        raise UsageError(message, hint="fetch it once without --offline")
    return catalogue


def _fetched(project: Project, options: _Options) -> Catalogue:
    """Return the server's list, at most a day old, and store it in the project."""
    environ = environment_with(options["env_file"])
    config = user_config(project, RunOptions(environ=environ, listen=say_warning))
    moved, key = poe_address(environ, config), api_key_from(environ)
    is_free = config.allows_insecure_poe
    with PoeClient(api_key=key, base_url=moved, timeout=_TIMEOUT, allow_insecure=is_free) as client:
        listed = client.models.list(max_age=0.0 if options["refresh"] else _DAY)
    entries = [dict(model.raw) for model in listed]
    catalogue = Catalogue.parse(list(entries))
    if not catalogue.named:
        raise APIResponseError("the server lists no bot")
    try:
        Workspace(project, os.environ, offline=False).prepare()
        store_catalogue(project, entries, os.environ)
    except DiskError as error:
        say(f"warning: the list is not stored for check: {error}")
    return catalogue


def _found(catalogue: Catalogue, name: str) -> Bot:
    bot = catalogue.find(name)
    if bot is None:
        near = catalogue.nearest(name)
        hint = f'did you mean "{near.name}"?' if near else "poeflow models --search finds by words"
        raise UsageError(f'no bot is called "{name}"', hint=hint)
    return bot


def _check_kind(catalogue: Catalogue, verb: Literal["takes", "gives"], kind: str) -> None:
    """Raise `UsageError` if no bot takes, or gives, this kind: it is a typo."""
    known = {kind for bot in catalogue.bots for kind in _kinds(bot, verb)}
    if kind and kind not in known:
        raise UsageError(f'no bot {verb} "{kind}"', hint=one_of(kind, known))


def _kinds(bot: Bot, verb: Literal["takes", "gives"]) -> tuple[str, ...]:
    return (bot.input_modalities if verb == "takes" else bot.output_modalities) or ()


def _fits(bot: Bot, options: _Options) -> bool:
    entry = f"{bot.name} {bot.id} {bot.owner} {bot.description}".casefold()
    return (
        all(word in entry for word in options["search"].casefold().split())
        and (not options["takes"] or options["takes"] in _kinds(bot, "takes"))
        and (not options["gives"] or options["gives"] in _kinds(bot, "gives"))
    )


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
