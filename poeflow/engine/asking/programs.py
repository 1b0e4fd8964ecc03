"""Runs the commands of steps, within limits on time and output.

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

from poeflow.answers.display import cut, one_line, quoted
from poeflow.client.answers import Completion
from poeflow.clock import spoken
from poeflow.digest import Json, canonical, sha256_of
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.message_parts import AttachmentReader
from poeflow.errors import StepError, UsageError
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.plan import Plan
from poeflow.project.globs import is_pattern
from poeflow.project.modules import code_of
from poeflow.project.project import FileProblem
from poeflow.redact import visible
from poeflow.settings import child_environment
from poeflow.store.lock.entries import LockEntry
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values

MAX_OUTPUT: Final = 4 * 1024 * 1024
"""How many bytes a program may write to stdout."""
MAX_ERRORS: Final = 2000
"""How many bytes of the end of stderr a message has."""
GRACE: Final = 2.0
"""How many seconds a program has to end after SIGTERM."""
VERSION: Final = 1
_ALWAYS: Final = ("PATH", "SYSTEMROOT", "PATHEXT")
"""The variables without which no program is found: the last two are those of Windows."""
_ENVIRON: Final = "poeflow_environ"
"""The key of a stored output for the keyed hashes of the variables that it was made with."""
_PIECE: Final = 64 * 1024
_LONGEST: Final = 200
_BROKEN: Final = "\ufffd"
_IS_WINDOWS: Final = sys.platform == "win32"


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


class CommandOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The output of a command as text. `fingerprint` is what it is stored under."""

    text: str
    fingerprint: str
    warnings: tuple[str, ...] = ()


