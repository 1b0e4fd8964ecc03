"""Imports and calls the functions of tools and steps: the one place that runs a project's own code.

Modules are found in the project's root, which is on `sys.path` only during an import. Modules of
another project, and those changed since, are removed from memory first.
"""

import asyncio
import contextlib
import contextvars
import importlib
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, NoReturn

from poeflow.answers.display import one_line
from poeflow.digest import Json
from poeflow.errors import UsageError
from poeflow.flowfile.patterns import one_of

_IMPORTING: Final = threading.RLock()  # all threads share sys.path
_MARK: Final = "__poeflow__"
_MAX_ERROR: Final = 1000
OF_ANSWER: Final = {"text": "", "data": None, "value": None}
"""What a function that judges an answer is given of it, by the names that it takes."""
IMPORTED: Final[set[str]] = set()
"""The modules that functions were taken from in this process."""


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Make modules of `folder` (absolute, resolved) importable until the block ends."""
    with _IMPORTING:
        _forget(folder)
        before = set(sys.modules)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                sys.path.remove(str(folder))
            for name in sys.modules.keys() - before:
                _mark(name, folder)


def function_of(written: str, *, owner: str, key: str) -> Callable[..., Any]:
    """Import the function `module:name` that the `key` of an `owner` names.

    Raises `UsageError`, whatever its module does.
    """
    module, _, name = written.partition(":")
    if not name:
        raise _unusable(owner, "it has no function", f"add {key}: module:function")
    IMPORTED.add(module)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        _explain(owner, key, module, error)
    if found is None:
        names = (key for key in vars(sys.modules[module]) if not key.startswith("_"))
        raise _unusable(owner, f'there is no "{name}" in {module}', one_of(name, names))
    if not callable(found):
        kind = type(found).__name__
        raise _unusable(
            owner, f"{written} is not a function, but of type {kind}", "name a function"
        )
    function: Callable[..., Any] = found
    return function


def function_given(
    written: str, given: Collection[str] | None, *, owner: str, key: str
) -> Callable[..., Any]:
    """Import a function as `function_of`, and check that it takes the arguments it is `given`.

    They are names, None if they are not known; of `OF_ANSWER` a function takes what it names.
    Raises `UsageError`.
    """
    function = function_of(written, owner=owner, key=key)
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # of some functions in C it is not known
        return function
    if given is None:
        return function
    any_names = inspect.Parameter.VAR_KEYWORD
    is_open = given is OF_ANSWER or any(one.kind is any_names for one in parameters)
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (any_names, one.VAR_POSITIONAL)
    ]
    missing = [name for name in needed if name not in given]
    unnamed = [one.name for one in parameters if one.kind is one.POSITIONAL_ONLY]
    if unnamed and unnamed[0] in needed:
        fault = f'{written} takes "{unnamed[0]}" by position only'
        raise _unusable(owner, fault, "remove the / from its parameters: they are given by name")
    known = {one.name for one in parameters} - {*unnamed}
    unknown = [] if is_open else [name for name in given if name not in known]
    if missing or unknown:
        fault = f'needs "{missing[0]}"' if missing else f'does not take "{unknown[0]}"'
        names = ", ".join(given) or "nothing"
        hint = f"it is given {names}: use the same names in the function and in the flow"
        raise _unusable(owner, f"{written} {fault}", hint)
    return function


def taken_by(function: Callable[..., Any], given: Mapping[str, Json]) -> dict[str, Json]:
    """Return those of the `given` arguments that a function takes by their names."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of some functions in C it is not known
        return dict(given)
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return dict(given)
    named = {one.name for one in parameters if one.kind is not inspect.Parameter.POSITIONAL_ONLY}
    return {name: value for name, value in given.items() if name in named}


async def called(function: Callable[..., Any], arguments: Mapping[str, Json]) -> object:
    """Return the value of a function, awaited if it can be."""
    call = partial(function, **arguments)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose calls are coroutines
    )
    found = call() if is_async else await _in_thread(call)
    return await found if inspect.isawaitable(found) else found


async def _in_thread(function: Callable[[], object]) -> object:
    """Call `function` in a thread; return its value or raise its exception.

    Unlike with `asyncio.to_thread`, a function that never returns does not keep the event loop or
    the process alive: if this is cancelled, the thread is abandoned.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[_Ending] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        ending = _Ending()
        with ending:
            ending.result = context.run(function)
        with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits
            loop.call_soon_threadsafe(deliver, ending)

    def deliver(ending: "_Ending") -> None:
        if not ended.done():
            ended.set_result(ending)

    threading.Thread(target=run, name="poeflow-tool", daemon=True).start()
    ending = await ended
    if ending.error is not None:
        raise ending.error
    return ending.result


class _Ending:
    """How a function ended: the value it returned or the exception it raised."""

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


def error_text(error: BaseException) -> str:
    """Return an exception's class and message, cut; no traceback."""
    if isinstance(error, SyntaxError):
        text = f"{type(error).__name__}: {error}"
    else:
        text = traceback.format_exception_only(error)[0].strip()
    return text if len(text) <= _MAX_ERROR else f"{text[:_MAX_ERROR]}..."


def _explain(owner: str, key: str, module: str, error: BaseException) -> NoReturn:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and f"{module}.".startswith(f"{missing}."):
        hint = f"{key}: names it from the project's root, as in folder.module:function"
        raise _unusable(owner, f'there is no module "{missing}"', hint) from None
    hint = "mend the module"
    if missing is not None:
        hint = f"install {missing.partition('.')[0]} where poeflow is installed"
    reason = one_line(error_text(error), _MAX_ERROR)
    raise _unusable(owner, f"{module} cannot be imported: {reason}", hint) from None


def _unusable(owner: str, reason: str, hint: str) -> UsageError:
    return UsageError(f"{owner}: {reason}", hint=hint)


def _mark(name: str, folder: Path) -> None:
    """Set on each module of the project its folder and the time of its file."""
    module: object = sys.modules.get(name)
    if not isinstance(module, ModuleType):
        return
    home = _home(module, folder, name.partition(".")[0])
    if home is not None:
        vars(module)[_MARK] = (folder, home, _written(home))


def _home(module: ModuleType, folder: Path, top: str) -> Path | None:
    """Return the file, or the folder, of a module that is at its name's place in `folder`.

    Packages in an environment inside the project are not.
    """
    places = [vars(module).get("__file__"), *vars(module).get("__path__", ())]
    for place in places:
        if isinstance(place, str) and Path(place).is_relative_to(folder):
            path = Path(place)
            if path.relative_to(folder).parts[:1] in ((top,), (f"{top}.py",)):
                return path
    return None


def _written(home: Path) -> int:
    """Return the time of a module's file; a folder has no useful one."""
    return home.stat().st_mtime_ns if home.is_file() else 0


def _forget(folder: Path) -> None:
    """Remove all project modules from memory if one is of another project, or was changed."""
    imported: dict[str, object] = {**sys.modules}
    ours = {
        name: vars(module)[_MARK]
        for name, module in imported.items()
        if isinstance(module, ModuleType) and _MARK in vars(module)
    }
    if any(place != folder or _written(home) != time for place, home, time in ours.values()):
        for name in ours:
            del sys.modules[name]
