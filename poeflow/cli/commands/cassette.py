"""`poeflow cassette`: explain what a recording of requests answers."""

import os
from pathlib import Path
from typing import Final

import click
import msgspec

from poeflow.cassettes.cassette_file import read_cassette
from poeflow.cassettes.explanation import answering, listed, why_not
from poeflow.cassettes.matching import RULES, Shelf
from poeflow.cassettes.recordings import RecordedRequest
from poeflow.cassettes.secrets import Masking, recorded_request
from poeflow.cli.output import print_lines
from poeflow.digest import Json, decode_json, encode_json
from poeflow.errors import UsageError
from poeflow.opener import UnusableFileError, read_named
from poeflow.redact import visible
from poeflow.settings import known_keys
from poeflow.simulator.http_messages import MAX_BODY_BYTES, Request

EXPLAIN: Final = """\b
Examples:
  poeflow cassette explain poe.yaml
  poeflow cassette explain poe.yaml body.json
  poeflow cassette explain poe.yaml body.json --path /v1/responses
"""
_CHAT: Final = "/v1/chat/completions"


@click.group()
def cassette() -> None:
    """Explain what `simulate --record` has recorded."""


@cassette.command("explain", epilog=EXPLAIN)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("request", type=click.Path(path_type=Path), required=False)
@click.option("--path", default=_CHAT, show_default=True, help="Where the body is posted to.")
@click.pass_context
def explain_cassette(ctx: click.Context, file: Path, request: Path | None, path: str) -> None:
    """List the recordings in FILE and how they are matched, or explain one REQUEST.

    REQUEST is a file with the JSON body of a request, or with a whole one as in the cassette
    (method, path, json). Says which recording answers it, or how the nearest one differs, and
    then exits with 1.
    """
    text = read_cassette(file)
    shelf = Shelf(text.recordings)
    if text.is_torn:
        click.echo(f"warning: {file}: the last recording is incomplete, and is left out", err=True)
    if request is None:
        _print([*listed(shelf, str(file)), "", *RULES.splitlines()])
        return
    asked = _request_in(request, path)
    lines = answering(shelf, asked, str(file))
    _print(lines or why_not(shelf, asked, str(file)))
    if not lines:
        ctx.exit(1)


def _print(lines: list[str]) -> None:
    print_lines(((visible(line), ""),) for line in lines)


def _request_in(file: Path, path: str) -> RecordedRequest:
    """Return the request in a file, as it would be recorded. Raises `UsageError`."""
    try:
        value = decode_json(read_named(file, limit=MAX_BODY_BYTES))
        whole = _whole(value, path)
        body = whole.data
    except OSError as error:
        hint = error.hint if isinstance(error, UnusableFileError) else "check the path"
        reason = (error.strerror or "cannot be read").lower()
        raise UsageError(f"{file}: {reason}", hint=hint) from None
    except msgspec.ValidationError as error:
        hint = "write it as in a cassette: method, path, and json, text or base64"
        raise UsageError(f"{file}: {str(error).replace('`', '')}", hint=hint) from None
    except ValueError:
        raise UsageError(f"{file} is not JSON", hint="write the body of a request") from None
    bare, _, query = whole.path.partition("?")
    asked = Request(
        method=whole.method,
        path=bare,
        query={},
        headers={"content-type": whole.type} if whole.type else {},
        body=body,
        raw_query=query,
    )
    return recorded_request(asked, Masking(*known_keys(os.environ)).scrubber_of(asked))


def _whole(value: Json, path: str) -> RecordedRequest:
    """Return a whole request as it is, or one with this body."""
    if isinstance(value, dict) and {"method", "path"} <= value.keys():
        return msgspec.convert(value, RecordedRequest)
    return RecordedRequest(method="POST", path=path, text=encode_json(value).decode())