class Commands:
    """Makes and runs the commands of one flow's instances."""

    def __init__(self, plan: Plan, context: RunContext, attachments: AttachmentReader) -> None:
        self._plan = plan
        self._steps = plan.steps
        self._context = context
        self._attachments = attachments
        self._code: dict[str, tuple[str, ...]] = {}

    def command(self, step: str, values: Values, reads: Reads) -> Command:
        """Return the command of an instance; note in `reads` the files that it says it reads.

        They are noted before it runs: if they change meanwhile, it runs again. Raises
        `PoeflowError`, also if an argument that another step made would be an option.
        """
        spec, texts = self._steps[step], self._plan.texts
        arguments: list[str] = []
        for index, written in enumerate(spec.command or ()):
            path: KeyPath = ("steps", step, "command", index)
            argument = self._from_folder(texts.prose(path, values))
            is_foreign = path in self._plan.checked.late and not written.startswith("-")
            if is_foreign and argument.startswith("-"):
                message = f"argument {index} would be the option {quoted(argument)}"
                hint = "write what it begins with, as in ./{{ ... }}, or hand it over by stdin"
                raise StepError(message, hint=hint)
            arguments.append(argument)
        stdin = None if spec.stdin is None else texts.prose(("steps", step, "stdin"), values)
        for index in range(len(spec.reads or ())):
            for one in self._files(("steps", step, "reads", index), values):
                reads.contents[one] = self._attachments.digest(one)
        reads.contents |= self._modules(spec.call)
        command = Command(
            arguments=tuple(arguments),
            stdin=stdin,
            call=spec.call,
            given=self._given(step, values),
            reads=dict(reads.contents),
            environ=self._context.hashed(spec.env) if spec.env else {},
        )
        self._context.refuse_keys(canonical(command.identity), "the command")
        return command

    def note_code(self, step: str, reads: Reads) -> None:
        """Note in `reads` the project's modules whose functions judge a step or are its tools."""
        for expectation in self._steps[step].expect:
            reads.code |= self._modules(expectation.call)
        if self._steps[step].tools:
            reads.code |= self._tool_code(step)

    def has_other_tools(self, step: str, entry: LockEntry | None) -> bool:
        """Whether an entry of a step was made with other code of its tools, as far as it says."""
        if not self._steps[step].tools:
            return False
        then = {} if entry is None else entry.parts
        now = {f"reads {path}": digest for path, digest in self._tool_code(step).items()}
        return not all(digest.startswith(then.get(part, "")) for part, digest in now.items())

    def _tool_code(self, step: str) -> dict[str, str]:
        """Return the hashes of the project's modules with the tools that a step runs."""
        spec, found = self._steps[step], dict[str, str]()
        for tool in spec.functions if spec.tools_mode != "return" else ():
            found |= self._modules(tool.run)
        return found

    def _modules(self, function: str | None) -> dict[str, str]:
        """Return the hashes of the project's modules that run with a function, by their paths."""
        if function is None:
            return {}
        if function not in self._code:
            self._code[function] = code_of(self._context.project, function)
        return {path: self._attachments.digest(path) for path in self._code[function]}

    def _from_folder(self, argument: str) -> str:
        """Return an argument as the program finds it, which runs beside the flow.

        That is another one for the project path of a file that is there, as `glob` gives it.
        """
        project = self._context.project
        if not argument.startswith("//"):
            return argument
        try:
            path = project.canonical(argument, relative_to="//")
            if not project.has(path):
                return argument
        except FileProblem:
            return argument
        found = project.shown(path, project.path_of(self._plan.file.path).parent)
        return found if found.startswith("../") else f"./{found}"  # never an option

    async def run(self, command: Command, runner: CommandRunner) -> CommandOutput:
        """Run a command and store its output as text. Raises `StepError` or `DiskError`.

        Line ends at the end are left out, and a key in it is masked.
        """
        keys, identity = self._context.keys, command.identity
        try:
            data = await runner.run(command)
        except StepError as error:
            raise StepError(keys.scrubber.scrub(error.message), hint=error.hint) from None
        text = data.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n")
        warnings: list[str] = []
        if _BROKEN in text:
            warnings.append("the output holds characters that are not UTF-8 (U+FFFD)")
        if keys.is_in(data):
            warnings.append("the output held a key or a secret input; it is stored masked")
            text = keys.scrubber.scrub(text)
            self._context.refuse_keys(text.encode("utf-8", "replace"), "the output")
        fingerprint = command.fingerprint
        answer = _as_answer(text)
        if command.environ:
            answer[_ENVIRON] = dict(command.environ)
        await self._context.answers.store(fingerprint, answer, request=identity)
        return CommandOutput(text=text, fingerprint=fingerprint, warnings=tuple(warnings))

    def stored(self, command: Command, locked: LockEntry | None) -> CommandOutput | None:
        """Return the stored output of a command, None if it is not the one of its lock entry."""
        fingerprint = command.fingerprint
        is_locked = locked is not None and locked.is_of(fingerprint)
        found = self._context.answers.entry(fingerprint) if is_locked else None
        if found is None:
            return None
        return CommandOutput(text=Completion(found.answer).text, fingerprint=fingerprint)

    def _given(self, step: str, values: Values) -> dict[str, Json]:
        """Return the arguments of a call by name. Raises `TemplateError`."""
        written = dict(self._steps[step].with_ or {})
        given = self._plan.texts.value(("steps", step, "with"), written, values)
        return given if isinstance(given, dict) else {}

    def _files(self, path: KeyPath, values: Values) -> list[str]:
        """Return the files of a path or pattern under `reads`. Raises `FileProblem`."""
        texts, flow = self._plan.texts, self._plan.file.path
        written = texts.prose(path, values)
        if is_pattern(written):
            return texts.reader.glob(written, relative_to=flow)
        return [self._context.project.canonical(written, relative_to=flow)]


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


def _as_answer(text: str) -> dict[str, Json]:
    """Return an output in the shape in which answers are stored."""
    message: dict[str, Json] = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


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


def changed_variables(
    context: RunContext, names: Sequence[str], entry: LockEntry
) -> tuple[str, ...]:
    """Return which variables had another value when the stored output of an entry was made.

    The lock does not know them: where the output is not stored, or another key hashed them, none.
    """
    if not names or entry.request is None:
        return ()
    stored = context.answers.locked(entry.request)
    then = None if stored is None else stored[1].answer.get(_ENVIRON)
    if not isinstance(then, dict) or not then:
        return ()
    now = context.hashed(names)
    return tuple(name for name in names if _differ(then.get(name), now.get(name)))


def _differ(then: Json, now: str | None) -> bool:
    """Whether two keyed hashes, both known and by the same key, are of different values."""
    if not isinstance(then, str) or now is None or then == now:
        return False
    return then.partition(":")[0] == now.partition(":")[0]


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
