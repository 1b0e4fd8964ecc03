"""What commands that look at the past write on stdout, with no secret in it."""

import json
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from typing import TextIO

import click
import msgspec

from poeflow.cli.output import paint
from poeflow.cli.private_files_options import without_keys
from poeflow.digest import encode_json
from poeflow.report.github_commands import fenced, inert_json
from poeflow.report.terminal.text import Line, plain


def print_lines(lines: Iterable[Line]) -> None:
    """Write lines whose texts are harmless to a terminal already, and keep GitHub's runner off."""
    scrub = without_keys()
    safe = [tuple((scrub(text), style) for text, style in line) for line in lines]
    text = "\n".join(map(plain, safe))
    around = fenced_in_log(text)
    if around != text:
        first, last = around.partition("\n")[0], around.rpartition("\n")[2]
        safe = [((first, ""),), *safe, ((last, ""),)]
    paint(safe, sys.stdout)


def fenced_in_log(text: str) -> str:
    """Keep GitHub's runner from reading commands in a text that is printed into its log.

    Only a text that holds some is fenced, and never in a file: results are read by programs.
    """
    is_log = bool(os.environ.get("GITHUB_ACTIONS")) and not _is_file(sys.stdout)
    return fenced(text, secrets.token_hex(16)) if is_log else text


def _is_file(stream: TextIO) -> bool:
    return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)


def print_json(value: object) -> None:
    """Write a value as JSON, with escapes for what could steer a terminal."""
    try:
        encoded = msgspec.json.Encoder(decimal_format="number").encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell only as an escape
        encoded = encode_json(value)
    text = without_keys()(encoded.decode())
    shown = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    click.echo(inert_json(shown))
