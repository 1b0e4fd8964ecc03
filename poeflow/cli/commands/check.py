"""`poeflow check`: find every mistake in flows, without running them."""

import json
import os
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, Literal

import click
import msgspec

from poeflow.cli.ci import CiReports
from poeflow.cli.completing import FLOWS
from poeflow.cli.output import paint
from poeflow.cli.private_files_options import access_of, allow_file_option, without_keys
from poeflow.cli.targets import targets
from poeflow.digest import sha256_of
from poeflow.flowfile.limit_problems import is_word_of_more
from poeflow.opener import NotTextError, text_of
from poeflow.operations.check import Checkup, checkups
from poeflow.problems import Problem, errors_only
from poeflow.project.project import MAX_TEXT_BYTES, FileProblem, Project
from poeflow.report.github_commands import inert_json
from poeflow.report.problem_lines import in_color, listing
from poeflow.report.terminal.text import marks_for

EPILOG: Final = """\b
Examples:
  poeflow check
  poeflow check flows/notes.yaml --strict
  poeflow check flows --output github --junit junit.xml
"""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, metavar="[FLOW|FOLDER|GLOB]...", shell_complete=FLOWS)
@click.option(
    "--output",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="github: text, with annotations and a job summary.",
)
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write a JUnit report."
)
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@allow_file_option
@click.pass_context
def check(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    *,
    output: Literal["text", "json", "github"],
    junit: Path | None,
    strict: bool,
    allow_files: tuple[Path, ...],
) -> None:
    """Find every mistake in flows, without running them.

    Needs no key and no network, runs no code and renders nothing: safe on flows from strangers.
    Without a path, all flows below the current folder are checked.
    """
    flows = targets(paths or ["."], access_of(allow_files))
    problems: list[Problem] = []
    checks = checkups((target.project, target.path, target.shown) for target in flows)
    with CiReports(output, junit, os.environ) as ci:
        for result in checks:
            problems += [one for one in result.problems if one not in problems]
            ci.tell(result, is_all=True)
    failing = tuple(problems) if strict else errors_only(tuple(problems))
    if output == "json":
        click.echo(inert_json(without_keys()(json.dumps(msgspec.to_builtins(problems)))))
    else:
        show(problems, checks)
        style = "red" if failing else "green"
        paint([((_sum(len(flows), failing), style),)], sys.stderr)
    ctx.exit(3 if failing else 0)


def show(problems: Collection[Problem], found: Iterable[Checkup]) -> None:
    """Write problems to stderr: with the source line and a caret on a terminal."""
    if sys.stderr.isatty():
        marks, excerpts = marks_for(sys.stderr), _Excerpts(found)
        for problem in problems:
            paint(in_color(problem, excerpts.text(problem.place.path), marks), sys.stderr)
    elif problems:
        click.echo(without_keys()(listing(problems)), err=True)


def _sum(flows: int, failing: tuple[Problem, ...]) -> str:
    """Say how many flows were checked, and with what result."""
    told = f"{flows} flow{'s' * (flows != 1)}"
    count = sum(not is_word_of_more(problem) for problem in failing)
    number = f"{count}" if count == len(failing) else f"over {count}"
    said = f"{number} problem{'s' * (count != 1)} in {told}" if failing else f"{told} ok"
    if not sys.stderr.isatty():
        return said
    mark, _ = marks_for(sys.stderr).of("failed" if failing else "done")
    return f"{mark} {said}"


class _Excerpts:
    """Texts of the files that problems are in, by their paths as shown.

    A file that was refused, or is another one by now, has none.
    """

    def __init__(self, found: Iterable[Checkup]) -> None:
        those = tuple(found)
        self._projects = [one.project for one in those]
        self._texts = {one.loaded.document.path: one.loaded.document.text for one in those}

    def text(self, shown: str) -> str:
        """Return the text of a file, empty where there is none to show."""
        if shown not in self._texts:
            found = (_as_read(project, shown) for project in self._projects)
            self._texts[shown] = next(filter(None, found), "")
        return self._texts[shown]


def _as_read(project: Project, shown: str) -> str:
    """Return a text that a project's log says was read, where it still is the same."""
    path = Path(shown).parent.resolve() / Path(shown).name
    snapshot = project.log.files.get(path) if project.log is not None else None
    if snapshot is None or not snapshot.digest or not path.is_relative_to(project.root):
        return ""
    canonical = "//" + path.relative_to(project.root).as_posix()
    try:
        data = project.peek(canonical, limit=MAX_TEXT_BYTES)
        return text_of(data) if sha256_of(data) == snapshot.digest else ""
    except (FileProblem, NotTextError):
        return ""
