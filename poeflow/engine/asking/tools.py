"""Tools: Python functions of the project that a model may call, only if the user allows it.

Whatever a tool raises is sent to the model as an error, `sys.exit` too: it ends neither the run nor
the process. What it prints goes to stderr on the command line.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from poeflow.answers.schemas import Schema, compile_schema
from poeflow.client.answers import Completion, ToolCall
from poeflow.client.messages import Message
from poeflow.digest import Json, encode_json
from poeflow.engine.asking.programs import (
    MAX_OUTPUT,
    Command,
    CommandRunner,
    Program,
    environment_of,
    shown_command,
)
from poeflow.engine.asking.tool_modules import (
    OF_ANSWER,
    called,
    error_text,
    function_given,
    importable,
    taken_by,
)
from poeflow.errors import StepError, UsageError
from poeflow.flowfile.model import Step, Tool
from poeflow.flowfile.step_settings import command_seconds
from poeflow.planning.checked import Checked
from poeflow.project.project import Project

MAX_ROUNDS: Final = 10
"""How often a model may call before it must answer."""
MAX_CALLS: Final = 64
"""How many calls of one turn are run."""
MAX_PARALLEL: Final = 8
MAX_RESULT: Final = 1024 * 1024
TIMEOUT: Final = 30.0
_OPEN: Final = {"additionalProperties", "unevaluatedProperties"}
_MORE_PARAMETERS: Final = (
    *("additionalProperties", "unevaluatedProperties", "patternProperties", "$ref"),
    *("allOf", "anyOf", "oneOf", "if", "dependentSchemas"),
)
"""Keys of a schema by which a tool may have parameters that `properties` does not."""
Where = tuple[str, str]
"""A flow by its project path, and a step of it."""


def definitions(tools: Sequence[Tool]) -> list[Json]:
    """Return the `tools` of a request, which describe them to the model."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _parameters(tool),
            },
        }
        for tool in tools
    ]


def with_ids(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Return the calls, each with an id of its own.

    The API requires one answer for every id, so the model's turn must be repeated with these.
    """
    taken = {call.id for call in calls}
    seen: set[str] = set()
    found = []
    for number, call in enumerate(calls, 1):
        name = call.id or ""
        if not name or name in seen:
            name = f"call_{number}"
            while name in taken or name in seen:
                name += "_"
        seen.add(name)
        found.append(call if name == call.id else ToolCall({**call.raw, "id": name}))
    return tuple(found)


def turn_of(completion: Completion) -> Message:
    """Return the model's turn for the next request, with every key of its calls."""
    calls = tuple(call.to_param() for call in with_ids(completion.tool_calls))
    return Message(role="assistant", content=completion.text or None, tool_calls=calls or None)


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """One answered call. `result` is what is sent back."""

    name: str
    result: str
    is_error: bool


class ToolAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """The answers to one turn's calls, in order, and the calls that ran."""

    messages: tuple[Message, ...]
    uses: tuple[ToolUse, ...]


class Toolbox:
    """The functions of one step."""

    def __init__(self, functions: Mapping[str, "_Function"], *, timeout: float) -> None:
        self._functions = functions
        self._timeout = timeout

    @classmethod
    def load(
        cls,
        tools: Sequence[Tool],
        *,
        folder: Path,
        timeout: float = TIMEOUT,
    ) -> "Toolbox":
        """Import the function of every tool, modules from `folder`, the project's root.

        This runs code of the project: call it only with the user's permission. A call may take
        `timeout` seconds. Raises `UsageError` if a function cannot be imported.
        """
        with importable(folder):
            functions = {tool.name: _Function(_imported(tool), _schema(tool)) for tool in tools}
        return cls(functions, timeout=timeout)

    async def answer(self, calls: Sequence[ToolCall]) -> ToolAnswers:
        """Run the functions that a model calls, concurrently; plain ones in threads.

        Only arguments that the tool's JSON Schema names are allowed. The calls have the ids from
        `with_ids`.
        """
        identified = with_ids(calls)
        gate = asyncio.Semaphore(MAX_PARALLEL)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._use(call, index, gate))
                for index, call in enumerate(identified)
            ]
        uses = tuple(task.result() for task in tasks)
        return ToolAnswers(
            messages=tuple(
                Message(role="tool", content=use.result, tool_call_id=call.id)
                for call, use in zip(identified, uses, strict=True)
            ),
            uses=uses,
        )

    async def _use(self, call: ToolCall, index: int, gate: asyncio.Semaphore) -> ToolUse:
        async with gate:
            try:
                result, is_error = await self._result(call, index), False
            except _RefusedError as refusal:
                result, is_error = encode_json({"error": str(refusal)}).decode(), True
            return ToolUse(
                name=call.function.name,
                result=result,
                is_error=is_error,
            )

    async def _result(self, call: ToolCall, index: int) -> str:
        """Run a call and return its result as text. Raises `_RefusedError`."""
        if index >= MAX_CALLS:
            raise _RefusedError(f"only {MAX_CALLS} calls of one turn are run")
        name = call.function.name
        function = self._functions.get(name)
        if function is None:
            names = ", ".join(self._functions)
            raise _RefusedError(f'there is no tool "{name}"; there are: {names}')
        arguments = _arguments(call, function.schema)
        return _text(await _within(self._timeout, name, function.call, arguments))


