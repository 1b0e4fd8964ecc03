"""What commands write: lines with colours, JSON, and the results of a run, with no key in them."""

import contextlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, TextIO

import click
import msgspec

from poeflow.cli.private_files_options import without_keys
from poeflow.clock import SystemClock
from poeflow.digest import Json, encode_json
from poeflow.engine.run import Outcome
from poeflow.redact import visible
from poeflow.report.github_commands import fenced, inert, inert_json
from poeflow.report.listeners import JsonLines, Lasting
from poeflow.report.log import PlainReport
from poeflow.report.terminal.text import Line, Marks, marks_for, plain, wrapped


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


Output = Literal["text", "json", "jsonl", "github"]


@contextlib.contextmanager
def listener(output: Output) -> Iterator[Lasting]:
    """Yield what shows the run: live on a terminal that can, else as lines.

    A log that breaks off is no failure. Events on stdout that nobody reads are: `OSError` is raised
    when the run is over.
    """
    if output == "jsonl":
        events = Lasting(JsonLines(sys.stdout))
        yield events
        if events.error is not None:
            raise events.error
    elif output != "github" and is_lively(sys.stderr):
        from poeflow.report.terminal.live import LiveReport

        color = not os.environ.get("NO_COLOR")
        with LiveReport(sys.stderr, SystemClock(), color=color) as report:
            yield Lasting(report)
    else:
        yield Lasting(PlainReport(sys.stderr))


def is_lively(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can draw, and somebody is there to look at it."""
    is_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not is_ci


def print_results(outcomes: Mapping[str, Outcome], output: Output) -> None:
    """Write the results of the flows that succeeded, in order."""
    is_text = output in ("text", "github")
    finished = {
        name: made
        for name, made in outcomes.items()
        if made.exit_code == 0 and (made.outputs or not (made.absent and is_text))
    }
    for name, made in finished.items():
        outputs, values = made.outputs, list(made.outputs.values())
        if is_text and len(values) + len(made.missing) == 1:
            _write(_text(values[0]))
        elif len(outcomes) == 1 or is_text:
            _write(_text(outputs))
        else:
            _write(inert_json(encode_json({name: outputs}).decode()))


def _text(value: Json | dict[str, Json]) -> str:
    if isinstance(value, str):
        return fenced_in_log(value)
    return inert_json(json.dumps(value, ensure_ascii=False, indent=2))


def _write(text: str) -> None:
    """Write a result: as it is into a pipe or file, made harmless on a terminal."""
    shown = visible(text) if sys.stdout.isatty() else text
    data = (shown.rstrip("\n") + "\n").encode("utf-8", "replace")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
