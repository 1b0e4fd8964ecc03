"""Runs programs for the commands of steps, within limits on time and output.

A program gets its arguments, never a shell; of the environment only what its step names, never a
key. One that does not end by itself is ended with all that it started.
"""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from poeflow.answers.display import cut, one_line
from poeflow.clock import spoken
from poeflow.digest import Json, canonical, sha256_of
from poeflow.errors import StepError, UsageError
from poeflow.redact import visible
from poeflow.settings import child_environment

MAX_OUTPUT: Final = 4 * 1024 * 1024
"""How many bytes a program may write to stdout."""
MAX_ERRORS: Final = 2000
"""How many bytes of the end of stderr a message has."""
GRACE: Final = 2.0
"""How many seconds a program has to end after SIGTERM."""
VERSION: Final = 1
_ALWAYS: Final = ("PATH", "SYSTEMROOT", "PATHEXT")
"""The variables without which no program is found: the last two are those of Windows."""
_PIECE: Final = 64 * 1024
_LONGEST: Final = 200
_IS_WINDOWS: Final = sys.platform == "win32"
ENVIRON: Final = "poeflow_environ"
"""The key of a stored output for the keyed hashes of the variables that it was made with."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The command of one instance: a program with its arguments, and what it reads from stdin.

    Or it is a `call` of a function with the arguments that are `given` by name. `reads` are hashes
    of the files that it says it reads, by project path. `environ` are keyed hashes of the variables
    that it gets: its output is stored with them, but they do not make it another command.
    """

    arguments: tuple[str, ...] = ()
    stdin: str | None = None
    call: str | None = None
    given: Mapping[str, Json] = {}
    reads: Mapping[str, str] = {}
    environ: Mapping[str, str] = {}

    @property
    def identity(self) -> dict[str, Json]:
        """What makes it the one it is, for the history and for the hash of its output."""
        body: dict[str, Json] = {"command": list(self.arguments)}
        if self.call is not None:
            body = {"call": self.call, "with": dict(self.given)}
        if self.stdin is not None:
            body["stdin"] = self.stdin
        return {"version": VERSION, "body": body, "reads": dict(self.reads)}

    @property
    def fingerprint(self) -> str:
        """What its output is stored under."""
        return sha256_of(canonical(self.identity))


class CommandRunner(Protocol):
    """Runs the command of a step. Whoever has one has the user's permission."""

    async def run(self, command: Command) -> bytes:
        """Return its output. Raises `StepError`."""


class Program:
    """What the command of one step runs with: its `folder`, its environment, its time in seconds.

    Whoever makes one has the user's permission to run it.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], *, timeout: float) -> None:
        self._folder = folder
        self._environ = environ
        self._timeout = timeout

    async def run(self, command: Command) -> bytes:
        """Run a program with its arguments and return what it wrote to stdout.

        Raises `StepError` with the end of stderr if it fails, cannot be started, takes too long or
        writes too much. Cancelled, it ends the program first.
        """
        shown = shown_command(command.arguments)
        process = await self._started(command.arguments, has_input=command.stdin is not None)
        is_done = False
        try:
            async with asyncio.timeout(self._timeout):
                output, errors, _ = await asyncio.gather(
                    _output(process), _last(process), _feed(process, command.stdin)
                )
                if output is None:
                    message = f"{shown} wrote more than {MAX_OUTPUT:,} bytes"
                    hint = "have it write less, or to a file that a step attaches"
                    raise StepError(message, hint=hint)
                code = await process.wait()
            is_done = True
        except TimeoutError:
            message = f"{shown} took longer than {spoken(self._timeout)}"
            raise StepError(message, hint="raise timeout: of the step") from None
        finally:
            if not is_done:
                await _ended(process)
        if code != 0:
            message = f"{shown} {_how(code)}{': ' if errors else ''}{errors}"
            raise StepError(message, hint="run it by hand to see what it needs")
        return output

    async def _started(self, arguments: Sequence[str], *, has_input: bool) -> Process:
        """Start a program in a process group of its own. Raises `StepError`."""
        program = self._found(arguments[0])
        try:
            return await asyncio.create_subprocess_exec(
                program,
                *arguments[1:],
                stdin=PIPE if has_input else DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self._folder,
                env=dict(self._environ),
                start_new_session=not _IS_WINDOWS,
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            message = f"{shown_command(arguments)} cannot be started: {reason}"
            is_script = reason == "exec format error"
            hint = "begin the file with a line like #!/bin/sh" if is_script else "check the command"
            raise StepError(message, hint=hint) from None

    def _found(self, name: str) -> str:
        """Return the path of a program: from the flow's folder, or on the PATH."""
        if "/" in name or os.sep in name:
            return str(self._folder / name)
        found = shutil.which(name, path=self._environ.get("PATH", ""))
        if found is None:
            hint = f"install it, or write ./{name} for a file beside the flow"
            raise StepError(f'there is no program "{one_line(name)}"', hint=hint)
        return found


def environment_of(
    environ: Mapping[str, str], names: Iterable[str], *, step: str
) -> dict[str, str]:
    """Return the variables of a command: PATH, and those that its step names.

    Raises `UsageError` if one of them is a key or holds one.
    """
    safe = child_environment(environ)
    for name in names:
        if name in environ and name not in safe:
            message = f"step {step}: the variable {name} holds an API key, which no command gets"
            raise UsageError(message, hint="take it out of env:")
    return {name: safe[name] for name in (*_ALWAYS, *names) if name in safe}


def shown_command(arguments: Sequence[str]) -> str:
    """Return a command on one line, as a shell would take it, cut if it is long."""
    return one_line(shlex.join(arguments), _LONGEST)


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"


async def _output(process: Process) -> bytes | None:
    """Return what a program writes to stdout; None if that is too much, and end the program."""
    found = bytearray()
    while process.stdout is not None and (piece := await process.stdout.read(_PIECE)):
        found += piece
        if len(found) > MAX_OUTPUT:
            _signal(process, is_final=True)
            return None
    return bytes(found)


async def _last(process: Process) -> str:
    """Return the end of what a program writes to stderr."""
    found = b""
    while process.stderr is not None and (piece := await process.stderr.read(_PIECE)):
        found = (found + piece)[-MAX_ERRORS:]
    return cut(visible(found.decode("utf-8", "replace").strip()), MAX_ERRORS)


async def _feed(process: Process, stdin: str | None) -> None:
    """Write a text to a program, as far as it reads it."""
    if process.stdin is None or stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(stdin.encode("utf-8", "replace"))
        await process.stdin.drain()
    process.stdin.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.wait_closed()


async def _ended(process: Process) -> None:
    """End a program and what it started: with SIGTERM, and a little later with SIGKILL."""
    _signal(process, is_final=False)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE)
    finally:
        _signal(process, is_final=True)
    await process.wait()
    with contextlib.suppress(TimeoutError):  # a program that left the group may hold a pipe open
        async with asyncio.timeout(GRACE):
            await asyncio.gather(_passed_over(process.stdout), _passed_over(process.stderr))


async def _passed_over(pipe: StreamReader | None) -> None:
    """Read a pipe to its end: it is closed only then."""
    while pipe is not None and await pipe.read(_PIECE):
        pass


def _signal(process: Process, *, is_final: bool) -> None:
    """Send a signal to a program and all in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL if is_final else signal.SIGTERM)
