"""Chooses among flows: those that read some files, and those whose files changed since then."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from poeflow.cli.output import say
from poeflow.cli.targets import targets_around
from poeflow.operations.check import Checkup, checkups
from poeflow.operations.revisions.since import flows_reading, flows_since
from poeflow.project.private_files import Access

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
