"""Writes what commands print: lines with colours, JSON, and results of a run, without keys."""

import contextlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Literal, TextIO

import click
import msgspec

from poeflow.cli.private_files_options import without_keys
from poeflow.cli.process import own_streams
from poeflow.clock import SystemClock
from poeflow.digest import Json, encode_json
from poeflow.engine.results import Outcome
from poeflow.events import Event, Warned
from poeflow.redact import visible
from poeflow.report.github_commands import inert, inert_json, without_commands
from poeflow.report.listeners import JsonLines, TolerantListener
from poeflow.report.log import PlainReport
from poeflow.report.terminal.text import Line, Marks, marks_for, unstyled, wrapped

_BLOCK: Final = 500
"""How many lines are written at once."""


def say(text: str) -> None:
    """Write a line to stderr, without keys, control characters and commands of GitHub's runner."""
    click.echo(inert(visible(without_keys()(text))), err=True)


def say_warning(event: Event) -> None:
    """Write a warning to stderr; ignore other events."""
    if isinstance(event, Warned):
        warn(event.message)


def warn(message: str) -> None:
    """Write a warning to stderr."""
    say(f"warning: {message}")


def paint(lines: Iterable[Line], stream: TextIO) -> None:
    """Write `lines` to `stream`, with colours if it wants them."""
    shows, safe = is_colored(stream), without_keys()
    for unsafe in lines:
        line: Line = tuple((safe(text), style) for text, style in unsafe)
        text = "".join(_styled(*piece) for piece in line) if shows else unstyled(line)
        click.echo(text, file=stream)


def is_colored(stream: TextIO) -> bool:
    """Whether `stream` is a terminal whose user wants colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def show_sheet(sheet: Callable[[Marks, int], Iterable[Line]], lines: Iterable[str]) -> None:
    """Write a table to stdout: styled on a terminal, elsewhere as plain `lines`."""
    marks = marks_for(sys.stdout)
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        paint(sheet(marks, width_of(sys.stdout)), sys.stdout)
    else:
        for block in map(marks.each_shown, _without_keys(lines)):
            click.echo(inert("\n".join(block)))
    sys.stdout.flush()


def _without_keys(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield blocks of lines with the known keys in them masked; most blocks hold none."""
    safe = without_keys()
    for block in _blocks(lines):
        text = "\n".join(block)
        yield block if safe(text) == text else [*map(safe, block)]


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield lines in lists, so that little is done for each."""
    rest = iter(lines)
    while block := list(islice(rest, _BLOCK)):
        yield block


def conclude(text: str) -> None:
    """Write a summary to stderr."""
    safe = marks_for(sys.stderr).shown(text)
    rows = wrapped(safe, width_of(sys.stderr)) if sys.stderr.isatty() else [safe]
    paint((((row, "bold"),) for row in rows), sys.stderr)


def width_of(stream: TextIO) -> int:
    """Return how many cells wide a line on the terminal of `stream` may be."""
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
    """Write lines that hold no control characters, fenced against commands of GitHub's runner."""
    scrub = without_keys()
    safe = [tuple((scrub(text), style) for text, style in line) for line in lines]
    text = "\n".join(map(unstyled, safe))
    around = fenced_in_log(text)
    if around != text:
        first, last = around.partition("\n")[0], around.rpartition("\n")[2]
        safe = [((first, ""),), *safe, ((last, ""),)]
    paint(safe, sys.stdout)


def fenced_in_log(text: str) -> str:
    """Return a text so that GitHub's runner reads no command in it if it goes into its log.

    Only a text that holds one is fenced, and never in a file, which programs read.
    """
    is_log = bool(os.environ.get("GITHUB_ACTIONS")) and not _is_file(sys.stdout)
    return without_commands(text, secrets.token_hex(16)) if is_log else text


def _is_file(stream: TextIO) -> bool:
    return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)


def print_json(value: object) -> None:
    """Write a value as JSON, with control characters escaped."""
    try:
        encoded = msgspec.json.Encoder(decimal_format="number").encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell only as an escape
        encoded = encode_json(value)
    text = without_keys()(encoded.decode())
    shown = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    click.echo(inert_json(shown))


def print_text(text: str) -> None:
    """Write a text with its own line ends, without keys and commands of GitHub's runner."""
    click.echo(inert(without_keys()(text)).encode(), nl=False)


def print_document(text: str) -> None:
    """Write a document for programs, such as JSON or SARIF, without keys."""
    click.echo(inert_json(without_keys()(text)))


