"""Checks the flow that a command names, and shows the problems of flows."""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from poeflow.cli.ci import CiReports
from poeflow.cli.click_options import RunCommandOptions, input_files
from poeflow.cli.output import paint, say
from poeflow.cli.private_files_options import access_of, without_keys
from poeflow.cli.targets import flow_target, selections, targets_around
from poeflow.errors import InvalidFlowError, PoeflowError, StaleError, most_serious
from poeflow.operations.check import Checkup, checked_again, checkups, text_as_checked
from poeflow.operations.revisions.since import flows_reading, flows_since
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import Proof
from poeflow.operations.watch.watched_files import WatchedFiles
from poeflow.planning.selection import check_steps
from poeflow.problems import Problem, errors_only
from poeflow.project.private_files import Access
from poeflow.report.problem_formats import in_color, listing
from poeflow.report.terminal.text import marks_for


def checked_flow(
    path: Path,
    allow_files: Sequence[Path],
    tell: Callable[[Checkup], None] = lambda _one: None,
    *,
    env_file: Path | None = None,
) -> Checkup:
    """Return the flow at `path` and show its problems; an error among them ends the command.

    `tell` gets the flow before that. Raises `UsageError` if there is no such flow.
    """
    target = flow_target(path, access_of(allow_files, env_file))
    found = checkups([target])
    _show_all(found, tell)
    return found[0]


def as_now(found: Checkup) -> Checkup:
    """Return a checked flow, checked again if a file that it was read from has changed since."""
    log = found.project.log
    is_same = log is None or not WatchedFiles(log, found.project.root).changes()
    return found if is_same else checked_again(found)


def changed_flow(
    path: Path,
    access: Access,
    since: str | None,
    tell: Callable[[Checkup], None],
    *,
    given: Collection[Path],
) -> Checkup | None:
    """Return the flow at `path` as `checked_flow` does, None if it did not change since then."""
    target = flow_target(path, access)
    found = checkups([target])
    if not only_changed(found, since, given=given):
        return None
    _show_all(found, tell)
    return found[0]


def checked_selections(
    named: Sequence[str], options: RunCommandOptions, tell: Callable[[Checkup], None]
) -> tuple[Mapping[Path, Sequence[str]], list[Checkup]]:
    """Return the flows that `named` chooses, or those of them that changed, with their steps.

    With `--reading` they are the flows that read the files named, with `--locked` only those that
    have a lock. Their problems are shown, and `tell` gets each; an error among them ends the
    command. Raises `UsageError`, also if a step is chosen that a flow does not have.
    """
    access = access_of(options["allow_files"], options["env_file"])
    if options["reading"]:
        checks = only_reading(named, access, is_locked=options["locked"])
        chosen: Mapping[Path, Sequence[str]] = {Path(one.shown): () for one in checks}
    else:
        chosen = selections(named)
        checks = checkups([flow_target(path, access) for path in chosen])
    given = input_files(options["inputs"], options["inputs_file"])
    found = only_changed(checks, options["since"], given=given, is_locked=options["locked"])
    different = set(map(id, found))
    pairs = zip(chosen.items(), checks, strict=True)
    chosen = {path: steps for (path, steps), one in pairs if id(one) in different}
    _show_all(found, tell)
    for checkup, steps in zip(found, chosen.values(), strict=True):
        if checkup.checked is not None:
            check_steps(checkup.checked, steps)
    return chosen, found


def _show_all(found: Sequence[Checkup], tell: Callable[[Checkup], None]) -> None:
    for checkup in found:
        show_problems(checkup.problems, (checkup,))
        tell(checkup)
    if any(errors_only(checkup.problems) for checkup in found):
        raise click.exceptions.Exit(InvalidFlowError.exit_code)


reading_option: Final = click.option(
    "--reading", is_flag=True, help="The paths are files of any kind: the flows that read them."
)


def only_reading(files: Sequence[str], access: Access, *, is_locked: bool = False) -> list[Checkup]:
    """Return the flows of this project that read some files, and say how many.

    If `is_locked`, those without a lock are left out.
    """
    checks = checkups(targets_around(access))
    named = [Path(file) for file in files]
    found = flows_reading(checks, named, os.environ, is_locked=is_locked)
    kind = " with a lock" if is_locked else ""
    many = f"{len(checks):,} flow{'s' * (len(checks) != 1)}"
    say(f"{len(found):,} of {many}: those{kind} that read one of the files, or have an error")
    return found


def prove(
    found: Sequence[Checkup],
    given: RunOptions,
    ci: CiReports,
    proves: Callable[[Checkup, RunOptions], Proof],
) -> int:
    """Report for each flow whether its lock proves it current, and return the exit code."""
    codes: list[int] = []
    for checkup in found:
        try:
            proof = proves(checkup, given)
        except PoeflowError as error:
            codes.append(say_error(checkup, error))
            ci.report_status(checkup, (), faults=(str(error),), level="error")
            continue
        ci.report_status(checkup, proof.statuses, faults=proof.faults, level="error")
        for line in (*(proof.reasons or ["current"]), *proof.advice):
            say(f"{checkup.shown}: {line}")
        codes += [StaleError.exit_code] * bool(proof.reasons)
    return most_serious(codes)


since_option: Final = click.option(
    "--since", metavar="REV", help="Only flows that read a file that differs from REV, by git."
)


def only_changed(
    found: Sequence[Checkup],
    since: str | None,
    *,
    given: Iterable[Path] = (),
    is_locked: bool = False,
) -> list[Checkup]:
    """Return the flows that read a file that differs from a revision, and say how many.

    All of them without a revision. `given` are files of inputs. If `is_locked`, the locks and the
    outputs of flows count, too. Raises `UsageError` outside of git.
    """
    if since is None:
        return list(found)
    different = flows_since(found, since, os.environ, given=tuple(given), is_locked=is_locked)
    many = f"{len(found):,} flow{'s' * (len(found) != 1)}"
    if different:
        reads = "reads" if len(different) == 1 else "read"
        say(f"{len(different):,} of {many} {reads} a file that differs from {since}")
    else:
        say(f"nothing to do: of {many} none reads a file that differs from {since}")
    return different


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