class ProjectFunction:
    """The function that the `call` of a step names, with how many seconds it may take."""

    def __init__(self, call: Callable[..., Any], *, timeout: float) -> None:
        self._call = call
        self._timeout = timeout

    async def run(self, command: Command) -> bytes:
        """Return what the function gives: a text, or JSON. Raises `StepError`."""
        name = command.call or ""
        try:
            data = _bytes(await _within(self._timeout, name, self._call, command.given))
        except _RefusedError as refusal:
            raise StepError(str(refusal), hint="call it by hand to see what it needs") from None
        if len(data) > MAX_OUTPUT:
            message = f"{name} gave more than {MAX_OUTPUT:,} bytes"
            raise StepError(message, hint="have it give less, or write a file that a step attaches")
        return data

    async def judge(self, name: str, about: Mapping[str, Json]) -> bytes:
        """Return what the function says of an answer, as JSON: it gets what it names of `about`.

        Raises `StepError`.
        """
        return await self.run(Command(call=name, given=taken_by(self._call, about)))


class RefusedToolbox:
    """The functions of a step that the user did not allow to run, with the `error` for that."""

    def __init__(self, error: UsageError) -> None:
        self._error = error

    async def answer(self, _calls: Sequence[ToolCall]) -> "ToolAnswers":
        """Raise the error: only a call needs the function, a stored answer does not."""
        raise self._error


class Toolboxes:
    """The code that steps run, by flow and step; `refused` steps are not allowed to run any."""

    def __init__(
        self,
        boxes: Mapping[Where, Toolbox],
        refused: Mapping[Where, Step] = {},
        *,
        runners: Mapping[Where, CommandRunner] = {},
        functions: Mapping[Where, ProjectFunction] = {},
    ) -> None:
        self._boxes = boxes
        self._refused = refused
        self._runners = runners
        self._functions = functions

    def of(self, flow: str, step: str) -> Toolbox | RefusedToolbox | None:
        """Return the tools of a step, None if the calls are its result."""
        spec = self._refused.get((flow, step))
        if spec is not None and _runs_tools(spec):
            return RefusedToolbox(_not_allowed({(flow, step): spec}))
        return self._boxes.get((flow, step))

    def runner(self, flow: str, step: str, spec: Step) -> CommandRunner:
        """Return what runs the command or call of a step. Raises `UsageError` if none may."""
        found = self._runners.get((flow, step))
        if found is None:
            raise _not_allowed({(flow, step): spec})
        return found

    def functions(self, flow: str, step: str, spec: Step) -> Callable[[str], ProjectFunction]:
        """Return what finds the functions that judge the results of a step, by name.

        It raises `UsageError` if the user does not permit them.
        """

        def function(call: str) -> ProjectFunction:
            found = self._functions.get((flow, call))
            if found is None:
                raise _not_allowed({(flow, step): spec})
            return found

        return function


