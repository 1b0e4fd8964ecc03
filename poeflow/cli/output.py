"""Lines with colours on a terminal, plain ones elsewhere, in what the stream can show."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

import click

from poeflow.cli.private_files_options import without_keys
from poeflow.report.github_commands import inert
from poeflow.report.terminal.marks import Marks, marks_for
from poeflow.report.terminal.text import Line, plain, wrapped


def paint(lines: Iterable[Line], stream: TextIO) -> None:
    """Write `lines` to `stream`: stdout or stderr."""
    shows, safe = is_colored(stream), without_keys()
    for unsafe in lines:
        line: Line = tuple((safe(text), style) for text, style in unsafe)
        text = "".join(_styled(*piece) for piece in line) if shows else plain(line)
        click.echo(text, file=stream)


def is_colored(stream: TextIO) -> bool:
    """Whether `stream` is a terminal whose user wants colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def show_sheet(sheet: Callable[[Marks, int], Iterable[Line]], lines: Iterable[str]) -> None:
    """Write to stdout what there is to look up: for the eye on a terminal, elsewhere as `lines`."""
    marks = marks_for(sys.stdout)
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        paint(sheet(marks, width_of(sys.stdout)), sys.stdout)
    else:
        safe = without_keys()
        for line in lines:
            click.echo(inert(marks.shown(safe(line))))
    sys.stdout.flush()


def conclude(text: str) -> None:
    """Write to stderr what it all comes to."""
    said = marks_for(sys.stderr).shown(text)
    rows = wrapped(said, width_of(sys.stderr)) if sys.stderr.isatty() else [said]
    paint((((row, "bold"),) for row in rows), sys.stderr)


def width_of(stream: TextIO) -> int:
    """Return how many cells a line on the terminal behind `stream` may have."""
    try:
        return max(os.get_terminal_size(stream.fileno()).columns - 1, 1)
    except (OSError, ValueError):
        return 79


def _styled(text: str, style: str) -> str:
    words = set(style.split())
    color = next(iter(words - {"bold", "dim", "strike"}), None)
    return click.style(
        text,
        fg=color,
        bold="bold" in words or None,
        dim="dim" in words or None,
        strikethrough="strike" in words or None,
    )
