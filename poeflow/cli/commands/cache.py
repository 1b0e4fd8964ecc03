"""`poeflow cache`: why a stored answer is used or not, and making the store smaller."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from poeflow.cli.completing import FLOWS, INSTANCES
from poeflow.cli.output import print_lines
from poeflow.cli.private_files_options import (
    access_of,
    allow_file_option,
    say_warning,
    trust_state_option,
    trusts_state,
)
from poeflow.cli.run_arguments import trusted_workspace
from poeflow.cli.targets import instance_among, target_of
from poeflow.clock import seconds
from poeflow.errors import UsageError
from poeflow.operations.check import checkup
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import facts_of, stored_requests
from poeflow.project.project import Project
from poeflow.redact import visible
from poeflow.report.difference import explained
from poeflow.store.cache import prune_cache

EXPLAIN: Final = """\b
Examples:
  poeflow cache explain flows/notes.yaml draft
  poeflow cache explain flows/notes.yaml translate@German
"""
PRUNE: Final = """\b
Examples:
  poeflow cache prune --older 90d
  poeflow cache prune --max-size 500 --unreferenced
"""


@click.group()
def cache() -> None:
    """Look into the store of answers, and make it smaller."""


@cache.command(epilog=EXPLAIN)
@click.argument("flow", type=click.Path(path_type=Path), shell_complete=FLOWS)
@click.argument("instance", metavar="STEP[@KEY]", shell_complete=INSTANCES)
@trust_state_option
@allow_file_option
def explain(flow: Path, instance: str, allow_files: tuple[Path, ...]) -> None:
    """Say why an instance's stored answer is used or not.

    What it would send now is compared with what the last run sent.
    """
    target = target_of(flow, access_of(allow_files))
    found = checkup(target.project, target.path, target.shown)
    options = RunOptions(environ=os.environ, listen=say_warning, trust_state=trusts_state())
    facts = {fact.id: fact for fact in facts_of(found, options)}
    name = instance_among(instance, facts)
    fact = facts[name]
    before = stored_requests(found, options).get(name)
    print_lines(((visible(line), ""),) for line in explained(fact, before).split("\n"))


@cache.command(epilog=PRUNE)
@click.option("--older", metavar="DURATION", help="Drop what was stored longer ago: 30d, 12h.")
@click.option("--max-size", metavar="MB", type=click.FloatRange(0), help="Keep the newest, to MB.")
@click.option("--unreferenced", is_flag=True, help="Drop what no lock of the project mentions.")
@trust_state_option
def prune(older: str | None, max_size: float | None, *, unreferenced: bool) -> None:
    """Drop stored answers; a run asks again for what it then misses."""
    if older is None and max_size is None and not unreferenced:
        raise UsageError("nothing to prune by", hint="give --older, --max-size or --unreferenced")
    project = Project.find(Path.cwd())
    workspace = trusted_workspace(project)
    with workspace.hold():
        count, size = prune_cache(
            workspace.cache_folder,
            older=None if older is None else _seconds(older),
            max_bytes=None if max_size is None else int(max_size * 1_000_000),
            locks=_locks(project.root) if unreferenced else None,
        )
    click.echo(f"dropped {count} entries, {size / 1_000_000:.1f} MB", err=True)


def _locks(root: Path) -> Iterator[Path]:
    """Yield the locks of a project, and links named like one, which nobody can rely on."""
    return (one for one in root.rglob("*.lock.json") if one.is_symlink() or one.is_file())


def _seconds(written: str) -> float:
    if written.endswith("d") and written[:-1].isdigit():
        return int(written[:-1]) * 86_400
    try:
        return seconds(written)
    except ValueError:
        raise UsageError(f"{written} is no duration", hint="for example 30d or 12h") from None
