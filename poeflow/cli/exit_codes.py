"""The one place where errors become exit codes, and a bug becomes a report file."""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from poeflow import __version__
from poeflow.cli.suggestions import instead_of_option
from poeflow.errors import INTERRUPTED, InvalidFlowError, PoeflowError
from poeflow.redact import Scrubber, Secret, visible
from poeflow.report.github_commands import inert
from poeflow.settings import known_keys

BROKEN_PIPE: Final = 141
DISK: Final = 8
BUG: Final = 70


def exit_code_of(command: click.Command) -> int:
    """Run `command` with the process's arguments and return its exit code; never raises."""
    _open_closed_streams()
    keys: list[Secret] = []  # what the command learns of keys, by `cli.private`
    try:
        code = command.main(prog_name="poeflow", standalone_mode=False, obj=keys)
        _flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted", keys)
        return INTERRUPTED
    except click.ClickException as error:
        _usage(error, keys)
        return error.exit_code
    except PoeflowError as error:
        _say(_sentence(error), keys)
        return error.exit_code
    except BrokenPipeError:
        close_stdout()
        return BROKEN_PIPE
    except OSError as error:
        close_stdout()
        reason = (error.strerror or "the disk refused").lower()
        _say(f"error: {f'{error.filename}: ' if error.filename else ''}{reason}", keys)
        return DISK
    except Exception:  # noqa: BLE001 - the one broad handler: a bug becomes a report, not a trace
        _say(_bug_report(keys), keys)
        return BUG
    return code if isinstance(code, int) else 0


def _sentence(error: PoeflowError) -> str:
    if isinstance(error, InvalidFlowError):
        return str(error)
    return f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else "")


def _usage(error: click.ClickException, keys: Sequence[Secret]) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"\n  see `{context.command_path} --help`" if context else ""
    message = error.format_message()
    if isinstance(error, click.NoSuchOption):
        told = instead_of_option(error, context)
        message, hint = f"no such option {error.option_name}", f"\n  {told}" if told else hint
    _say(f"error: {message[:1].lower()}{message[1:]}{'' if ';' in message else hint}", keys)


def _bug_report(keys: Sequence[Secret]) -> str:
    """Write the scrubbed traceback to a file and return the line that says so."""
    text = f"poeflow {__version__}, Python {sys.version}\n\n{traceback.format_exc()}"
    scrubbed = Scrubber(*keys, *known_keys(os.environ)).scrub_server_text(text)
    error = sys.exc_info()[1]
    try:
        handle, name = tempfile.mkstemp(prefix="poeflow-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(scrubbed)
    except OSError:
        return (
            f"error: this is a bug in poeflow ({type(error).__name__}); no report could be written"
        )
    return (
        f"error: this is a bug in poeflow ({type(error).__name__})\n"
        f"  please report it with the file {Path(name)}"
    )


def _say(text: str, keys: Sequence[Secret]) -> None:
    scrubbed = Scrubber(*keys, *known_keys(os.environ)).scrub(text)
    try:
        sys.stderr.write("\n".join(inert(visible(line)) for line in scrubbed.split("\n")) + "\n")
        sys.stderr.flush()
    except OSError:
        return


def _flush() -> None:
    sys.stdout.flush()


def _open_closed_streams() -> None:
    """Give a process that was started without stdout or stderr one that leads nowhere.

    The next file to be opened would else take its number, and get what is written there.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(null, "w", encoding="utf-8"))


def close_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
