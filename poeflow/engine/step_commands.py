"""Makes the commands of steps, has them run, and stores their outputs as answers are stored."""

from typing import Final

import msgspec

from poeflow.answers.display import quoted
from poeflow.client.answers import Completion
from poeflow.digest import Json, canonical
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.message_parts import AttachmentReader
from poeflow.engine.asking.programs import ENVIRON, Command, CommandRunner
from poeflow.errors import StepError
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.plan import Plan
from poeflow.project.globs import is_pattern
from poeflow.project.modules import code_of
from poeflow.project.project import FileProblem
from poeflow.store.lock.entries import LockEntry
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values

_BROKEN: Final = "\ufffd"


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
            answer[ENVIRON] = dict(command.environ)
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


def _as_answer(text: str) -> dict[str, Json]:
    """Return an output in the shape in which answers are stored."""
    message: dict[str, Json] = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
