"""Imports the Python functions that tools name: the one place that runs a project's own code.

Modules are looked for in the project's root, which is on `sys.path` only meanwhile. Those of
another project, and those written anew since, are forgotten first.
"""

import contextlib
import importlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from poeflow.answers.display import one_line
from poeflow.errors import UsageError
from poeflow.flowfile.model import Tool
from poeflow.flowfile.patterns import one_of

_IMPORTING: Final = threading.RLock()  # sys.path is one for all threads
_MARK: Final = "__poeflow__"
_MAX_ERROR: Final = 1000


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let modules of `folder` (absolute, resolved) be imported while the block lasts."""
    with _IMPORTING:
        _forget(folder)
        known = set(sys.modules)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                sys.path.remove(str(folder))
            for name in sys.modules.keys() - known:
                _mark(name, folder)


def function_of(tool: Tool) -> Callable[..., Any]:
    """Import what a tool runs. Raises `UsageError`, whatever its module does meanwhile."""
    module, _, name = (tool.run or "").partition(":")
    if not name:
        raise _unusable(tool, "it has no function", "add run: module:function")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        _explain(tool, module, error)
    if found is None:
        names = (key for key in vars(sys.modules[module]) if not key.startswith("_"))
        raise _unusable(tool, f'there is no "{name}" in {module}', one_of(name, names))
    if not callable(found):
        kind = type(found).__name__
        raise _unusable(tool, f"{tool.run} is no function, but of type {kind}", "name a function")
    function: Callable[..., Any] = found
    return function


def error_text(error: BaseException) -> str:
    """Return an exception's class and message, cut; no traceback."""
    if isinstance(error, SyntaxError):
        text = f"{type(error).__name__}: {error}"
    else:
        text = traceback.format_exception_only(error)[0].strip()
    return text if len(text) <= _MAX_ERROR else f"{text[:_MAX_ERROR]}..."


def _explain(tool: Tool, module: str, error: BaseException) -> NoReturn:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and f"{module}.".startswith(f"{missing}."):
        hint = "run: names it from the project's root, as in folder.module:function"
        raise _unusable(tool, f'there is no module "{missing}"', hint) from None
    hint = "mend the module"
    if missing is not None:
        hint = f"install {missing.partition('.')[0]} where poeflow is installed"
    told = one_line(error_text(error), _MAX_ERROR)
    raise _unusable(tool, f"{module} cannot be imported: {told}", hint) from None


def _unusable(tool: Tool, reason: str, hint: str) -> UsageError:
    return UsageError(f'tool "{tool.name}": {reason}', hint=hint)


def _mark(name: str, folder: Path) -> None:
    """Write on a module of the project where it is from, and when that was written."""
    module: object = sys.modules.get(name)
    if not isinstance(module, ModuleType):
        return
    home = _home(module, folder, name.partition(".")[0])
    if home is not None:
        vars(module)[_MARK] = (folder, home, _written(home))


def _home(module: ModuleType, folder: Path, top: str) -> Path | None:
    """Return the file, or the folder, of a module that stands under its name in `folder`.

    What is installed in an environment inside the project does not.
    """
    places = [vars(module).get("__file__"), *vars(module).get("__path__", ())]
    for place in places:
        if isinstance(place, str) and Path(place).is_relative_to(folder):
            path = Path(place)
            if path.relative_to(folder).parts[:1] in ((top,), (f"{top}.py",)):
                return path
    return None


def _written(home: Path) -> int:
    """Return the time of a module's file; that of a folder tells nothing."""
    return home.stat().st_mtime_ns if home.is_file() else 0


def _forget(folder: Path) -> None:
    """Forget the modules of projects where one is of another project, or was changed since."""
    imported: dict[str, object] = {**sys.modules}
    ours = {
        name: vars(module)[_MARK]
        for name, module in imported.items()
        if isinstance(module, ModuleType) and _MARK in vars(module)
    }
    if any(place != folder or _written(home) != time for place, home, time in ours.values()):
        for name in ours:
            del sys.modules[name]
