"""`poeflow diff`: what changed between two runs, word by word."""

import sys
from collections.abc import Iterator
from typing import Final

import click

from poeflow.cli.completing import RUNS
from poeflow.cli.output import is_colored, print_json, print_lines, width_of
from poeflow.cli.private_files_options import trust_state_option
from poeflow.cli.run_arguments import Place, before, history_here, place_of, with_result
from poeflow.records import InstanceRecord
from poeflow.report.difference import change_lines, changed
from poeflow.report.history import in_order
from poeflow.report.terminal.text import marks_for
from poeflow.store.history import History

EPILOG: Final = """\b
Examples:
  poeflow diff
  poeflow diff last~3
  poeflow diff 12 14
  poeflow diff 12/translate@German 14/translate@German
"""


@click.command(epilog=EPILOG)
@click.argument("a", metavar="[A]", required=False, shell_complete=RUNS)
@click.argument("b", metavar="[B]", required=False, shell_complete=RUNS)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@trust_state_option
def diff(a: str | None, b: str | None, *, output: str) -> None:
    """Say what changed between two runs: prompts, parameters and answers.

    A and B are RUN[/STEP[@KEY]], as for `poeflow show`. Without B, A is compared with the run of
    its flow before it; without both, the last run is.
    """
    history = history_here()
    new = place_of(history, b or a or "last")
    old = place_of(history, a) if a and b else _before(history, new)
    found = list(changed(*_compared(history, old, new)))
    if output == "json":
        print_json({"old": old.run.id, "new": new.run.id, "changed": found})
        return
    size = width_of(sys.stdout) if sys.stdout.isatty() else sys.maxsize
    lines = change_lines(
        found, width=size, is_colored=is_colored(sys.stdout), marks=marks_for(sys.stdout)
    )
    print_lines(lines)
    if not found:
        click.echo(f"runs {old.run.id} and {new.run.id} do not differ", err=True)


def _before(history: History, new: Place) -> Place:
    row = before(history, new.run)
    found = [one for one in history.instances(row.id) if one.id == new.name]
    return Place(run=row, name=new.name, instance=found[0] if found else None)


def _compared(history: History, *places: Place) -> Iterator[list[InstanceRecord]]:
    """Yield the instances of each, with their results where they are not of the same request."""
    found = [_instances(history, place) for place in places]
    requests = [{one.id: one.fingerprint for one in instances} for instances in found]
    same = {name for name, request in requests[0].items() if requests[1].get(name) == request}
    for instances in found:
        yield [one if one.id in same else with_result(history, one) for one in instances]


def _instances(history: History, place: Place) -> list[InstanceRecord]:
    if place.name is None:
        return in_order(place.run, history.instances(place.run.id))
    return [] if place.instance is None else [place.instance]
