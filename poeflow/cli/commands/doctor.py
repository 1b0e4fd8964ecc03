"""`poeflow doctor`: examine this machine and project, a line for each finding."""

from pathlib import Path
from typing import Final, Literal

import click

from poeflow.cli.output import print_json, print_lines
from poeflow.cli.private_files_options import env_file_option, environment_with
from poeflow.clock import SystemClock
from poeflow.operations.machine.examination import Diagnosis, DiagnosisLevel, examine
from poeflow.operations.machine.server_examination import ask_server
from poeflow.project.project import Project
from poeflow.redact import visible
from poeflow.report.terminal.text import Line

EPILOG: Final = """\b
Examples:
  poeflow doctor
  poeflow doctor --online --env-file .env
  poeflow doctor --output json | jq '.findings[] | select(.level != "ok")'
"""
_STYLES: Final[dict[DiagnosisLevel, str]] = {
    "ok": "green",
    "warning": "yellow",
    "fault": "bold red",
}
_WIDTH: Final = max(map(len, _STYLES))
_NAMES: Final = len("configuration")


@click.command(epilog=EPILOG)
@click.option(
    "--online", is_flag=True, help="Also ask the server: does it answer, its clock, the balance."
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@env_file_option
def doctor(*, online: bool, output: Literal["text", "json"], env_file: Path | None) -> int:
    """Examine what runs need: versions, configuration, key, state folder, locks, proxy, git.

    A line begins with ok, warning or fault. With a fault, which keeps runs from working, the exit
    code is 1. Nothing is written, and nothing is sent without --online, which costs nothing.
    """
    environ, clock = environment_with(env_file), SystemClock()
    findings = list(examine(Project.find(Path.cwd()), environ, clock))
    if online:
        findings += ask_server(environ, clock)
    has_fault = any(one.level == "fault" for one in findings)
    if output == "json":
        print_json({"ok": not has_fault, "findings": findings})
    else:
        print_lines(line for one in findings for line in _lines(one))
    return int(has_fault)


def _lines(one: Diagnosis) -> list[Line]:
    level = (f"{one.level:<{_WIDTH}}", _STYLES[one.level])
    text = f"  {one.name:<{_NAMES}}  {visible(one.text)}"
    lines: list[Line] = [(level, (text, ""))]
    if one.hint:
        lines.append(((f"{'':{_WIDTH + _NAMES + 4}}{visible(one.hint)}", "dim"),))
    return lines
