"""`poeflow show`: show one run of the history, or one instance of it."""

import sys
from collections.abc import Iterator, Sequence
from typing import Final

import click

from poeflow.cli.completing import RUNS
from poeflow.cli.output import print_json, print_lines
from poeflow.cli.private_files_options import trust_state_option
from poeflow.cli.run_arguments import history_here, run_argument, with_result
from poeflow.records import InstanceRecord, RequestRow, step_of
from poeflow.report.history import headed, instance_lines, run_lines
from poeflow.report.loop_overview import loop_lines
from poeflow.report.terminal.text import Line, marks_for

EPILOG: Final = """\b
Examples:
  poeflow show
  poeflow show last~1/draft
  poeflow show last/translate
  poeflow show 12/translate@German --output json
"""


@click.command(epilog=EPILOG)
@click.argument("run", metavar="RUN[/STEP[@KEY]]", default="last", shell_complete=RUNS)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@trust_state_option
def show(run: str, *, output: str) -> None:
    """Show a run, or all that is known of one instance: request, answer, attempts.

    Of a step that runs many times it shows how many instances passed, for each value
    of a matrix, too, and how their answers begin.

    RUN is a number of `poeflow history`, `last`, or `last~1` for the one before.
    """
    history = history_here()
    place = run_argument(history, run, with_loops=True)
    is_running = place.run.end is None and history.running() == place.run.id
    requests = history.requests(place.run.id, place.name)
    if place.name is None:
        instances = history.instances(place.run.id)
    elif place.loop:
        instances = tuple(with_result(history, one) for one in place.loop)
        requests = tuple(
            one
            for one in history.requests(place.run.id)
            if step_of(one.record.instance) == place.name
        )
    else:
        instances = (with_result(history, place.instance),) if place.instance else ()
    if output == "json":
        print_json({"run": place.run, "instances": instances, "requests": requests})
    elif place.name is None:
        print_lines(run_lines(place.run, instances, marks_for(sys.stdout), is_running=is_running))
        print_lines(_waiting(requests))
    elif place.loop:
        lines = loop_lines(place.name, instances, marks_for(sys.stdout))
        print_lines([*headed(place.run, is_running=is_running), (), *lines])
    else:
        one = instances[0] if instances else _unfinished(place.name, requests)
        head = headed(place.run, is_running=is_running)
        print_lines([*head, (), *instance_lines(one, requests)])


def _waiting(requests: Sequence[RequestRow]) -> Iterator[Line]:
    """Yield the requests that have no answer in the history."""
    waiting = [row for row in requests if row.answer is None]
    if waiting:
        names = ", ".join(dict.fromkeys(row.record.instance for row in waiting))
        count = len(waiting)
        text = f"{count} request{'' if count == 1 else 's'} of unknown outcome: {names}"
        yield ()
        yield ((marks_for(sys.stdout).shown(text), "yellow"),)


def _unfinished(name: str, requests: Sequence[RequestRow]) -> InstanceRecord:
    """Return a record of an instance that did not end, with its first request."""
    first = requests[0].record
    return InstanceRecord(
        id=name,
        step=step_of(name),
        status="failed",
        reason="it has not ended",
        model=first.model,
        fingerprint=first.fingerprint,
        request=first.request,
    )
