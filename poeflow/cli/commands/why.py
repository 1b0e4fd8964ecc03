"""`poeflow why`: show which flows and steps read a file, where and why."""

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import click

from poeflow.cli.completing import FLOWS
from poeflow.cli.output import print_json, print_lines, say
from poeflow.cli.private_files_options import access_of, allow_file_option
from poeflow.cli.targets import FlowTarget, flow_targets
from poeflow.flowfile.patterns import nearest
from poeflow.operations.check import checkup
from poeflow.operations.revisions.flow_reads import FileRead
from poeflow.operations.revisions.since import reads_by_locks
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
    known = [(target, read) for target in targets for read in reads_by_locks(checkup(*target))]
    found = [(target, read) for target, read in known if _is_of(target, read, wanted)]
    if output == "json":
        print_json([_as_data(target, read) for target, read in found])
        return
    print_lines(_line(read) for _, read in found)
    if not found:
        many = f"{len(targets)} flow{'s' * (len(targets) != 1)}"
        if os.path.lexists(wanted):
            say(f"no flow reads {file}; {many} looked at")
            return
        near = _near(file, {_shown(target, read) for target, read in known if not read.is_pattern})
        hint = f"; {near}" if near else ""
        say(f"{file} does not exist, and no flow reads it; {many} looked at{hint}")


def _is_of(target: FlowTarget, read: FileRead, wanted: Path) -> bool:
    """Return whether a flow's read is of a file."""
    root = target.project.root
    real = wanted.parent.resolve() / wanted.name
    return real.is_relative_to(root) and read.is_of(f"//{real.relative_to(root).as_posix()}")


def _shown(target: FlowTarget, read: FileRead) -> str:
    return target.project.shown(read.path, Path.cwd())


def _near(file: Path, read: Collection[str]) -> str:
    """Return a hint with a file that is read: one of the same name elsewhere, or a similar one."""
    known = sorted(read)
    alike = next((one for one in known if PurePosixPath(one).name == file.name), None)
    if alike is None:
        bare = {str(PurePosixPath(one).with_suffix("")): one for one in known}
        alike = bare.get(nearest(str(file.with_suffix("")), bare) or "")
    return f'did you mean "{alike}"?' if alike is not None else ""


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
