"""Options for keys, private files and the state; the keys that a command learns are masked."""

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from poeflow.errors import UsageError
from poeflow.events import Event, Listener
from poeflow.opener import NotTextError, read_named, text_of
from poeflow.project.private_files import Access
from poeflow.redact import Scrubber, Secret
from poeflow.report.listeners import TolerantListener, scrubbed
from poeflow.settings import (
    BASE_URL_VARIABLE,
    KEY_VARIABLE,
    key_variables,
    known_keys,
    secret_variables,
)

MAX_ENV_BYTES: Final = 1024 * 1024
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
    help="File that holds POE_API_KEY, the keys of your providers, or secret inputs.",
)


def _note_trust(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click passes it so
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
    """Return which private files flows may read. Raises `UsageError` if one does not exist."""
    for path in allow_files:
        if not path.exists():
            raise UsageError(f"--allow-file {path}: no such file", hint="check the path")
    access = Access().allowing(*allow_files)
    return access if env_file is None else access.withholding(env_file.absolute())


def environment_with(env_file: Path | None) -> Mapping[str, str]:
    """Return the environment with the keys in `env_file`, which are masked. Raises `UsageError`."""
    environ = _with_env_file(os.environ, env_file, key_variables(os.environ))
    mask(known_keys(environ))
    return environ


def mask(keys: Sequence[Secret]) -> None:
    """Mask `keys` in the message of an error that ends the command."""
    context = click.get_current_context(silent=True)
    if context is not None and isinstance(context.obj, list):
        context.obj.extend(keys)


def without_keys() -> Callable[[str], str]:
    """Return a function that masks the known keys in a text."""
    context = click.get_current_context(silent=True)
    learnt = context.obj if context is not None and isinstance(context.obj, list) else []
    return Scrubber(*learnt, *known_keys(os.environ)).scrub


def _with_env_file(
    base: Mapping[str, str], env_file: Path | None, variables: Iterable[str] = (KEY_VARIABLE,)
) -> Mapping[str, str]:
    """Return `base` with the keys in `env_file`, and nothing else of it.

    `variables` are those that hold keys. Raises `UsageError`, also if the file sets the server
    that keys are sent to.
    """
    if env_file is None:
        return base
    from dotenv import dotenv_values

    values = dotenv_values(stream=io.StringIO(_env_text(env_file)), interpolate=False)
    if BASE_URL_VARIABLE in values:
        raise UsageError(
            f"{env_file} sets {BASE_URL_VARIABLE}", hint="set it in the environment itself"
        )
    wanted = (*variables, *secret_variables(dict.fromkeys(values, "")))
    return {**base, **{name: key for name in wanted if (key := values.get(name))}}


def _env_text(path: Path) -> str:
    """Return the text of a file of keys, or of a pipe. Raises `UsageError`."""
    try:
        return text_of(read_named(path, limit=MAX_ENV_BYTES))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", hint=f"it holds {KEY_VARIABLE}=...") from None
    except NotTextError:
        raise UsageError(f"{path} is not UTF-8 text", hint=f"it holds {KEY_VARIABLE}=...") from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        hint = f"name a file that holds {KEY_VARIABLE}=..."
        raise UsageError(f"{path}: {reason}", hint=hint) from None


def without_secrets(
    shown: Listener, also: Iterable[Listener], environ: Mapping[str, str]
) -> Listener:
    """Return a listener that passes events to `shown` and `also`, with the known keys masked.

    That one of `also` cannot write stops neither the run nor the others.
    """
    listeners: tuple[Listener, ...] = (shown, *(TolerantListener(listen) for listen in also))

    def pass_on(event: Event) -> None:
        for listen in listeners:
            listen(event)

    all_of_them = pass_on if len(listeners) > 1 else shown
    return scrubbed(all_of_them, Scrubber(*known_keys(environ)))
