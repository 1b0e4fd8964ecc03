"""Chooses among flows: those that read some files, those whose files differ from a revision."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from poeflow.cli.click_options import RunCommandOptions, input_files
from poeflow.cli.output import say
from poeflow.cli.private_files_options import access_of
from poeflow.cli.problem_output import refuse_invalid
from poeflow.cli.targets import flow_target, selections, targets_around
from poeflow.operations.check import Checkup, checked_again, checkups
from poeflow.operations.revisions.since import flows_reading, flows_since
from poeflow.operations.watch.watched_files import WatchedFiles
from poeflow.planning.checked import check_steps
from poeflow.project.private_files import Access


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
    refuse_invalid(found, tell)
    for checkup, steps in zip(found, chosen.values(), strict=True):
        if checkup.checked is not None:
            check_steps(checkup.checked, steps)
    return chosen, found


def changed_flow(
    path: Path,
    access: Access,
    since: str | None,
    tell: Callable[[Checkup], None],
    *,
    given: Iterable[Path],
) -> Checkup | None:
    """Return the flow at `path` if it differs from a revision; its problems are shown."""
    found = checkups([flow_target(path, access)])
    if not only_changed(found, since, given=given):
        return None
    refuse_invalid(found, tell)
    return found[0]


def as_now(found: Checkup) -> Checkup:
    """Return a checked flow, checked again if a file that it was read from has changed since."""
    log = found.project.log
    is_same = log is None or not WatchedFiles(log, found.project.root).changes()
    return found if is_same else checked_again(found)


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
