"""`poeflow init`: write a first flow, let git merge locks, and set up GitHub's CI."""

import os
from pathlib import Path
from typing import Final

import click

from poeflow.errors import UsageError
from poeflow.flowfile.yaml_messages import core_value
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import read_plain
from poeflow.operations.editors.new_flow import schema_for, write_new
from poeflow.project.project import (
    Project,
    action_folder,
    atomic_write,
    make_folder,
    packaged,
)
from poeflow.store.git import Git

FLOW: Final = """\
# yaml-language-server: $schema={schema}
poeflow: 1
description: {name}

inputs:
  topic:
    type: string
    default: sea otters

steps:
  facts:
    model: Claude-Sonnet-4.5
    prompt: |
      Name three surprising facts about {{{{ inputs.topic }}}}.

  page:
    model: Claude-Sonnet-4.5
    prompt: |
      Turn these facts into a short page for children.

      {{{{ steps.facts.text }}}}
    output: {{save: out/{name}.md}}

outputs:
  page: "{{{{ steps.page.text }}}}"
"""
_WORD: Final = lazy_pattern(r"\w[\w.-]*")


EPILOG: Final = """\b
Examples:
  poeflow init
  poeflow init flows/notes.yaml
  poeflow init --git
  poeflow init --github
"""
ATTRIBUTES: Final = ".gitattributes"
_LINE: Final = "*.lock.json merge=poeflow"
_SETTINGS: Final = {
    "merge.poeflow.name": "takes the entries of both sides of a lock",
    "merge.poeflow.driver": "poeflow lock merge %O %A %B %P",
}
_MAX_ATTRIBUTES: Final = 1024 * 1024
_ACTION: Final = Path(".github/actions/poeflow")
_GITHUB_FILES: Final = {
    "action.yml": _ACTION / "action.yml",
    "action.py": _ACTION / "action.py",
    "workflow.yml": Path(".github/workflows/poeflow.yml"),
}


@click.command(epilog=EPILOG)
@click.argument("path", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--git", "is_git", is_flag=True, help="Let git merge locks by poeflow.")
@click.option("--github", "is_github", is_flag=True, help="Write a workflow for GitHub's CI.")
def init(path: Path | None, *, is_git: bool, is_github: bool) -> None:
    """Write a first flow to PATH (flow.yaml), and the JSON Schema that editors check it by.

    The schema is one for the whole project, at its root.

    With --git the configuration of the repository and .gitattributes tell git to merge locks by
    `poeflow lock merge`. With --github there are a workflow and its action: they check flows,
    comment on pull requests, prove that outputs are current, and run the flows every week. With
    either, a flow is written only to a PATH that is given.

    Nothing that exists is overwritten.
    """
    root = Project.find(Path.cwd()).root
    if path is not None or not (is_git or is_github):
        _write_flow(path or Path("flow.yaml"))
    if is_git:
        _set_up_git(root)
    if is_github:
        _write_workflow(root)


def _write_flow(path: Path) -> None:
    text = FLOW.format(name=_name(path.stem), schema=schema_for(path))
    write_new(path, text)
    click.echo(f"wrote {path}")
    click.echo(f"try: poeflow run {path} --offline", err=True)


def _set_up_git(root: Path) -> None:
    """Let git merge the locks of the project at `root`, and say what was done for that."""
    git = Git.find(root, os.environ)
    if git is None:
        raise UsageError("the project is in no repository of git", hint="run `git init` first")
    attributes = root / ATTRIBUTES
    try:
        text = read_plain(attributes, limit=_MAX_ATTRIBUTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        text = ""
    except OSError as error:
        message = f"{ATTRIBUTES} cannot be read: {(error.strerror or 'unknown').lower()}"
        raise UsageError(message, hint=f"add this line to it: {_LINE}") from None
    if not git.configure(_SETTINGS):
        settings = " and ".join(f"`git config {name} '{to}'`" for name, to in _SETTINGS.items())
        raise UsageError("git did not take the settings", hint=settings)
    for name, value in _SETTINGS.items():
        click.echo(f"git config {name}: {value}")
    if _LINE in text.splitlines():
        click.echo(f"{ATTRIBUTES} has the line already: {_LINE}")
        return
    between = "\n" if text and not text.endswith("\n") else ""
    whole = f"{text}{between}{_LINE}\n"
    atomic_write(attributes, whole.encode("utf-8", "surrogateescape"))
    click.echo(f"added to {ATTRIBUTES}: {_LINE}")
    hint = "commit it; whoever clones the repository runs `poeflow init --git` once, too"
    click.echo(f"{ATTRIBUTES}: {hint}", err=True)


def _write_workflow(root: Path) -> None:
    """Write the workflow and the action that it uses, all or nothing."""
    there = [str(to) for to in _GITHUB_FILES.values() if (root / to).exists()]
    if there:
        message = f"{there[0]} is there already"
        raise UsageError(message, hint="move it away, or change it by hand")
    for name, to in _GITHUB_FILES.items():
        for folder in reversed(to.parents[:-1]):
            make_folder(root / folder)
        atomic_write(root / to, packaged(action_folder() / name))
        click.echo(f"wrote {to}")
    click.echo("commit them, and give the repository the secret POE_API_KEY", err=True)


def _name(stem: str) -> str:
    """Return a name for the flow: that of the file, if it is a plain word in YAML."""
    return stem if _WORD.fullmatch(stem) and core_value(stem) == stem else "page"