RunFormat = Literal["text", "json", "jsonl", "github"]
"""How `poeflow run` can show a run; `RUN_OUTPUTS` says how each does."""


class RunOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One way to show a run: the listener of its events, and the form of the results.

    While it is shown, what functions of the project print goes to stderr.
    `about` describes it in the help. If `events_are_all`, nothing new is worth starting once
    nobody reads the events. Of flows only those that succeeded have results to print.
    """

    about: str
    listener: Callable[[], contextlib.AbstractContextManager[TolerantListener]]
    print_results: Callable[[Mapping[str, Outcome]], None]
    events_are_all: bool = False


@contextlib.contextmanager
def _live() -> Iterator[TolerantListener]:
    """Yield the listener that shows the run on stderr: live on a terminal, else as lines."""
    if not is_lively(sys.stderr):
        with _log() as shown:
            yield shown
        return
    from poeflow.report.terminal.live import LiveReport

    color = not os.environ.get("NO_COLOR")
    with own_streams() as (_, log), LiveReport(log, SystemClock(), color=color) as report:
        yield TolerantListener(report)


@contextlib.contextmanager
def _log() -> Iterator[TolerantListener]:
    """Yield the listener that shows the run on stderr as lines. A log may break off."""
    with own_streams() as (_, log), PlainReport(log, SystemClock()) as report:
        yield TolerantListener(report, hears_text=False)


@contextlib.contextmanager
def _events() -> Iterator[TolerantListener]:
    """Yield the listener that writes events to stdout. Raises `OSError` at the end if it fails."""
    with own_streams() as (results, _):
        events = TolerantListener(JsonLines(results))
        yield events
    if events.error is not None:
        raise events.error


def is_lively(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can be drawn on, outside of CI."""
    is_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not is_ci


def _print_texts(outcomes: Mapping[str, Outcome]) -> None:
    """Write one result as it is, several of a flow as JSON."""
    for made in outcomes.values():
        if made.exit_code != 0 or (made.absent and not made.outputs):
            continue
        values = list(made.outputs.values())
        is_single = len(values) + len(made.missing) == 1
        _write(_text(values[0] if is_single else made.outputs))


def _print_json(outcomes: Mapping[str, Outcome]) -> None:
    """Write the results of one flow as JSON, of several as one document with those of each."""
    succeeded = {name: one for name, one in outcomes.items() if one.exit_code == 0}
    made: dict[str, Json] = {name: one.outputs for name, one in succeeded.items()}
    if len(outcomes) > 1:
        _write(_text(made))
    elif made:
        _write(_text(*made.values()))


def _print_nothing(outcomes: Mapping[str, Outcome]) -> None:
    """Leave the results to the events."""


def _text(value: Json | dict[str, Json]) -> str:
    if isinstance(value, str):
        return fenced_in_log(value)
    return inert_json(json.dumps(value, ensure_ascii=False, indent=2))


def _write(text: str) -> None:
    """Write a result: unchanged to a pipe or file, with escapes on a terminal."""
    shown = visible(text, with_joiners=True) if sys.stdout.isatty() else text
    shown = shown.rstrip("\n")
    sys.stdout.flush()
    for start in range(0, len(shown), _PIECE):  # so that there is no copy of a long one
        sys.stdout.buffer.write(shown[start : start + _PIECE].encode("utf-8", "replace"))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


RUN_OUTPUTS: Final[Mapping[RunFormat, RunOutput]] = {
    "text": RunOutput(
        about="one result as it is, several as JSON", listener=_live, print_results=_print_texts
    ),
    "json": RunOutput(about="", listener=_live, print_results=_print_json),
    "jsonl": RunOutput(
        about="every event",
        listener=_events,
        print_results=_print_nothing,
        events_are_all=True,
    ),
    "github": RunOutput(
        about="text, with annotations and a job summary",
        listener=_log,
        print_results=_print_texts,
    ),
}
_DEFAULT: Final = "text"
_PIECE: Final = 1024 * 1024
"""Characters of a result that are written at once."""


def _about_outputs() -> str:
    """Return the help text about the outputs."""
    names = {name: f"{name} (default)" if name == _DEFAULT else name for name in RUN_OUTPUTS}
    told = [f"{names[name]}: {one.about}".removesuffix(": ") for name, one in RUN_OUTPUTS.items()]
    return f"{'; '.join(told)}."


output_option: Final = click.option(
    "--output",
    type=click.Choice([*RUN_OUTPUTS]),
    default=_DEFAULT,
    metavar="FORMAT",
    help=_about_outputs(),
)
