"""`poeflow simulate`: serve a local simulator of Poe until interrupted."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict, Unpack
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from poeflow.cassettes.cassette_file import CassetteWriter, open_cassette, read_cassette
from poeflow.cassettes.recorder import CassetteRecorder, RecordedServer
from poeflow.cassettes.replay import Replay
from poeflow.cassettes.secrets import Masking
from poeflow.cli.process import ended_by_signals
from poeflow.client.http.transport import async_transport_for
from poeflow.clock import SystemClock, seconds
from poeflow.errors import UsageError
from poeflow.redact import Scrubber, visible
from poeflow.settings import (
    LOOPBACK,
    check_certificates,
    checked_base_url,
    child_environment,
    is_loopback,
    known_keys,
    proxy_from,
)
from poeflow.simulator.connection import Host
from poeflow.simulator.faults import KINDS, Profile
from poeflow.simulator.server import RunningServer, Simulator, base_url_at

_RECIPES: Final = "\n".join(f"  {kind:<12} {what}" for kind, what in KINDS.items())
EPILOG: Final = f"""\b
Fault recipes, KIND[=VALUE][xTIMES][/EVERY], several behind commas:
{_RECIPES}
  400 to 599   that status; VALUE is its Retry-After
  302          a redirect
For example 429x2 (each request is refused twice), cut=200/10 (every tenth answer).

\b
A script for --script: the first rule that matches a request decides. A match takes model, text,
regex, system, last and nth, an answer text, template, json, media, tool_calls, reasoning,
finish_reason and error, a rule also delay and fault; `poeflow schema --script` has all of it.
  simulator: 1
  rules:
    - {{match: {{text: river}}, answer: {{text: The Elbe.}}}}
    - {{match: {{model: GPT-5.2}}, fault: 429x1, answer: {{template: "So {{{{ prompt }}}}"}}}}
  otherwise: refuse   # or simulate: made-up answers, as without a script

\b
Point anything that speaks to Poe at it:
  export POE_BASE_URL=http://127.0.0.1:PORT/v1 POE_API_KEY=any-key-at-all

\b
Record what a program asks a real server, then answer from that alone:
  poeflow simulate --record https://api.poe.com/v1 --cassette poe.yaml -- python ask.py
  poeflow simulate --replay poe.yaml -- python ask.py
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


_SHOWN: Final = 20
_ADDRESSES: Final = ("POE_BASE_URL", "OPENAI_BASE_URL")
_PLACEHOLDERS: Final = dict.fromkeys(("POE_API_KEY", "OPENAI_API_KEY"), "any-key-at-all")
"""What a program that asks no real server has for keys; libraries demand one."""
_OF_TAPES: Final = frozenset({"record", "cassette", "replay", "times", "host", "port", "command"})
"""The options that go with recording and replaying."""


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
@click.option("--script", type=click.Path(path_type=Path), help="What is answered; see below.")
@click.option("--catalogue", type=click.Path(path_type=Path), help="A dump of GET /v1/models.")
@click.option("--latency", callback=_seconds, default="0", metavar="SECONDS", help="Or 500ms, 2s.")
@click.option("--faults", default="", metavar="RECIPE", help="What goes wrong; see below.")
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests a minute, at most.")
@click.option("--key-required", is_flag=True, help="Answer 401 without a key; any key will do.")
@click.option("--record", metavar="URL", help="Pass requests on to this server, and record.")
@click.option("--cassette", type=click.Path(path_type=Path), help="The file to record to.")
@click.option("--times", is_flag=True, help="Record when the chunks of streams come, too.")
@click.option("--replay", type=click.Path(path_type=Path), help="Answer from this cassette alone.")
@click.option(
    "--any-model", "answers_unknown", is_flag=True, help="Answer for unknown models as well."
)
@click.argument("command", nargs=-1, metavar="[-- PROGRAM [ARGUMENT]...]")
@click.pass_context
def simulate(
    ctx: click.Context,
    /,
    record: str | None,
    cassette: Path | None,
    replay: Path | None,
    *,
    times: bool,
    command: tuple[str, ...],
    **options: Unpack[_Options],
) -> None:
    """Serve a local simulator of Poe: same API, made-up answers, no points spent.

    It has chat completions, models, and the account's balance and history; not /v1/responses.
    Prints `listening URL` and serves until Ctrl-C. The same request gets the same answer.

    With --record it stands in front of any OpenAI-compatible server, and with --replay it answers
    from such a recording: a request that was not recorded is an error that shows the nearest one.
    No key is recorded. `poeflow cassette explain` says which recording answers what.

    With a PROGRAM it serves that alone, and ends as it does: POE_BASE_URL and OPENAI_BASE_URL lead
    here, and only with --record it gets your keys. A request that a replay lacks fails the command.
    """
    place = _Place(options["host"], options["port"], command)
    _check_tape(ctx, record, cassette, replay, times=times)
    if not is_loopback(options["host"]):
        click.echo("warning: everyone who reaches this machine can use the simulator", err=True)
    if record is not None and cassette is not None:
        code = _record(record, cassette, place, times=times)
    elif replay is not None:
        code = _replay(replay, place)
    else:
        code = asyncio.run(_simulate(Simulator(**options), place))
    ctx.exit(code)


