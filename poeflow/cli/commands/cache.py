"""`poeflow cache`: explain, export, import and prune stored answers."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import click

from poeflow.cli.click_options import Amount, duration_of
from poeflow.cli.completing import FLOWS, INSTANCES
from poeflow.cli.output import print_lines, say_warning, warn
from poeflow.cli.private_files_options import (
    access_of,
    allow_file_option,
    trust_state_option,
    trusts_state,
)
from poeflow.cli.run_arguments import trusted_workspace
from poeflow.cli.targets import flow_target, instance_among
from poeflow.clock import SystemClock
from poeflow.errors import DiskError, UsageError
from poeflow.operations.check import checkup
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import statuses_of, stored_requests
from poeflow.project.project import Project
from poeflow.redact import Scrubber, visible
from poeflow.report.difference import explained
from poeflow.settings import known_keys
from poeflow.store.cache import prune_cache
from poeflow.store.contents import Pruning
from poeflow.store.transfer import export_answers, import_answers

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
EXPORT: Final = """\b
Examples:
  poeflow cache export answers.jsonl
  poeflow cache export - | gzip > answers.jsonl.gz
"""
IMPORT: Final = """\b
Examples:
  poeflow cache import answers.jsonl
  gunzip -c answers.jsonl.gz | poeflow cache import -
"""


@click.group()
def cache() -> None:
    """Explain, export, import or prune stored answers."""


@cache.command(epilog=EXPLAIN)
@click.argument("flow", type=click.Path(path_type=Path), shell_complete=FLOWS)
@click.argument("instance", metavar="STEP[@KEY]", shell_complete=INSTANCES)
@trust_state_option
@allow_file_option
def explain(flow: Path, instance: str, allow_files: tuple[Path, ...]) -> None:
    """Explain why an instance's stored answer is used or not.

    Compares the request that it would send now with the one of the last run.
    """
    found = checkup(*flow_target(flow, access_of(allow_files)))
    options = RunOptions(environ=os.environ, listen=say_warning, trust_state=trusts_state())
    statuses = {status.id: status for status in statuses_of(found, options)}
    name = instance_among(instance, statuses)
    status = statuses[name]
    before = stored_requests(found, options).get(name)
    print_lines(((visible(line), ""),) for line in explained(status, before).split("\n"))


@cache.command(epilog=PRUNE)
@click.option("--older", metavar="DURATION", help="Drop what was stored longer ago: 30d, 12h.")
@click.option("--max-size", metavar="MB", type=Amount(0), help="Keep the newest, to MB.")
@click.option("--unreferenced", is_flag=True, help="Drop what no lock of the project mentions.")
@trust_state_option
def prune(older: str | None, max_size: float | None, *, unreferenced: bool) -> None:
    """Delete stored answers; a run that needs one of them sends its request again."""
    if older is None and max_size is None and not unreferenced:
        raise UsageError("nothing to prune by", hint="give --older, --max-size or --unreferenced")
    project = Project.find(Path.cwd())
    workspace = trusted_workspace(project)
    wanted = Pruning(
        before=None if older is None else SystemClock().now() - duration_of(older, "--older"),
        max_bytes=None if max_size is None else int(max_size * 1_000_000),
        locks=tuple(_locks(project.root)) if unreferenced else None,
    )
    with workspace.hold(warn=warn):
        workspace.store.close()
        count, size = prune_cache(
            workspace.store.path, workspace.cache_folder / "media", wanted, warn
        )
    click.echo(f"dropped {count} entries, {size / 1_000_000:.1f} MB", err=True)


@cache.command(name="export", epilog=EXPORT)
@click.argument("file", type=click.File("wb", atomic=True))
@trust_state_option
def export(file: BinaryIO) -> None:
    """Write stored answers to FILE, as JSON Lines; - is standard output.

    Keys of your environment are masked. Media are left out, and answers of `--offline` runs.
    """
    workspace = trusted_workspace(Project.find(Path.cwd()))
    with workspace.hold(warn=warn):
        answers = workspace.answers(on_corrupt=warn)
        count = export_answers(answers, file, Scrubber(*known_keys(os.environ)))
    left_out = "" if count else "; those of --offline runs are left out"
    click.echo(f"exported {count:,} answers{left_out}", err=True)


@cache.command(name="import", epilog=IMPORT)
@click.argument("file", type=click.File("rb"))
@trust_state_option
def import_(file: BinaryIO) -> None:
    """Store answers from FILE, as `cache export` writes them; - is standard input.

    Each is checked by its hashes. An answer that is stored already stays. Runs use what you import:
    take it from people you trust.
    """
    workspace = trusted_workspace(Project.find(Path.cwd()))
    with workspace.hold(warn=warn):
        answers = workspace.answers(on_corrupt=warn)
        scrubber = Scrubber(*known_keys(os.environ))
        found = import_answers(answers, workspace.store, file, scrubber, name=file.name)
    click.echo(f"imported {found.added:,} answers, {found.known:,} were stored before", err=True)


def _locks(root: Path) -> Iterator[Path]:
    """Yield the lock files of a project, and links that are named like one.

    Raises `DiskError` if a folder cannot be read: answers of its locks would be lost.
    """

    def fail(error: OSError) -> None:
        reason = (error.strerror or "cannot be read").lower()
        raise DiskError(f"{error.filename}: {reason}", hint="its locks may mention answers")

    for folder, folders, files in os.walk(root, onerror=fail):
        for name in (*folders, *files):
            one = Path(folder, name)
            if name.endswith(".lock.json") and (one.is_symlink() or one.is_file()):
                yield one