def toolboxes(
    project: Project,
    checked: Checked,
    runs: Callable[[str], bool],
    *,
    environ: Mapping[str, str],
) -> Toolboxes:
    """Load the tools and commands of those steps of a flow that run, and of the flows these use.

    Call it only with the user's permission. `runs` returns whether a step of the outermost flow
    runs. Raises `UsageError` if a function cannot be loaded, or a variable holds a key.
    """
    wanted = {where: step for name, where, step in running_code(checked) if runs(name)}
    boxes = {
        where: Toolbox.load(step.functions, folder=project.root)
        for where, step in wanted.items()
        if step.functions and _runs_tools(step)
    }
    runners = {
        where: _runner(project, where, step, environ)
        for where, step in wanted.items()
        if step.kind == "command"
    }
    functions = {
        (flow, call): _function(project, call, OF_ANSWER, step=name, timeout=TIMEOUT)
        for (flow, name), step in wanted.items()
        for call in _judging(step)
    }
    return Toolboxes(boxes, runners=runners, functions=functions)


def _runner(
    project: Project, where: Where, step: Step, environ: Mapping[str, str]
) -> CommandRunner:
    """Return what runs the command or call of a step. Raises `UsageError`."""
    flow, name = where
    timeout = command_seconds(step)
    if step.call is not None:
        given = (step.with_ or {}) if step.if_ is None else None  # it may never be called
        return _function(project, step.call, given, step=name, timeout=timeout)
    own = environment_of(environ, step.env or (), step=name)
    return Program(project.path_of(flow).parent, own, timeout=timeout)


def _function(
    project: Project, call: str, given: Collection[str] | None, *, step: str, timeout: float
) -> ProjectFunction:
    """Import the function that a step names, which is `given` arguments. Raises `UsageError`."""
    with importable(project.root):
        function = function_given(call, given, owner=f"step {step}", key="call")
    return ProjectFunction(function, timeout=timeout)


def _judging(step: Step) -> list[str]:
    """Return the functions that judge the results of a step."""
    return [one.call for one in step.expect if one.call is not None]


def refused_toolboxes(checked: Checked, runs: Callable[[str], bool]) -> Toolboxes:
    """Return no tools and no programs, for a run whose user did not allow any.

    `runs` returns whether a step of the outermost flow runs. Raises `UsageError` if one of those
    has tools or a command.
    """
    every = tuple(running_code(checked))
    wanted = {where: step for name, where, step in every if runs(name)}
    if wanted:
        raise _not_allowed(wanted)
    return Toolboxes({}, {where: step for _, where, step in every})


def running_code(checked: Checked) -> Iterator[tuple[str, Where, Step]]:
    """Yield the steps that run tools or commands, each with its step of the outermost flow."""
    flow = checked.file.flow
    for name, step in flow.steps.items():
        if step.kind == "command" or _runs_tools(step) or _judging(step):
            yield name, (checked.file.path, name), step
    for name, child in checked.children.items():
        yield from ((name, where, step) for _, where, step in running_code(child))


def _runs_tools(step: Step) -> bool:
    """Whether a step runs the functions that its model calls."""
    has_functions = any(tool.run is not None for tool in step.functions)
    return has_functions and step.tools_mode != "return"


def _not_allowed(wanted: Mapping[Where, Step]) -> UsageError:
    """Return the error of a run without the user's permission; it shows all that would be run."""
    shown = (f"{path}: step {name} runs {_code(step)}" for (path, name), step in wanted.items())
    hint = "look at them and add --allow-tools, or write tools_mode: return"
    if any(step.kind == "command" or _judging(step) for step in wanted.values()):
        hint = "look at it and add --allow-tools, or allow_tools = true to your own configuration"
    return UsageError("; ".join(shown), hint=hint)


