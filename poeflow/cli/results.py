"""What a run leaves on stdout, and who listens to it while it goes on."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Literal, TextIO

from poeflow.cli.printing import fenced_in_log
from poeflow.clock import SystemClock
from poeflow.digest import Json, encode_json
from poeflow.engine.run import Outcome
from poeflow.redact import visible
from poeflow.report.github_commands import inert_json
from poeflow.report.lasting import Lasting
from poeflow.report.listeners import JsonLines
from poeflow.report.log import PlainReport

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
