"""How to run a flow: the options of a caller, its listener, and the user's configuration.

What a program gives as keywords is read as the types that are meant, or refused by name; the
command line checks its own.
"""

import inspect
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

import msgspec

from poeflow.client.retry import RateLimiters
from poeflow.clock import Clock, SystemClock
from poeflow.digest import Json
from poeflow.engine.asking.context import goes_on, interrupted
from poeflow.engine.asking.spending import Budget
from poeflow.errors import UsageError
from poeflow.events import Listener, Warned, ignore
from poeflow.flowfile.model import Limits
from poeflow.flowfile.patterns import one_of
from poeflow.project.project import Project
from poeflow.redact import fields_without, repr_without
from poeflow.settings import UserConfig, find_config, process_environment

_JSON: Final = "give what JSON has: a text, a number, True, False, None, a list or a mapping"
_ELSEWHERE: Final = {"locked": "poeflow.status says what is not current, and sends nothing"}
"""Options of the command line alone, and what Python has in their place."""
_FINITE: Final = sys.float_info.max
_T = TypeVar("_T")
_FUNCTIONS: Final = ("listen", "stop", "cut_short")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a flow.

    `inputs` are typed values, `texts` those of a command line (they win and are converted to the
    type of the input), `inputs_file` is a YAML or JSON file of values. Paths are relative to that
    file, else to `folder`. `models` tries other models: bots, or aliases whose bot is meant, by
    alias. Such a trial writes its files below `.poeflow/trial/`, and no lock. `refresh` asks again
    although an answer is stored, for the `steps` named or for all; `failed` does so for what failed
    in the last run. `force` replaces edited files, `prune_outputs` removes those that no step
    writes now, `merge_edits` merges new answers into accepted files. `offline` asks a simulator;
    `wait` is how many seconds to wait for another run to end. `only` runs the named steps with the
    last results of the steps they need, `until` runs them and all they need. Of a step with many
    instances `first` runs the first ones, and `key` those whose key matches the pattern, as in a
    shell. After a failure nothing new is started; `keep_going` runs the steps that do not need the
    failed one, `fail_fast` cancels what is running. `allow_tools` lets the flow's commands and
    functions run. `trust_state` uses the state in `.poeflow` although git tracks it.
    `warned` collects warnings, so that several runs show each once; `tracked` stores which state
    git tracks, by project, so that git is asked once. `limits` are the caller's; of several limits
    the smallest counts. `max_cost_usd_per_day` and `max_cost_usd_per_month` limit what all runs
    of the project cost in a local day or month. `budget` and `limiters` are shared by several
    runs: with the same ones, requests and tokens per minute are those of all. `stop` is called
    before anything new is started, and returns the reason not to, else an empty text;
    `cut_short` returns the exit code of a run that is cancelled. `listen` gets every event;
    without `hears_text` it gets no pieces of answers as they arrive, nor that an instance begins
    whose stored answer is taken at once, which is faster. Without
    `holds_results` the outcome has no results and a status no request, so that a flow over very
    many rows needs little memory. `config` is the user's configuration, None to read it from
    its file.
    """

    inputs: Mapping[str, Json] = msgspec.field(default_factory=dict)
    texts: Mapping[str, str] = msgspec.field(default_factory=dict)
    inputs_file: Path | None = None
    models: Mapping[str, str] = msgspec.field(default_factory=dict)
    folder: Path = msgspec.field(default_factory=Path.cwd)
    offline: bool = False
    keep_going: bool = False
    fail_fast: bool = False
    refresh: bool = False
    failed: bool = False
    steps: tuple[str, ...] = ()
    only: bool = False
    until: bool = False
    first: int | None = None
    key: str | None = None
    force: bool = False
    prune_outputs: bool = False
    merge_edits: bool = False
    allow_tools: bool = False
    allow_unpriced: bool = False
    trust_state: bool = False
    concurrency: int | None = None
    limits: Limits = msgspec.field(default_factory=Limits)
    max_cost_usd_per_day: float | None = None
    max_cost_usd_per_month: float | None = None
    budget: Budget | None = None
    limiters: RateLimiters = msgspec.field(default_factory=RateLimiters)
    stop: Callable[[], str] = goes_on
    cut_short: Callable[[], int] = interrupted
    wait: float = 10.0
    config: UserConfig | None = None
    warned: set[str] = msgspec.field(default_factory=set)
    tracked: dict[Path, tuple[str, ...]] = msgspec.field(default_factory=dict)
    environ: Mapping[str, str] = msgspec.field(default_factory=process_environment)
    listen: Listener | None = None
    hears_text: bool = True
    holds_results: bool = True
    clock: Clock = msgspec.field(default_factory=SystemClock)

    def __repr__(self) -> str:
        return repr_without(self, "environ")

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return fields_without(self, "environ")

    @property
    def listener(self) -> Listener:
        """What gets the events: `listen`, or nobody."""
        return self.listen or ignore

    @property
    def is_part(self) -> bool:
        """Whether steps or instances are chosen, so that others are left out."""
        return self.only or self.until or self.first is not None or self.key is not None


class RunKeywords(TypedDict, total=False):
    """The fields of `RunOptions`, for functions that take them as keywords."""

    inputs: Mapping[str, Json]
    texts: Mapping[str, str]
    inputs_file: Path | None
    models: Mapping[str, str]
    folder: Path
    offline: bool
    keep_going: bool
    fail_fast: bool
    refresh: bool
    failed: bool
    steps: tuple[str, ...]
    only: bool
    until: bool
    first: int | None
    key: str | None
    force: bool
    prune_outputs: bool
    merge_edits: bool
    allow_tools: bool
    allow_unpriced: bool
    trust_state: bool
    concurrency: int | None
    limits: Limits
    max_cost_usd_per_day: float | None
    max_cost_usd_per_month: float | None
    budget: Budget | None
    limiters: RateLimiters
    stop: Callable[[], str]
    cut_short: Callable[[], int]
    wait: float
    config: UserConfig | None
    warned: set[str]
    tracked: dict[Path, tuple[str, ...]]
    environ: Mapping[str, str]
    listen: Listener | None
    hears_text: bool
    holds_results: bool
    clock: Clock


def check_trial(options: RunOptions) -> None:
    """Raise `UsageError` if a trial of other models is to change outputs."""
    asked = {
        "--force": options.force,
        "--merge-edits": options.merge_edits,
        "--prune-outputs": options.prune_outputs,
    }
    for name, is_asked in asked.items():
        if options.models and is_asked:
            hint = "a trial leaves outputs as they are: give one of them"
            raise UsageError(f"--model and {name} are two things", hint=hint)


def user_config(project: Project, options: RunOptions) -> UserConfig:
    """Return the user's configuration: that of the options, else that of the user's file.

    A file that is not used is a warning, once. Raises `UsageError`.
    """
    if options.config is not None:
        return options.config
    found = find_config(options.environ, project_root=project.root)
    if found.warning:
        warn_once(options, found.warning)
    return found.config


def quiet_options(project: Project, options: RunOptions) -> RunOptions:
    """Return the options with the user's configuration, and without a listener."""
    return msgspec.structs.replace(options, listen=None, config=user_config(project, options))


