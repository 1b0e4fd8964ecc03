"""What a command line says of keys and private files.

The keys it learns of are told to the one place where errors are shown, so that they are masked.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from poeflow.cli.argument_values import environment
from poeflow.errors import UsageError
from poeflow.events import Event, Warned
from poeflow.project.private_files import Access
from poeflow.redact import Scrubber, Secret, visible
from poeflow.report.github_commands import inert
from poeflow.settings import key_variables, known_keys

_TRUSTS: Final = "poeflow.trust_state"
allow_file_option: Final = click.option(
    "--allow-file",
    "allow_files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Let flows read this dot file or key file, or what is in this dot folder.",
)
env_file_option: Final = click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File that holds POE_API_KEY, or the keys of your providers.",
)


def _note_trust(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click hands it so
    ctx.meta[_TRUSTS] = value


trust_state_option: Final = click.option(
    "--trust-state",
    is_flag=True,
    expose_value=False,
    callback=_note_trust,
    help="Use what is in .poeflow although git tracks it.",
)


def trusts_state() -> bool:
    """Whether this command uses state that git tracks."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_TRUSTS))


def access_of(allow_files: Sequence[Path], env_file: Path | None = None) -> Access:
    """Return which private files flows may read. Raises `UsageError` where one is not there."""
    for path in allow_files:
        if not path.exists():
            raise UsageError(f"--allow-file {path}: no such file", hint="check the path")
    access = Access().allowing(*allow_files)
    return access if env_file is None else access.withholding(env_file.absolute())


def environment_with(env_file: Path | None) -> Mapping[str, str]:
    """Return the environment with the keys that `env_file` holds. Raises `UsageError`."""
    environ = environment(os.environ, env_file, key_variables(os.environ))
    mask(known_keys(environ))
    return environ


def mask(keys: Sequence[Secret]) -> None:
    """Have `keys` masked in whatever error ends the command."""
    context = click.get_current_context(silent=True)
    if context is not None and isinstance(context.obj, list):
        context.obj.extend(keys)


def say(text: str) -> None:
    """Write to stderr without keys, and so that it steers no terminal and commands no runner."""
    click.echo(inert(visible(without_keys()(text))), err=True)


def say_warning(event: Event) -> None:
    """Show a warning of a command that is about no run: to stderr, without keys."""
    if isinstance(event, Warned):
        say(f"warning: {event.message}")


def without_keys() -> Callable[[str], str]:
    """Return what masks the keys this command knows of in a text."""
    context = click.get_current_context(silent=True)
    learnt = context.obj if context is not None and isinstance(context.obj, list) else []
    return Scrubber(*learnt, *known_keys(os.environ)).scrub
