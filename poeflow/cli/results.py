"""What a run leaves on stdout, and who listens to it while it goes on."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Literal

from poeflow.clock import SystemClock
from poeflow.digest import Json, encode_json
from poeflow.engine.run import Outcome
from poeflow.events import Listener
from poeflow.redact import visible
from poeflow.report.jsonl import JsonLines
from poeflow.report.plain import PlainReport

Output = Literal["text", "json", "jsonl"]


@contextlib.contextmanager
def listener(output: Output) -> Iterator[Listener]:
    """Yield what shows the run: live on a terminal that can, else as lines."""
    if output == "jsonl":
        yield JsonLines(sys.stdout)
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI"):
        from poeflow.report.live import LiveReport

        color = not os.environ.get("NO_COLOR")
        with LiveReport(sys.stderr, SystemClock(), color=color) as report:
            yield report
    else:
        yield PlainReport(sys.stderr)


def print_results(outcomes: Mapping[str, Outcome], output: Output) -> None:
    """Write the results of the flows that succeeded, in order."""
    finished = {name: made.outputs for name, made in outcomes.items() if made.exit_code == 0}
    for name, outputs in finished.items():
        values = list(outputs.values())
        if output == "text" and len(values) == 1:
            _write(_text(values[0]))
        elif len(outcomes) == 1 or output == "text":
            _write(_text(outputs))
        else:
            _write(encode_json({name: outputs}).decode())


def _text(value: Json | dict[str, Json]) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)


def _write(text: str) -> None:
    """Write a result: as it is into a pipe or file, made harmless on a terminal."""
    shown = visible(text) if sys.stdout.isatty() else text
    data = (shown.rstrip("\n") + "\n").encode("utf-8", "replace")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
