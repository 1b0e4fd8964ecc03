"""What commands that look at the past write on stdout, with no secret in it."""

import json
import os
import sys
from collections.abc import Iterable

import click
import msgspec

from poeflow.cli.painting import paint
from poeflow.digest import encode_json
from poeflow.redact import Scrubber
from poeflow.report.lines import Line
from poeflow.report.workflow import inert_json
from poeflow.user_config import known_keys


def print_lines(lines: Iterable[Line]) -> None:
    """Write lines whose texts are harmless already."""
    scrub = Scrubber(*known_keys(os.environ)).scrub
    paint((tuple((scrub(text), style) for text, style in line) for line in lines), sys.stdout)


def print_json(value: object) -> None:
    """Write a value as JSON, with escapes for what could steer a terminal."""
    try:
        encoded = msgspec.json.Encoder(decimal_format="number").encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell only as an escape
        encoded = encode_json(value)
    text = Scrubber(*known_keys(os.environ)).scrub(encoded.decode())
    shown = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    click.echo(inert_json(shown))
