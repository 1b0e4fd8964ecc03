"""What commands that look at the past write on stdout, with no secret in it."""

import json
import sys
from collections.abc import Iterable

import click
import msgspec

from poeflow.cli.painting import paint
from poeflow.cli.private import without_keys
from poeflow.digest import encode_json
from poeflow.report.lines import Line
from poeflow.report.workflow import inert_json


def print_lines(lines: Iterable[Line]) -> None:
    """Write lines whose texts are harmless already."""
    paint(lines, sys.stdout)


def print_json(value: object) -> None:
    """Write a value as JSON, with escapes for what could steer a terminal."""
    try:
        encoded = msgspec.json.Encoder(decimal_format="number").encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell only as an escape
        encoded = encode_json(value)
    text = without_keys()(encoded.decode())
    shown = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    click.echo(inert_json(shown))