def warn_once(options: RunOptions, message: str) -> None:
    """Send a warning to the listener, unless it was sent before."""
    if options.listen is not None and message not in options.warned:
        options.warned.add(message)
        options.listen(Warned(at=0.0, step=None, message=message))


def warner(options: RunOptions) -> Callable[[str], None]:
    """Return a function that sends warnings to the listener."""
    listen = options.listener
    return lambda message: listen(Warned(at=0.0, step=None, message=message))


class _Range(msgspec.Struct, frozen=True):
    """The numbers that an option takes, whole ones if it `is_whole`; None if it `is_optional`."""

    least: float
    most: float = _FINITE
    is_whole: bool = True
    is_optional: bool = True

    def __str__(self) -> str:
        kind = "a whole number" if self.is_whole else "a number"
        if self.most < _FINITE:
            return f"{kind} from {self.least:,} to {self.most:,}"
        return f"{kind}, {self.least:,} or more"


_OF_LIMITS: Final[Mapping[str, _Range]] = {
    "concurrency": _Range(1, 1000),
    "requests_per_minute": _Range(1),
    "tokens_per_minute": _Range(1),
    "max_requests": _Range(0),
    "max_tokens": _Range(0),
    "max_cost_usd": _Range(0, is_whole=False),
    "max_points": _Range(0),
}
_NUMBERS: Final[Mapping[str, _Range]] = {
    "first": _Range(1),
    "concurrency": _Range(1, 1000),
    "max_cost_usd_per_day": _Range(0, is_whole=False),
    "max_cost_usd_per_month": _Range(0, is_whole=False),
    "wait": _Range(0, math.inf, is_whole=False, is_optional=False),
}


