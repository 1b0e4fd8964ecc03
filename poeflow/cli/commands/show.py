"""`poeflow show`: one run of the history, or one instance of it."""

import sys

import click

from poeflow.cli.past import history_here, place_of
from poeflow.cli.printing import print_json, print_lines
from poeflow.report.history import headed, run_lines
from poeflow.report.marks import marks_for
from poeflow.report.shown_instance import instance_lines


@click.command()
@click.argument("run", metavar="RUN[/STEP[@KEY]]", default="last")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def show(run: str, *, output: str) -> None:
    """Show a run, or all that is known of one instance: request, answer, attempts.

    RUN is a number of `poeflow history`, `last`, or `last~1` for the one before.
    """
    history = history_here()
    place = place_of(history, run)
    instances = history.instances(place.run.id)
    named = None if place.instance is None else place.instance.id
    requests = history.requests(place.run.id, named)
    if output == "json":
        shown = instances if place.instance is None else (place.instance,)
        print_json({"run": place.run, "instances": shown, "requests": requests})
    elif place.instance is None:
        print_lines(run_lines(place.run, instances, marks_for(sys.stdout)))
        waiting = [row for row in requests if row.answer is None]
        if waiting:
            names = ", ".join(dict.fromkeys(row.record.instance for row in waiting))
            count = len(waiting)
            told = f"{count} request{'' if count == 1 else 's'} of unknown outcome: {names}"
            print_lines([(), ((marks_for(sys.stdout).shown(told), "yellow"),)])
    else:
        print_lines([*headed(place.run), (), *instance_lines(place.instance, requests)])