def _code(step: Step) -> str:
    """Return the functions and the command that a step runs, in words."""
    tools = [tool.run or "" for tool in step.functions if _runs_tools(step)]
    functions = sorted({*tools, *_judging(step), step.call or ""} - {""})
    parts = [f"Python functions of this project: {', '.join(functions)}"] if functions else []
    parts += [f"a command: {shown_command(step.command)}"] if step.command else []
    return ", and ".join(parts)


class _RefusedError(Exception):
    """Why a call has no result, in a sentence for the model."""


class _Function(msgspec.Struct, frozen=True):
    call: Callable[..., Any]
    schema: Schema


def _parameters(tool: Tool) -> dict[str, Json]:
    if not tool.parameters:
        return {"type": "object", "properties": {}}
    return {"type": "object", **tool.parameters}


def _schema(tool: Tool) -> Schema:
    """Return the schema of a tool's arguments; unless it says otherwise, only named ones fit.

    A model must not reach a parameter of the function that the flow does not offer it.
    """
    written = _parameters(tool)
    try:
        return compile_schema(
            written if _OPEN & written.keys() else {**written, "unevaluatedProperties": False}
        )
    except StepError as error:
        message = f'tool "{tool.name}": its parameters: {error.message}'
        raise UsageError(message, hint=error.hint) from None


def _imported(tool: Tool) -> Callable[..., Any]:
    schema = tool.parameters or {}
    is_whole = not any(schema.get(key) for key in _MORE_PARAMETERS)
    properties, required = schema.get("properties"), schema.get("required")
    given: Collection[str] | None = None
    if is_whole and isinstance(properties, dict):
        named = [*properties, *(required if isinstance(required, list) else ())]
        given = dict.fromkeys(named)
    return function_given(tool.run or "", given, owner=f'tool "{tool.name}"', key="run")


async def _within(
    seconds: float, name: str, function: Callable[..., Any], arguments: Mapping[str, Json]
) -> object:
    """Return what a function gives within its time. Raises `_RefusedError`."""
    limit, task = asyncio.timeout(seconds), asyncio.current_task()
    try:
        async with limit:
            return await called(function, arguments)
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        raise _RefusedError(f"{name} failed: {error_text(error)}") from None
    except BaseException as error:  # a function's own failure is that of its call, sys.exit too
        if isinstance(error, GeneratorExit) and not _is_at_work(task):
            raise
        if limit.expired():
            raise _RefusedError(f"{name} took longer than {seconds:g} s") from None
        raise _RefusedError(f"{name} failed: {error_text(error)}") from None


def _arguments(call: ToolCall, schema: Schema) -> dict[str, Json]:
    try:
        found = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise _RefusedError(f"the arguments are not JSON: {error}") from None
    if not isinstance(found, dict):
        raise _RefusedError("the arguments are not a JSON object")
    faults = schema.faults(found)
    if faults:
        raise _RefusedError(f"the arguments do not fit: {'; '.join(faults)}")
    return found


def _is_cancelled() -> bool:
    """Whether the run is cancelled, not something inside a tool."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_at_work(task: asyncio.Task[Any] | None) -> bool:
    """Whether a task runs now; else its coroutine is being closed, and must end."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no event loop is running
        return False


def _text(result: object) -> str:
    """Return a result as text: a text unchanged, else JSON; cut if it is too long."""
    data = _bytes(result)
    if len(data) <= MAX_RESULT:
        return data.decode()
    beginning = data[:MAX_RESULT].decode("utf-8", "ignore")
    return f"{beginning}\n[cut: these are the first {MAX_RESULT:,} of {len(data):,} bytes]"


def _bytes(result: object) -> bytes:
    """Return a result as bytes: those of a text, else of JSON. Raises `_RefusedError`."""
    if isinstance(result, str):
        return result.encode("utf-8", "replace")
    try:
        return encode_json(result)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise _RefusedError(f"the result cannot be written as JSON: {error}") from None