def with_keywords(options: object, given: RunKeywords) -> RunOptions:
    """Return the options with those given as keywords, which override them.

    A text is taken for a path and a path for a text, a list for a tuple and the other way round.
    Raises `UsageError` for what cannot be used.
    """
    if not isinstance(options, RunOptions | None):
        hint = "give a RunOptions, or keywords: run(path, offline=True)"
        raise _wrong_type("options", options, hint)
    for name in given:
        if name not in RunOptions.__struct_fields__:
            hint = _ELSEWHERE.get(name) or one_of(name, RunOptions.__struct_fields__)
            raise UsageError(f'there is no option "{name}"', hint=hint)
    whole = msgspec.structs.replace(options or RunOptions(), **given)
    named: dict[str, Any] = msgspec.structs.asdict(whole)
    read = {name: _READERS[name](name, value) for name, value in named.items() if name in _READERS}
    return msgspec.structs.replace(whole, **read)


def flow_path(path: object) -> Path:
    """Return the path of a flow. Raises `UsageError` if it is neither a text nor a path."""
    return _path("the path of the flow", path)


def _wrong_type(name: str, value: object, hint: str) -> UsageError:
    """Return the error of a value, which is not shown: it may be long, or a secret."""
    return UsageError(f"{name} is of type {type(value).__name__}", hint=hint)


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong_type(name, value, "give True or False")


def _number(name: str, value: object) -> float | None:
    return _within(name, value, _NUMBERS[name])


def _within(name: str, value: object, allowed: _Range) -> float | None:
    """Return a number that an option allows. Raises `UsageError`."""
    if value is None and allowed.is_optional:
        return None
    hint = f"give {allowed}"
    if isinstance(value, bool) or not isinstance(value, Integral if allowed.is_whole else Real):
        raise _wrong_type(name, value, hint)
    found = int(value) if isinstance(value, Integral) else float(value)
    if not allowed.least <= found <= allowed.most:
        raise UsageError(f"{name} is {found:,}", hint=hint)
    return found


def _path(name: str, value: object) -> Path:
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str) and "\0" not in path:
            return Path(path)
    raise _wrong_type(name, value, "give a text or a Path")


def _optional_path(name: str, value: object) -> Path | None:
    return None if value is None else _path(name, value)


def _text(name: str, value: object) -> str | None:
    if isinstance(value, str | None):
        return value
    raise _wrong_type(name, value, "give a text")


def _texts(name: str, value: object) -> dict[str, str]:
    """Return texts by names. Raises `UsageError`."""
    hint = "give texts by names"
    found = {}
    for key, one in _items(name, value, hint):
        text = os.fspath(one) if isinstance(one, os.PathLike) else one
        if not isinstance(text, str):
            raise _wrong_type(f'{name}: "{key}"', one, "give a text")
        found[key] = text
    return found


