"""A run on a terminal: a table of the steps at work, and the streaming text of a lone one.

Finished steps scroll away above as lines; the live part vanishes when the run ends.
"""

from typing import Final, Self, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from poeflow.clock import Clock
from poeflow.durations import spoken
from poeflow.events import (
    Event,
    RequestSent,
    RetryPlanned,
    RunStarted,
    StepExpanded,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
    TextArrived,
)
from poeflow.redact import visible
from poeflow.report.marks import mark_of
from poeflow.report.plain import line_of
from poeflow.report.row import Row

MAX_ROWS: Final = 12


class LiveReport:
    """Listens to events and keeps a live table on `stream`. Use it as a context manager."""

    def __init__(self, stream: TextIO, clock: Clock, *, color: bool) -> None:
        self._console = Console(file=stream, no_color=not color, highlight=False, markup=False)
        self._clock = clock
        self._running: dict[str, Row] = {}
        self._waiting = 0
        self._live = Live(
            get_renderable=lambda: self,
            console=self._console,
            refresh_per_second=12,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._running.clear()
        self._live.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._waiting = len(event.steps)
            case StepExpanded():
                self._waiting += event.instances - 1
            case StepStarted():
                self._waiting -= 1
                self._running[event.step] = Row(event.model or "", self._clock.monotonic())
            case TextArrived() if event.step in self._running:
                self._running[event.step].grow(event)
            case RetryPlanned() if event.step in self._running:
                self._running[event.step].start_over(event)
            case StepFinished() | StepFailed():
                self._running.pop(event.step, None)
            case StepSkipped():
                self._waiting -= 1
        self._say(event)

    def _say(self, event: Event) -> None:
        line = line_of(event)
        if not line or isinstance(event, RequestSent | RetryPlanned):
            return
        mark, style = mark_of(event)
        text = Text(f"{mark} " if mark else "", style=style)
        text.append(visible(line).replace("\n", " "), style="" if mark else "dim")
        self._console.print(text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._running:
            return
        table = Table.grid(padding=(0, 1))
        now = self._clock.monotonic()
        for step, row in list(self._running.items())[:MAX_ROWS]:
            elapsed, note = Text(spoken(now - row.started)), Text(row.note())
            table.add_row(
                Spinner("dots"), Text(visible(step)), Text(row.model, "dim"), elapsed, note
            )
        hidden = len(self._running) - MAX_ROWS
        counts = ((hidden, "more running"), (self._waiting, "waiting"))
        rest = ", ".join(f"{count} {what}" for count, what in counts if count > 0)
        yield table
        if rest:
            yield Text(f"  {rest}", "dim")
        if len(self._running) == 1:
            row = next(iter(self._running.values()))
            yield Text(row.tail(options.max_width, options.size.height - 4))
