"""Tools: Python functions of the project that a model may call, only if the user allows it.

Every fault of a call becomes an answer for the model, never an exception. What a function prints
goes to where poeflow prints its results: it should write to standard error.
"""

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from poeflow.answers.schemas import Schema, compile_schema
from poeflow.client.answers import ToolCall
from poeflow.client.messages import Message
from poeflow.clock import Clock, SystemClock
from poeflow.digest import Json, encode_json
from poeflow.engine.tool_modules import error_text, function_of, importable
from poeflow.errors import StepError, UsageError
from poeflow.flowfile.model import Step, Tool
from poeflow.planning.checked import Checked
from poeflow.project.project import Project


class _Ending:
    """How a function ended: what it gave or raised, nothing lost."""

    def __init__(self) -> None:
        self.result: object = None
        self.error: BaseException | None = None

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.error = error
        return True


async def in_thread(function: Callable[[], object]) -> object:
    """Return what `function` gives, or raise what it raises.

    Unlike in `asyncio.to_thread`, one that never returns keeps neither the event loop nor the
    process from ending: when the waiting is cancelled, the thread is left to itself.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[_Ending] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        ending = _Ending()
        with ending:
            ending.result = context.run(function)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, ending)

    def deliver(ending: _Ending) -> None:
        if not ended.done():
            ended.set_result(ending)

    threading.Thread(target=run, name="poeflow-tool", daemon=True).start()
    ending = await ended
    if ending.error is not None:
        raise ending.error
    return ending.result


MAX_ROUNDS: Final = 10
"""How often a model may call before it must answer."""
MAX_CALLS: Final = 64
"""How many calls of one turn are run."""
MAX_PARALLEL: Final = 8
MAX_RESULT: Final = 1024 * 1024
TIMEOUT: Final = 30.0
_OPEN: Final = {"additionalProperties", "unevaluatedProperties"}


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """One call that was answered: `arguments` as the model wrote them, `result` as it is told."""

    name: str
    arguments: str
    result: str
    is_error: bool
    seconds: float


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The answers to one turn's calls, in their order, and what ran."""

    messages: tuple[Message, ...]
    uses: tuple[ToolUse, ...]


def definitions(tools: Sequence[Tool]) -> list[Json]:
    """Return the request's `tools`: what the model is told of them."""
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
    """Return the calls, those without an id or with that of an earlier one under a new one.

    The API asks for one answer to every id, so the model's turn must be repeated with these.
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


class _RefusedError(Exception):
    """Why a call has no result, in a sentence for the model."""


class _Function(msgspec.Struct, frozen=True):
    call: Callable[..., Any]
    schema: Schema


class RefusedToolbox:
    """The functions of a step that the user did not allow to run: `error` says so."""

    def __init__(self, error: UsageError) -> None:
        self._error = error

    async def answer(self, _calls: Sequence[ToolCall]) -> "Answered":
        """Raise the error: a stored answer needs no function, a call does."""
        raise self._error


class Toolbox:
    """The functions of one step."""

    def __init__(self, functions: Mapping[str, _Function], *, timeout: float, clock: Clock) -> None:
        self._functions = functions
        self._timeout = timeout
        self._clock = clock

    @classmethod
    def load(
        cls,
        tools: Sequence[Tool],
        *,
        folder: Path,
        timeout: float = TIMEOUT,
        clock: Clock | None = None,
    ) -> "Toolbox":
        """Import the function of every tool, modules from `folder`, the project's root.

        This runs code of the project: call it only with the user's permission. A call may take
        `timeout` seconds. Raises `UsageError` where a function cannot be had.
        """
        with importable(folder):
            functions = {tool.name: _Function(function_of(tool), _schema(tool)) for tool in tools}
        return cls(functions, timeout=timeout, clock=clock or SystemClock())

    async def answer(self, calls: Sequence[ToolCall]) -> Answered:
        """Run the functions a model asks for, side by side; plain ones in threads.

        Arguments must be those that the tool's JSON Schema names. The calls go by the ids that
        `with_ids` gives them.
        """
        identified = with_ids(calls)
        gate = asyncio.Semaphore(MAX_PARALLEL)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._use(call, index, gate))
                for index, call in enumerate(identified)
            ]
        uses = tuple(task.result() for task in tasks)
        return Answered(
            messages=tuple(
                Message(role="tool", content=use.result, tool_call_id=call.id)
                for call, use in zip(identified, uses, strict=True)
            ),
            uses=uses,
        )

    async def _use(self, call: ToolCall, index: int, gate: asyncio.Semaphore) -> ToolUse:
        async with gate:
            start = self._clock.monotonic()
            try:
                result, is_error = await self._result(call, index), False
            except _RefusedError as refusal:
                result, is_error = encode_json({"error": str(refusal)}).decode(), True
            return ToolUse(
                name=call.function.name,
                arguments=call.function.arguments,
                result=result,
                is_error=is_error,
                seconds=self._clock.monotonic() - start,
            )

    async def _result(self, call: ToolCall, index: int) -> str:
        """Run a call and return its result as text. Raises `_RefusedError`."""
        if index >= MAX_CALLS:
            raise _RefusedError(f"only {MAX_CALLS} calls of one turn are run")
        name = call.function.name
        function = self._functions.get(name)
        if function is None:
            known = ", ".join(self._functions)
            raise _RefusedError(f'there is no tool "{name}"; there are: {known}')
        arguments = _arguments(call, function.schema)
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                return _text(await _called(function.call, arguments))
        except _RefusedError:
            raise
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            raise _RefusedError(f"{name} failed: {error_text(error)}") from None
        except Exception as error:  # noqa: BLE001 - a tool's own failure is told to the model
            if limit.expired():
                raise _RefusedError(f"{name} took longer than {self._timeout:g} s") from None
            raise _RefusedError(f"{name} failed: {error_text(error)}") from None


async def _called(function: Callable[..., Any], arguments: Mapping[str, Json]) -> object:
    """Return what a function gives, awaited where that can be."""
    call = partial(function, **arguments)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose calls are coroutines
    )
    found = call() if is_async else await in_thread(call)
    return await found if inspect.isawaitable(found) else found


def _is_cancelled() -> bool:
    """Whether it is we who are cancelled, and not something inside a tool."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _parameters(tool: Tool) -> dict[str, Json]:
    if not tool.parameters:
        return {"type": "object", "properties": {}}
    return {"type": "object", **tool.parameters}


