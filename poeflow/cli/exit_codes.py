"""The one place where errors become exit codes, and a bug becomes a report file."""

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from poeflow.cli.suggestions import instead_of_option
from poeflow.errors import BUG, INTERRUPTED, DiskError, InvalidFlowError, PoeflowError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.redact import Scrubber, Secret, visible
from poeflow.report.github_commands import inert
from poeflow.settings import known_keys
from poeflow.version import __version__

BROKEN_PIPE: Final = 141
_NO_NUMBER: Final = lazy_pattern(r"is not a valid (float|integer)(?: range)?\.$")
"""How click says that an option has no number."""
_NUMBERS: Final = {"float": "is not a number", "integer": "is not a whole number"}


class CommandEnd:
    """How a command ends: `result` is what it returned; `keys` are masked in error messages."""

    def __init__(self) -> None:
        self.result: object = None
        self.keys: list[Secret] = []

    @property
    def exit_code(self) -> int:
        return self.result if isinstance(self.result, int) else 0


@contextlib.contextmanager
def command_end() -> Iterator[CommandEnd]:
    """Yield the end of the command that runs inside; an error is shown and becomes its result."""
    _open_closed_streams()
    end, stdout = CommandEnd(), sys.stdout
    try:
        yield end
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        end.result = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted", end.keys)
        end.result = INTERRUPTED
    except click.FileError as error:
        _usage(error, end.keys)
        end.result = DiskError.exit_code
    except click.ClickException as error:
        _usage(error, end.keys)
        end.result = error.exit_code
    except PoeflowError as error:
        _say(_sentence(error), end.keys)
        end.result = error.exit_code
    except SystemExit:
        if sys.stdout is stdout:
            raise
        close_stdout()  # click has replaced the stdout of a closed pipe, and exits with 1
        end.result = BROKEN_PIPE
    except BrokenPipeError:
        close_stdout()
        end.result = BROKEN_PIPE
    except OSError as error:
        close_stdout()
        reason = (error.strerror or "the disk refused").lower()
        _say(f"error: {f'{error.filename}: ' if error.filename else ''}{reason}", end.keys)
        end.result = DiskError.exit_code
    except Exception:  # noqa: BLE001 - the one broad handler: a bug becomes a report, not a trace
        _say(_bug_report(end.keys), end.keys)
        end.result = BUG


def _sentence(error: PoeflowError) -> str:
    if isinstance(error, InvalidFlowError):
        return str(error)
    return f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else "")


def _usage(error: click.ClickException, keys: Sequence[Secret]) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"\n  see `{context.command_path} --help`" if context else ""
    message = error.format_message()
    if context is not None and message == context.get_help():  # a group without a command
        _say(message, keys)
        return
    if isinstance(error, click.NoSuchOption):
        other = instead_of_option(error, context)
        message, hint = f"no such option {error.option_name}", f"\n  {other}" if other else hint
    message = _NO_NUMBER.sub(lambda found: _NUMBERS[found[1]], message)
    _say(f"error: {message[:1].lower()}{message[1:]}{'' if ';' in message else hint}", keys)


def _bug_report(keys: Sequence[Secret]) -> str:
    """Write the traceback without keys to a file, and return the message that names it."""
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


def _open_closed_streams() -> None:
    """Open the null device for a stdout or stderr that the process was started without.

    Otherwise the next file opened would get its number, and what is written to it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(null, "w", encoding="utf-8"))


def close_stdout() -> None:
    """Point stdout at the null device, so that the interpreter's last flush does not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
