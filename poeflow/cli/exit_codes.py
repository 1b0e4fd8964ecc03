"""The one place where errors become exit codes, and a bug becomes a report file.

What was mistyped is answered with what was probably meant.
"""

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

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


_NEAR: Final = 0.75
"""How similar two options must be for one to be taken for a typo of the other."""
_NEAR_COMMAND: Final = 0.6
_COMMANDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("test", "tests", "lint", "validate", "verify"),
        "poeflow check finds mistakes, poeflow run --locked proves a flow current",
    ),
    **dict.fromkeys(("ls", "list", "log", "logs", "runs", "ps"), "poeflow history lists the runs"),
    **dict.fromkeys(
        ("pin", "lock", "freeze"),
        "poeflow run writes the lock, poeflow run --locked proves a flow current",
    ),
    **dict.fromkeys(
        ("dry-run", "preview", "estimate", "cost"), "poeflow plan says what a run would do and cost"
    ),
    **dict.fromkeys(("new", "create"), "poeflow init writes a first flow"),
    **dict.fromkeys(("ui", "web", "open"), "poeflow view shows the runs in a browser"),
    **dict.fromkeys(("serve", "server", "mock"), "poeflow simulate serves a local simulator"),
    **dict.fromkeys(("exec", "start", "eval", "build", "ask"), "poeflow run FLOW runs a flow"),
    **dict.fromkeys(("compare",), "poeflow diff A B says what changed between two runs"),
    **dict.fromkeys(
        ("export",),
        "poeflow report RUN --html FILE writes a page, poeflow cache export FILE the answers",
    ),
    **dict.fromkeys(("import",), "poeflow cache import FILE takes answers from a file"),
    **dict.fromkeys(
        ("login", "auth", "key"), "the key is read from POE_API_KEY, or from run --env-file FILE"
    ),
    **dict.fromkeys(("render", "prompt"), "poeflow plan FLOW --render STEP shows a prompt"),
    **dict.fromkeys(("retry", "resume", "continue"), "poeflow run FLOW goes on where it stopped"),
    **dict.fromkeys(("settings", "configure"), "poeflow config says what may be set"),
    **dict.fromkeys(("bots",), "poeflow models lists the bots"),
    **dict.fromkeys(("clean", "clear", "prune"), "poeflow cache prune makes the store smaller"),
    **dict.fromkeys(("explain", "why"), "poeflow cache explain FLOW STEP, or poeflow plan FLOW"),
    **dict.fromkeys(
        ("env", "info", "diagnose", "debug"), "poeflow doctor examines machine and project"
    ),
    "dev": "poeflow watch FLOW runs it again whenever a file changes",
    "version": "poeflow --version",
    "help": "poeflow --help",
}
_OPTIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("--dry-run", "--dryrun", "-n"), "poeflow plan FLOW says what a run would do"),
    **dict.fromkeys(
        ("-i", "--var", "--set", "--param", "--arg", "-D"), "an input is --input NAME=VALUE"
    ),
    **dict.fromkeys(("--input",), "--inputs-file FILE; a run with --input has no lock"),
    **dict.fromkeys(
        ("--verbose", "-v", "--debug"),
        "every event: --output jsonl; of an answer: poeflow show last/STEP",
    ),
    **dict.fromkeys(
        ("--quiet", "-q", "--silent"), "progress goes to stderr, results to stdout: 2>/dev/null"
    ),
    **dict.fromkeys(("--json",), "--output json"),
    **dict.fromkeys(("-o", "--format"), "--output FORMAT; redirect stdout to write a file"),
    **dict.fromkeys(("-j", "--jobs", "--parallel"), "--concurrency N"),
    **dict.fromkeys(
        ("--no-cache", "--rerun", "-B", "--always-make"), "--refresh asks again what is stored"
    ),
    **dict.fromkeys(("-k", "--continue"), "--keep-going"),
    **dict.fromkeys(("-x", "--exitfirst"), "--fail-fast"),
    **dict.fromkeys(("--model", "-m"), "a flow names its models, under models or defaults"),
    **dict.fromkeys(("--api-key", "--key-file"), "the key is read from POE_API_KEY or --env-file"),
    **dict.fromkeys(("--base-url",), "set POE_BASE_URL in the environment"),
    **dict.fromkeys(("--step", "--steps", "-s"), "name a step behind its flow: FLOW:STEP --only"),
    **dict.fromkeys(("--export",), "poeflow report RUN --html FILE"),
    **dict.fromkeys(("--watch", "-w"), "poeflow watch FLOW runs it again when a file changes"),
    **dict.fromkeys(("--mock", "--simulate", "--fake"), "--offline asks a local stand-in"),
    **dict.fromkeys(("--file", "-f"), "name the flow without an option: poeflow run FLOW"),
    **dict.fromkeys(("--yes", "-y"), "nothing asks for a confirmation: leave it out"),
    **dict.fromkeys(("--budget", "--max-cost"), "--max-cost-usd USD, or --max-points N"),
    **dict.fromkeys(("--version", "-V"), "poeflow --version"),
}


def instead_of_command(name: str, known: Collection[str]) -> str:
    """Return what to use instead of an unknown command, empty if there is nothing similar."""
    if name.partition(":")[0].endswith((".yaml", ".yml")):
        return f"poeflow run {name} runs a flow"
    return _COMMANDS.get(name) or _nearest(name, known, _NEAR_COMMAND)


def instead_of_option(error: click.NoSuchOption, context: click.Context | None) -> str:
    """Return what to use instead of an unknown option, empty if there is nothing similar."""
    parameters = context.command.get_params(context) if context is not None else ()
    known = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    options = sorted(name for name in known if name.startswith("-"))
    near = _nearest(error.option_name, options, _NEAR)
    if near or error.option_name not in _OPTIONS:
        return near
    text = _OPTIONS[error.option_name]
    named = [word.rstrip(";:,") for word in text.split() if word.startswith("--")]
    is_elsewhere = text.startswith("poeflow ")
    if named and not is_elsewhere and context is not None and context.parent is None:
        return f"behind the command, as in poeflow run FLOW: {text}"
    return text if is_elsewhere or not named or named[0] in options else ""


def _nearest(name: str, known: Collection[str], cutoff: float) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=1, cutoff=cutoff)
    return f'did you mean "{found[0]}"?' if found else ""