def _schema(tool: Tool) -> Schema:
    """Return the schema of a tool's arguments: where it leaves open which, those it names.

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


def _text(result: object) -> str:
    """Return a result as text: a text itself, else JSON, cut where it is too long."""
    if isinstance(result, str):
        data = result.encode("utf-8", "replace")
    else:
        try:
            data = encode_json(result)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise _RefusedError(f"the result cannot be written as JSON: {error}") from None
    if len(data) <= MAX_RESULT:
        return data.decode()
    kept = data[:MAX_RESULT].decode("utf-8", "ignore")
    return f"{kept}\n[cut: these are the first {MAX_RESULT:,} of {len(data):,} bytes]"


Where = tuple[str, str]
"""A flow by its project path, and a step of it."""
Tools = tuple[Tool, ...]


class Toolboxes:
    """The tools of every step that runs some, by flow and step; `refused` are not allowed to."""

    def __init__(self, boxes: Mapping[Where, Toolbox], refused: Mapping[Where, Tools] = {}) -> None:
        self._boxes = boxes
        self._refused = refused

    def of(self, flow: str, step: str) -> Toolbox | RefusedToolbox | None:
        """Return the tools of a step, None where the calls are its result."""
        if (flow, step) in self._refused:
            return RefusedToolbox(_not_allowed({(flow, step): self._refused[flow, step]}))
        return self._boxes.get((flow, step))


def toolboxes(project: Project, checked: Checked, runs: Callable[[str], bool]) -> Toolboxes:
    """Load the tools of those steps of a flow that run, and of the flows these use.

    `runs` tells whether a step of the outermost flow does. Raises `UsageError` if one cannot be
    loaded.
    """
    wanted = {where: tools for name, where, tools in running_tools(checked) if runs(name)}
    return Toolboxes(
        {where: Toolbox.load(list(tools), folder=project.root) for where, tools in wanted.items()}
    )


def refused_toolboxes(checked: Checked, runs: Callable[[str], bool]) -> Toolboxes:
    """Return no tools, for a run whose user did not allow any.

    Raises `UsageError` if one of the steps that run, as `runs` tells, has some.
    """
    every = tuple(running_tools(checked))
    wanted = {where: tools for name, where, tools in every if runs(name)}
    if wanted:
        raise _not_allowed(wanted)
    return Toolboxes({}, {where: tools for _, where, tools in every})


def running_tools(checked: Checked) -> Iterator[tuple[str, Where, Tools]]:
    """Yield the steps that run tools, each with the step of the outermost flow it belongs to."""
    for name, step in checked.file.flow.steps.items():
        if runs_tools(step):
            yield name, (checked.file.path, name), tuple(step.tools or ())
    for name, child in checked.children.items():
        yield from ((name, where, tools) for _, where, tools in running_tools(child))


def _not_allowed(wanted: Mapping[Where, Tools]) -> UsageError:
    path, name = next(iter(wanted))
    functions = ", ".join(sorted({tool.run or "" for tools in wanted.values() for tool in tools}))
    return UsageError(
        f"{path}: step {name} runs Python functions of this project: {functions}",
        hint="look at them and add --allow-tools, or write tools_mode: return",
    )


def runs_tools(step: Step) -> bool:
    """Whether a step answers its model's calls itself."""
    has_functions = any(tool.run is not None for tool in step.tools or ())
    return has_functions and step.tools_mode != "return"
