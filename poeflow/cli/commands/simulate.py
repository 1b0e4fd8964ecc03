"""`poeflow simulate`: serve a local stand-in for Poe until interrupted."""

import asyncio
import ipaddress
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click

from poeflow.clock import seconds
from poeflow.simulator.faults import KINDS, Profile
from poeflow.simulator.server import LOOPBACK, Simulator

_RECIPES: Final = "\n".join(f"  {kind:<12} {what}" for kind, what in KINDS.items())
EPILOG: Final = f"""\b
Fault recipes, KIND[=VALUE][xTIMES][/EVERY], several behind commas:
{_RECIPES}
  400 to 599   that status; VALUE is its Retry-After
  302          a redirect
For example 429x2 (each request is refused twice), cut=200/10 (every tenth answer).

\b
Point anything that speaks to Poe at it:
  export POE_BASE_URL=http://127.0.0.1:PORT/v1 POE_API_KEY=any-key-at-all
"""


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Read an option that is a duration."""
    try:
        return seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


class _Options(TypedDict):
    host: str
    port: int
    profile: Profile
    script: Path | None
    catalogue: Path | None
    latency: float
    faults: str
    rpm: int | None
    key_required: bool
    answers_unknown: bool


@click.command(epilog=EPILOG)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option(
    "--profile",
    type=click.Choice(["strict", "legacy"]),
    default="strict",
    show_default=True,
    help="How requests are read: strict refuses what a bot does not declare, as Poe does.",
)
@click.option("--script", type=click.Path(path_type=Path), help="YAML that says what is answered.")
@click.option("--catalogue", type=click.Path(path_type=Path), help="A dump of GET /v1/models.")
@click.option("--latency", callback=_seconds, default="0", metavar="SECONDS", help="Or 500ms, 2s.")
@click.option("--faults", default="", metavar="RECIPE", help="What goes wrong; see below.")
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests a minute, at most.")
@click.option("--key-required", is_flag=True, help="Answer 401 without a key; any key will do.")
@click.option(
    "--any-model", "answers_unknown", is_flag=True, help="Answer for unknown models as well."
)
def simulate(**options: Unpack[_Options]) -> None:
    """Serve a local stand-in for Poe: same API, made-up answers, no points spent.

    It has chat completions, models, and the account's balance and history; not /v1/responses.
    Prints `listening URL` and serves until Ctrl-C. The same request gets the same answer.
    """
    simulator = Simulator(**options)
    if not _is_loopback(options["host"]):
        click.echo("warning: everyone who reaches this machine can use the simulator", err=True)
    asyncio.run(_serve(simulator))


async def _serve(simulator: Simulator) -> None:
    async with simulator:
        click.echo(f"listening {simulator.base_url}")
        await asyncio.get_running_loop().create_future()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
