"""`poeflow diff`: show what changed between two runs or two revisions, word by word."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click

from poeflow.cli.completing import RUNS
from poeflow.cli.output import fenced_in_log, is_colored, print_json, print_lines, width_of
from poeflow.cli.private_files_options import (
    access_of,
    env_file_option,
    environment_with,
    trust_state_option,
    trusts_state,
    without_keys,
)
from poeflow.cli.run_arguments import RunArgument, history_here, run_argument, with_result
from poeflow.cli.targets import flows_named
from poeflow.digest import PREFIX
from poeflow.errors import UsageError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.revisions.compare import compare_revisions
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project
from poeflow.records import InstanceRecord
from poeflow.report.comparison import comparison_comment, comparison_lines, total_words
from poeflow.report.difference import change_lines, changed
from poeflow.report.history import in_order, run_before
from poeflow.report.terminal.text import marks_for
from poeflow.store.history import History
from poeflow.store.revisions.revision_names import is_span

DiffFormat = Literal["text", "markdown", "json"]
_RUN: Final = lazy_pattern(r"(?:last(?:~[0-9]+)?|[0-9]+)(?:/|\Z)")
"""How a run begins; a revision of such a name is written `refs/heads/12/fix..main`."""
_SIDES: Final = 2
_NEWEST: Final = 1000
"""Among so many runs of a flow the one before is looked for."""
EPILOG: Final = """\b
Examples:
  poeflow diff
  poeflow diff last~3
  poeflow diff 12/translate@German 14/translate@German
  poeflow diff main...HEAD
  poeflow diff HEAD~1..HEAD flows/notes.yaml --output markdown
  poeflow diff --since origin/main
"""


@click.command(epilog=EPILOG)
@click.argument("arguments", nargs=-1, metavar="[A [B] | REV..REV [FLOW]...]", shell_complete=RUNS)
@click.option("--since", metavar="REV", help="Compare a revision of git with the files on disk.")
@click.option(
    "--output",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="markdown: a comment for a pull request, below GitHub's limit.",
)
@trust_state_option
@env_file_option
def diff(
    arguments: tuple[str, ...], *, since: str | None, output: DiffFormat, env_file: Path | None
) -> None:
    """Show what changed between two runs, or between two revisions of git.

    A and B are RUN[/STEP[@KEY]], as for `poeflow show`. Without B, A is compared with the previous
    run of its flow; without A, too, the last run is.

    REV..REV compares what is committed: flows, templates, locks and outputs, without the history.
    For each step it shows the cause, or the steps that it only follows, and which other names
    answered. A flow that can be used in one of them only is broken. A...B compares B with where it
    left A. After it, or with --since, name flows or folders, or all flows of the project are
    compared.
    """
    if since is not None or (arguments and _is_revisions(arguments[0])):
        _compare(arguments, since, output, env_file)
    else:
        _compare_runs(arguments, output)


def _is_revisions(written: str) -> bool:
    """Return whether an argument is REV..REV: it is no run, and has two dots."""
    return is_span(written) and not _RUN.match(written)


def _compare(
    arguments: tuple[str, ...], since: str | None, output: DiffFormat, env_file: Path | None
) -> None:
    """Show what differs between two revisions."""
    project = Project(Project.find(Path.cwd()).root, access=access_of((), env_file))
    if since is not None and arguments and _is_revisions(arguments[0]):
        raise UsageError("--since and REV..REV are two comparisons", hint="give one of them")
    named = arguments if since is not None else arguments[1:]
    environ = environment_with(env_file)
    options = RunOptions(environ=environ, trust_state=trusts_state(), holds_results=False)
    found = compare_revisions(
        project,
        arguments[0] if since is None else since,
        options,
        is_since=since is not None,
        choose=lambda sides: flows_named(
            project, [sides.old, sides.new], named, others=sides.other_projects()
        ),
    )
    if output == "json":
        print_json(found)
    elif output == "markdown":
        click.echo(fenced_in_log(without_keys()(comparison_comment(found))))
    else:
        marks, width = marks_for(sys.stdout), _width()
        colored = is_colored(sys.stdout)
        print_lines(comparison_lines(found, width=width, is_colored=colored, marks=marks))
        click.echo(total_words(found), err=True)


def _compare_runs(arguments: tuple[str, ...], output: DiffFormat) -> None:
    """Show what differs between two runs of the history."""
    if len(arguments) > _SIDES or output == "markdown":
        hint = "for revisions of git: poeflow diff main...HEAD, or --since main"
        raise UsageError("two runs are compared, as text or json", hint=hint)
    other = next((one for one in arguments if not _RUN.match(one)), None)
    if other is not None:
        hint = (
            f"a run is a number, last or last~1; a revision of git: --since {other}, {other}..HEAD"
        )
        raise UsageError(f'there is no run "{other}"', hint=hint)
    a, b = (*arguments, None, None)[:_SIDES]
    history = history_here()
    new = run_argument(history, b or a or "last")
    old = run_argument(history, a) if a and b else _before(history, new)
    before, after = _compared(history, old, new)
    lacks = {"old_lacks": old.run.may_lack, "new_lacks": new.run.may_lack}
    found = list(changed(before, after, **lacks))
    if output == "json":
        print_json({"old": old.run.id, "new": new.run.id, "changed": found})
        return
    lines = change_lines(
        found, width=_width(), is_colored=is_colored(sys.stdout), marks=marks_for(sys.stdout)
    )
    print_lines(lines)
    lacking = {one.id for one in before} - {one.id for one in after}
    left_out = sum(map(new.run.may_lack, lacking))
    if left_out:
        noun = "instance" if left_out == 1 else "instances"
        click.echo(f"run {new.run.id} left out {left_out:,} {noun}", err=True)
    if not found:
        click.echo(f"runs {old.run.id} and {new.run.id} do not differ", err=True)


def _width() -> int:
    return width_of(sys.stdout) if sys.stdout.isatty() else sys.maxsize


def _before(history: History, new: RunArgument) -> RunArgument:
    row = run_before(history, new.run, within=_NEWEST)
    if row is None:
        message = f"{new.run.record.flow[2:]} was not run before run {new.run.id}"
        raise UsageError(message, hint="poeflow history lists all runs")
    found = [one for one in history.instances(row.id) if one.id == new.name]
    return RunArgument(run=row, name=new.name, instance=found[0] if found else None)


def _compared(history: History, *places: RunArgument) -> Iterator[list[InstanceRecord]]:
    """Yield the instances of each run, with results unless both runs have the same request."""
    found = [_instances(history, place) for place in places]
    requests = [
        {one.id: (one.fingerprint or "")[:PREFIX] for one in instances} for instances in found
    ]
    same = {name for name, request in requests[0].items() if requests[1].get(name) == request}
    for instances in found:
        yield [one if one.id in same else with_result(history, one) for one in instances]


def _instances(history: History, place: RunArgument) -> list[InstanceRecord]:
    if place.name is None:
        return in_order(place.run, history.instances(place.run.id))
    return [] if place.instance is None else [place.instance]
