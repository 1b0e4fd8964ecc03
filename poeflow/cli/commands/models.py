"""`poeflow models`: list the bots of the server, or show one, and store the list for `check`."""

import os
from pathlib import Path
from typing import Final, Literal, TypedDict, Unpack

import click

from poeflow.bots import Bot
from poeflow.cli.completing import BOTS
from poeflow.cli.output import print_json, say, say_warning
from poeflow.cli.private_files_options import env_file_option, environment_with, without_keys
from poeflow.client.catalogue import CATALOGUE, Catalogue, store_catalogue, stored_catalogue
from poeflow.client.sync import PoeClient
from poeflow.errors import APIResponseError, DiskError, UsageError
from poeflow.flowfile.patterns import one_of
from poeflow.operations.providers import poe_address
from poeflow.operations.run_options import RunOptions, user_config
from poeflow.project.project import Project
from poeflow.report.bot_tables import bot_table, bot_yaml
from poeflow.report.github_commands import inert
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
            _print(bot_yaml(bot))
        return
    _check_kind(catalogue, "takes", options["takes"])
    _check_kind(catalogue, "gives", options["gives"])
    bots = [bot for bot in catalogue.bots if _fits(bot, options)]
    if options["output"] == "json":
        print_json(bots)
        return
    if bots:
        _print(bot_table(bots))
    count = f"{len(bots)} of {len(catalogue.bots)} bots"
    click.echo(f"{count}; poeflow models NAME shows one", err=True)


def _print(text: str) -> None:
    click.echo(inert(without_keys()(text)).encode(), nl=False)


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
