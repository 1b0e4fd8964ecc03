"""Shows what is wrong with flows: their problems, and the errors that stop one of them."""

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import click

from poeflow.cli.output import paint, say
from poeflow.cli.private_files_options import without_keys
from poeflow.errors import InvalidFlowError, PoeflowError
from poeflow.operations.check import Checkup, text_as_checked
from poeflow.problems import Problem, errors_only
from poeflow.report.problem_formats import in_color, listing
from poeflow.report.terminal.text import marks_for


def refuse_invalid(
    found: Sequence[Checkup], tell: Callable[[Checkup], None] = lambda _one: None
) -> None:
    """Show the problems of flows; an error among them ends the command. `tell` gets each flow."""
    for checkup in found:
        show_problems(checkup.problems, (checkup,))
        tell(checkup)
    if any(errors_only(checkup.problems) for checkup in found):
        raise click.exceptions.Exit(InvalidFlowError.exit_code)


def say_error(
    found: Checkup, error: PoeflowError, *, lacks: str = "", named: Iterable[str] = ()
) -> int:
    """Say what is in the way of one flow of a command, and return its exit code.

    A flow that only `lacks` inputs to be looked at is none of the user's errors, but if `named`.
    """
    if lacks and found.shown not in {Path(one).as_posix() for one in named}:
        say(f"{found.shown}: {lacks}")
        return 0
    if isinstance(error, InvalidFlowError):
        show_problems(error.problems, (found,))
    else:
        for line in str(error).splitlines():
            say(f"error: {found.shown}: {line}")
    return error.exit_code


def show_problems(problems: Collection[Problem], found: Iterable[Checkup]) -> None:
    """Write problems to stderr: with the source line and a caret on a terminal."""
    if sys.stderr.isatty():
        marks, excerpts = marks_for(sys.stderr), _Excerpts(found)
        for problem in problems:
            paint(in_color(problem, excerpts.text(problem.place.path), marks), sys.stderr)
    elif problems:
        click.echo(without_keys()(listing(problems)), err=True)


class _Excerpts:
    """The texts of the files that have problems, by their paths as shown.

    A file that was refused, or has changed since, has none.
    """

    def __init__(self, found: Iterable[Checkup]) -> None:
        those = tuple(found)
        self._projects = [one.project for one in those]
        self._texts = {one.shown: one.loaded.document.text for one in those}

    def text(self, shown: str) -> str:
        """Return the text of a file, empty if there is none to show."""
        if shown not in self._texts:
            found = (text_as_checked(project, shown) for project in self._projects)
            self._texts[shown] = next(filter(None, found), "")
        return self._texts[shown]