def _items(name: str, value: object, hint: str) -> list[tuple[str, object]]:
    """Return the items of a mapping with texts as keys. Raises `UsageError`."""
    if not isinstance(value, Mapping):
        raise _wrong_type(name, value, hint)
    for key in value:
        if not isinstance(key, str):
            raise _wrong_type(f"{name}: the name {key!r}", key, "give a text")
    return [*value.items()]


def _steps(name: str, value: object) -> tuple[str, ...]:
    steps = (value,) if isinstance(value, str) else value
    if not isinstance(steps, Sequence) or isinstance(steps, bytes):
        raise _wrong_type(name, value, "give a list of texts")
    return tuple(_text(f"{name}: an item", one) or "" for one in steps)


def _inputs(name: str, value: object) -> dict[str, Json]:
    items = _items(name, value, "give values by the names of inputs")
    try:
        return {key: _json(f'{name}: "{key}"', one) for key, one in items}
    except RecursionError:
        raise UsageError(f"{name} are nested too deeply", hint="give flatter values") from None


def _json(name: str, value: object) -> Json:
    """Return a value of an input as JSON has it. Raises `UsageError` or `RecursionError`."""
    found: Json
    match value:
        case None | bool():
            found = value
        case Enum():
            found = _json(name, value.value)
        case str():
            found = str.__str__(value)
        case Integral():
            found = int(value)
        case float():
            if not math.isfinite(value):
                raise UsageError(f"{name} is {float(value)}", hint="give a finite number, or None")
            found = float(value)
        case os.PathLike():
            found = str(_path(name, value))
        case Mapping():
            found = {key: _json(f"{name}.{key}", one) for key, one in _items(name, value, _JSON)}
        case list() | tuple():
            found = [_json(f"{name}[{at}]", one) for at, one in enumerate(value)]
        case _:
            raise _wrong_type(name, value, _JSON)
    return found


def _limits(name: str, value: object) -> Limits:
    if not isinstance(value, Limits):
        raise _wrong_type(name, value, "write poeflow.Limits(max_requests=20)")
    read: dict[str, Any] = {
        one: _within(f"{name}.{one}", getattr(value, one), allowed)
        for one, allowed in _OF_LIMITS.items()
    }
    return msgspec.structs.replace(value, **read)


def _function(name: str, value: object) -> object:
    if value is None and name == "listen":
        return value
    if not callable(value):
        raise _wrong_type(name, value, "give a function")
    if inspect.iscoroutinefunction(value):
        raise UsageError(f"{name} is a coroutine function", hint="give one without async")
    return value


def _instance(kind: type[_T], hint: str) -> Callable[[str, object], _T]:
    """Return what takes only values of a kind."""

    def read(name: str, value: object) -> _T:
        if isinstance(value, kind):
            return value
        raise _wrong_type(name, value, hint)

    return read


def _optional(kind: type[_T], hint: str) -> Callable[[str, object], _T | None]:
    read = _instance(kind, hint)
    return lambda name, value: None if value is None else read(name, value)


_FLAGS: Final = [one.name for one in msgspec.structs.fields(RunOptions) if one.type is bool]
_READERS: Final[Mapping[str, Callable[[str, object], object]]] = {
    **dict.fromkeys(_FLAGS, _flag),
    **dict.fromkeys(_NUMBERS, _number),
    **dict.fromkeys(_FUNCTIONS, _function),
    "inputs": _inputs,
    "texts": _texts,
    "models": _texts,
    "inputs_file": _optional_path,
    "folder": _path,
    "steps": _steps,
    "key": _text,
    "limits": _limits,
    "budget": _optional(Budget, "give a Budget"),
    "limiters": _instance(RateLimiters, "give RateLimiters"),
    "config": _optional(UserConfig, "give a UserConfig"),
    "warned": _instance(set, "give a set"),
    "tracked": _instance(dict, "give a dict"),
    "environ": _instance(Mapping, "give texts by names"),
}
