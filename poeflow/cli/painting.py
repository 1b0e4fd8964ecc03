"""Lines with colours on a terminal, plain ones elsewhere, in what the stream can show."""

import os
import sys
from collections.abc import Iterable
from typing import TextIO

import click

from poeflow.report.lines import Line, plain


def paint(lines: Iterable[Line], stream: TextIO) -> None:
    """Write `lines` to `stream`: stdout or stderr."""
    is_colored = stream.isatty() and not os.environ.get("NO_COLOR")
    for line in lines:
        text = "".join(_styled(*piece) for piece in line) if is_colored else plain(line)
        click.echo(text, file=stream)


def width_of(stream: TextIO) -> int:
    """Return how many cells a line on the terminal behind `stream` may have."""
    try:
        return max(os.get_terminal_size(stream.fileno()).columns - 1, 1)
    except (OSError, ValueError):
        return 79


def is_terminal() -> bool:
    """Whether stdout is for the eye."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _styled(text: str, style: str) -> str:
    words = set(style.split())
    color = next(iter(words - {"bold", "dim"}), None)
    return click.style(text, fg=color, bold="bold" in words or None, dim="dim" in words or None)
