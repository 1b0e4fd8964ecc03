"""`poeflow completion`: print the script that makes a shell complete, or set a shell up for it.

Of the user's files only a marked block, or a file of poeflow's own, is changed.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import click
import msgspec
from click.shell_completion import get_completion_class

from poeflow.errors import UsageError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import read_followed, really
from poeflow.project.project import atomic_write

ShellName = Literal["bash", "zsh", "fish"]
SHELLS: Final[tuple[ShellName, ...]] = ("bash", "zsh", "fish")
_BEGIN: Final = "# >>> poeflow completion >>>"
_END: Final = "# <<< poeflow completion <<<"
_NOTE: Final = "# Written by `poeflow completion --install`, removed by --uninstall."
_BLOCK: Final = lazy_pattern(
    rf"^{re.escape(_BEGIN)}\n(?:(?!{re.escape(_BEGIN)}).*\n)*?{re.escape(_END)}(?:\n|\Z)",
    re.MULTILINE,
)
_EVAL: Final = 'if command -v poeflow >/dev/null; then eval "$(poeflow completion {shell})"; fi'
_FISH: Final = "command -q poeflow; and poeflow completion fish | source"
_MOST: Final = 4 * 1024 * 1024
EPILOG: Final = """\b
Examples:
  poeflow completion --install            # for the shell in $SHELL: ~/.bashrc, ~/.zshrc, or a
                                          # file in ~/.config/fish/completions
  poeflow completion --uninstall zsh
\b
Or put one of these where your shell starts:
  eval "$(poeflow completion bash)"       # ~/.bashrc
  eval "$(poeflow completion zsh)"        # ~/.zshrc
  poeflow completion fish | source        # ~/.config/fish/config.fish
"""


class StartFile(msgspec.Struct, frozen=True):
    """The file that a shell reads when it starts; `is_own` if all of it is poeflow's."""

    path: Path
    is_own: bool
    lines: tuple[str, ...]


@click.command(epilog=EPILOG)
@click.argument("shell", required=False, metavar=f"[{'|'.join(SHELLS)}]", type=click.Choice(SHELLS))
@click.option("--install", is_flag=True, help="Set SHELL up for it.")
@click.option("--uninstall", is_flag=True, help="Undo --install.")
@click.pass_context
def completion(
    ctx: click.Context, shell: ShellName | None, *, install: bool, uninstall: bool
) -> None:
    """Make SHELL complete commands, flows, steps, inputs, runs and bots: print the script for it.

    With --install, a marked block in the file that SHELL reads when it starts is written, or for
    fish a file of its own; nothing else is changed, and what was done is shown.
    """
    if install and uninstall:
        raise UsageError("--install and --uninstall are two things", hint="give one of them")
    if not install and not uninstall:
        click.echo(_script(ctx, shell))
        return
    file = start_file(shell or _users_shell(os.environ), os.environ)
    if install:
        _install(file)
    else:
        _uninstall(file)


def _script(ctx: click.Context, shell: ShellName | None) -> str:
    if shell is None:
        hint = f"poeflow completion {SHELLS[0]}, or --install"
        raise UsageError(f"name a shell: {', '.join(SHELLS)}", hint=hint)
    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(f"{shell} is not registered")
    return found(ctx.find_root().command, {}, "poeflow", "_POEFLOW_COMPLETE").source()


def _users_shell(environ: Mapping[str, str]) -> ShellName:
    """Return the shell in `SHELL`. Raises `UsageError`."""
    name = Path(environ.get("SHELL", "")).name
    for shell in SHELLS:
        if name == shell:
            return shell
    was = f"SHELL is {name}, which has no completion" if name else "SHELL is not set"
    raise UsageError(was, hint=f"name one: poeflow completion --install {SHELLS[0]}")


def start_file(shell: ShellName, environ: Mapping[str, str]) -> StartFile:
    """Return the file that `shell` reads when it starts, and the lines for it.

    Raises `UsageError` if the user has no home.
    """
    home = environ.get("HOME", "").strip()
    if not home:
        raise UsageError("HOME is not set", hint="set it, so that the shell's file is known")
    if shell == "fish":
        settings = Path(environ.get("XDG_CONFIG_HOME", "").strip() or f"{home}/.config")
        path = settings / "fish/completions/poeflow.fish"
        return StartFile(path, is_own=True, lines=(_NOTE, _FISH))
    folder = (environ.get("ZDOTDIR", "").strip() if shell == "zsh" else "") or home
    lines = (_BEGIN, _NOTE, _EVAL.format(shell=shell), _END)
    return StartFile(Path(folder) / f".{shell}rc", is_own=False, lines=lines)


def _install(file: StartFile) -> None:
    wanted = "".join(f"{line}\n" for line in file.lines)
    before = _text(file.path)
    after = wanted
    if file.is_own:
        _check_own(file, before)
    else:
        _check_block(file, before or "")
        after = _with_block(before or "", wanted)
    if before == after:
        click.echo(f"{file.path} has it already; nothing was changed")
        return
    file.path.parent.mkdir(parents=True, exist_ok=True)
    _write(file.path, after)
    click.echo(f"{'wrote' if file.is_own else 'added to'} {file.path}:")
    click.echo("".join(f"  {line}\n" for line in file.lines), nl=False)
    click.echo("it works in every new shell", err=True)


def _uninstall(file: StartFile) -> None:
    before = _text(file.path)
    if before is not None and file.is_own:
        _check_own(file, before)
    elif before is not None:
        _check_block(file, before)
    after = "" if file.is_own else _BLOCK.sub("", before or "")
    if before is None or before == after:
        click.echo(f"{file.path} has nothing of poeflow; nothing was changed")
        return
    if after:
        _write(file.path, after)
        click.echo(f"removed the block from {file.path}")
    else:
        really(file.path).unlink()
        click.echo(f"removed {file.path}, in which nothing else was")


def _with_block(before: str, block: str) -> str:
    """Return a file's text with the block where it was, else at the end."""
    if _BLOCK.search(before) is None:
        gap = "" if not before or before.endswith("\n") else "\n"
        return f"{before}{gap}{block}"
    blocks = iter([block])
    return _BLOCK.sub(lambda _: next(blocks, ""), before)


def _check_block(file: StartFile, text: str) -> None:
    """Raise `UsageError` if a mark has lost its other one: what is between is not known."""
    rest = _BLOCK.sub("", text)
    for mark in (_BEGIN, _END):
        if mark in rest.splitlines():
            message = f"{file.path}: the line {mark!r} has no other mark to it"
            raise UsageError(message, hint="remove the rest of the block by hand, then run again")


def _check_own(file: StartFile, text: str | None) -> None:
    if text is not None and not text.startswith(_NOTE):
        message = f"{file.path} was not written by poeflow, and stays as it is"
        raise UsageError(message, hint="move it away, then run again")


def _text(path: Path) -> str | None:
    """Return the text of a file, which may be a link; None if there is none. Raises `UsageError`.

    Bytes that are not UTF-8 are preserved.
    """
    try:
        return read_followed(path, limit=_MOST).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise UsageError(f"{path}: {reason}", hint="check the file") from None


def _write(path: Path, text: str) -> None:
    """Replace a file's text: that of a link's target, with the rights it has."""
    target = really(path)
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644
    atomic_write(target, text.encode("utf-8", "surrogateescape"), mode=mode)
