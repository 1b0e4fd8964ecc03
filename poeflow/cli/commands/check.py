"""`poeflow check`: find every mistake in flows, without running them."""

import json
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from poeflow.cli.changed_flows import only_changed, only_reading, reading_option, since_option
from poeflow.cli.ci import CiReports
from poeflow.cli.click_options import junit_option
from poeflow.cli.completing import FLOWS
from poeflow.cli.output import paint, print_document
from poeflow.cli.private_files_options import access_of, allow_file_option
from poeflow.cli.problem_output import show_problems
from poeflow.cli.targets import flow_targets
from poeflow.errors import InvalidFlowError
from poeflow.operations.check import checkups
from poeflow.problems import Problem, errors_only, is_more_notice
from poeflow.report.problem_formats import DOCUMENTS
from poeflow.report.terminal.text import marks_for

EPILOG: Final = """\b
Examples:
  poeflow check
  poeflow check flows/notes.yaml --strict
  poeflow check --since origin/main
  poeflow check --reading prompts/tone.md data/log.csv
  poeflow check flows --output github --junit junit.xml
  poeflow check flows --output sarif > poeflow.sarif
"""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, metavar="[FLOW|FOLDER|GLOB]...", shell_complete=FLOWS)
@click.option(
    "--output",
    type=click.Choice(["text", "json", "github", *DOCUMENTS]),
    default="text",
    metavar="FORMAT",
    help="text (default); json; github: text, with annotations and a job summary; sarif: SARIF"
    " 2.1.0; gitlab: a code quality report.",
)
@junit_option
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@since_option
@reading_option
@allow_file_option
@click.pass_context
def check(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    *,
    output: str,
    junit: Path | None,
    strict: bool,
    since: str | None,
    reading: bool,
    allow_files: tuple[Path, ...],
) -> None:
    """Find every mistake in flows, without running them.

    Needs no key and no network, runs no code and renders nothing: safe on flows from strangers.
    Without a path, all flows below the current folder are checked.
    """
    access = access_of(allow_files)
    if reading:
        found = only_reading(paths, access)
    else:
        found = checkups(flow_targets(paths or ["."], access))
    checks = only_changed(found, since)
    with CiReports(output, junit) as ci:
        for result in checks:
            ci.report_problems(result, is_all=True)
        problems = [*dict.fromkeys(one for result in checks for one in result.problems)]
        placed = [ci.from_root(problem) for problem in problems]
    failing = tuple(problems) if strict else errors_only(tuple(problems))
    if output == "json":
        print_document(json.dumps(msgspec.to_builtins(problems)))
    elif output in DOCUMENTS:
        print_document(DOCUMENTS[output](placed))
    else:
        show_problems(problems, checks)
        style = "red" if failing else "green"
        paint([((_sum(len(checks), failing), style),)], sys.stderr)
    ctx.exit(InvalidFlowError.exit_code if failing else 0)


def _sum(flows: int, failing: tuple[Problem, ...]) -> str:
    """Print how many flows were checked, and the result."""
    checked = f"{flows} flow{'s' * (flows != 1)}"
    count = sum(not is_more_notice(problem) for problem in failing)
    number = f"{count}" if count == len(failing) else f"over {count}"
    text = f"{number} problem{'s' * (count != 1)} in {checked}" if failing else f"{checked} ok"
    if not sys.stderr.isatty():
        return text
    mark, _ = marks_for(sys.stderr).of("failed" if failing else "done")
    return f"{mark} {text}"
