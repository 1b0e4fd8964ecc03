"""`poeflow why`: show which flows and steps read a file, where and why."""

import os
from pathlib import Path
from typing import Final, Literal

import click

from poeflow.cli.completing import FLOWS
from poeflow.cli.output import print_json, print_lines
from poeflow.cli.private_files_options import access_of, allow_file_option, say
from poeflow.cli.targets import FlowTarget, flow_targets
from poeflow.operations.check import checkup
from poeflow.operations.revisions.flow_locks import reads_by_locks
from poeflow.operations.revisions.flow_reads import FileRead
from poeflow.report.terminal.text import UNICODE, Line

EPILOG: Final = """\b
Examples:
  poeflow why flows/parts/tone.md
  poeflow why data/log.csv flows/notes.yaml
  poeflow why logo.png --output json
"""


@click.command(epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("flows", nargs=-1, metavar="[FLOW|FOLDER|GLOB]...", shell_complete=FLOWS)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@allow_file_option
def why(
    file: Path,
    flows: tuple[str, ...],
    *,
    output: Literal["text", "json"],
    allow_files: tuple[Path, ...],
) -> None:
    """Show which flows and steps read FILE, where and why; it need not exist.

    Templates, partials, data, attachments, inputs files, schemas, tools and used flows count, also
    through includes, patterns, and what the last run read. Without a flow, all flows below this
    folder are looked at. Nothing is sent, run or rendered.
    """
    targets = flow_targets(flows or (".",), access_of(allow_files))
    wanted = Path(os.path.normpath(Path.cwd() / file))
    found = [(target, read) for target in targets for read in _reading(target, wanted)]
    if output == "json":
        print_json([_as_data(target, read) for target, read in found])
        return
    print_lines(_line(read) for _, read in found)
    if not found:
        many = f"{len(targets)} flow{'s' * (len(targets) != 1)}"
        say(f"no flow reads {file}; {many} looked at")


def _reading(target: FlowTarget, wanted: Path) -> list[FileRead]:
    """Return what of a flow reads a file."""
    root = target.project.root
    real = wanted.parent.resolve() / wanted.name
    if not real.is_relative_to(root):
        return []
    canonical = f"//{real.relative_to(root).as_posix()}"
    found = checkup(target.project, target.path, target.shown)
    return [read for read in reads_by_locks(found) if read.is_of(canonical)]


def _as_data(target: FlowTarget, read: FileRead) -> dict[str, object]:
    return {
        "flow": target.shown,
        "step": read.step or None,
        "why": read.why,
        "pattern": read.path[2:] if read.is_pattern else None,
        "through": [path[2:] for path in read.through],
        "path": read.place.path,
        "line": read.place.line,
        "column": read.place.column,
    }


def _line(read: FileRead) -> Line:
    """Return a read as a line: its place, the step, the key, and what lies between."""
    who = f"step {read.step}" if read.step else "the whole flow"
    words = f"{who}: {read.why}"
    if read.is_pattern:
        words += f", by the pattern {read.path[2:]}"
    if read.through:
        words += f", through {', '.join(path[2:] for path in read.through)}"
    return ((UNICODE.shown(str(read.place)), "bold"), (UNICODE.shown(f": {words}"), ""))