def _check_tape(
    ctx: click.Context,
    record: str | None,
    cassette: Path | None,
    replay: Path | None,
    *,
    times: bool,
) -> None:
    """Raise `UsageError` for options that do not go together."""
    if record is not None and replay is not None:
        raise UsageError("--record and --replay exclude each other", hint="give one of them")
    if (record is None) != (cassette is None):
        hint = "for example --record https://api.poe.com/v1 --cassette poe.yaml"
        raise UsageError("--record and --cassette go together", hint=hint)
    if times and record is None:
        raise UsageError("--times goes with --record", hint="a replay takes what was recorded")
    if record is None and replay is None:
        return
    given = [
        param.opts[0]
        for param in ctx.command.params
        if param.name not in _OF_TAPES
        and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    ]
    if given:
        hint = "leave it out; such answers are made by the server that is recorded"
        other = "--record" if record is not None else "--replay"
        raise UsageError(f"{given[0]} does not go with {other}", hint=hint)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to listen, and the program that is served, if any."""

    host: str
    port: int
    command: tuple[str, ...]


def _replay(path: Path, place: _Place) -> int:
    """Answer from a cassette until interrupted, or until the program ends."""
    text = read_cassette(path)
    if text.is_torn:
        _say(f"warning: {path}: the last recording is incomplete, and is left out")
    replay = Replay(text.recordings, Masking(*known_keys(os.environ)), str(path), _say)
    try:
        code = asyncio.run(_listen(replay, place))
    finally:
        unused = replay.shelf.unused
        if 0 < len(unused) < len(text.recordings):
            shown = ", ".join(map(str, unused[:_SHOWN])) + (", ..." if unused[_SHOWN:] else "")
            _say(f"{len(unused):,} of {len(text.recordings):,} recordings were not used: {shown}")
    if replay.misses:
        what = "request was" if replay.misses == 1 else "requests were"
        _say(f"error: {replay.misses:,} {what} not recorded")
    return code or int(replay.misses > 0)


def _record(url: str, path: Path, place: _Place, *, times: bool) -> int:
    """Pass requests on and record them until interrupted, or until the program ends."""
    base_url = checked_base_url(url, named="--record")
    check_certificates(os.environ)
    parts = urlsplit(base_url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        _say("warning: http is not encrypted: others may read the key on its way")
    with open_cassette(path) as writer:
        if writer.text.is_torn:
            _say(f"warning: {path}: the last recording was incomplete, and is dropped")
        if writer.text.recordings:
            count = len(writer.text.recordings)
            _say(f"{path} has {count:,} recordings: they answer first, what they lack is asked")
        return asyncio.run(_serve_recorder(base_url, writer, place, times=times))


async def _serve_recorder(
    base_url: str, writer: CassetteWriter, place: _Place, *, times: bool
) -> int:
    clock = SystemClock()
    recorder = CassetteRecorder(
        RecordedServer(base_url),
        async_transport_for(None, proxy=proxy_from(os.environ, base_url), clock=clock),
        writer,
        Masking(*known_keys(os.environ)),
        clock=clock,
        tell=_say,
        times=times,
    )
    try:
        return await _listen(recorder, place, recorder.failure)
    finally:
        await recorder.aclose()


async def _listen(host: Host, place: _Place, failure: asyncio.Future[None] | None = None) -> int:
    """Serve until interrupted, until the program ends, or until something fails."""
    server = RunningServer(host, SystemClock())
    port = await server.start(place.host, place.port)
    try:
        failed = failure or asyncio.get_running_loop().create_future()
        environ = child_environment(os.environ) | _PLACEHOLDERS if failure is None else os.environ
        return await _until_ended(base_url_at(place.host, port), place.command, environ, failed)
    finally:
        await server.stop()


async def _simulate(simulator: Simulator, place: _Place) -> int:
    async with simulator:
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        environ = child_environment(os.environ) | _PLACEHOLDERS
        return await _until_ended(simulator.base_url, place.command, environ, never)


async def _until_ended(
    url: str,
    command: tuple[str, ...],
    environ: Mapping[str, str],
    failure: asyncio.Future[None],
) -> int:
    """Say where we listen, or run a program that asks us, and return its exit code."""
    if not command:
        click.echo(f"listening {url}")
        await failure
        return 0
    with ended_by_signals():
        program = await _started(command, {**environ, **dict.fromkeys(_ADDRESSES, url)})
        ended = asyncio.ensure_future(program.wait())
        try:
            await asyncio.wait((ended, failure), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if program.returncode is None:
                program.terminate()
            await ended
    if failure.done():
        failure.result()
    code = ended.result()
    return code if code >= 0 else 128 - code


async def _started(
    command: tuple[str, ...], environ: Mapping[str, str]
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(*command, env=environ)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "cannot be started").lower()
        is_script = reason == "exec format error"
        hint = "begin it with a line like #!/bin/sh" if is_script else "check the program's name"
        raise UsageError(f"{command[0]}: {reason}", hint=hint) from None


def _say(message: str) -> None:
    scrubbed = Scrubber(*known_keys(os.environ)).scrub(message)
    click.echo("\n".join(visible(line) for line in scrubbed.split("\n")), err=True)
