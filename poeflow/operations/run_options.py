"""How to run a flow: the options of a caller, its listener, and the user's configuration."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from poeflow.client.retry import RateLimiters
from poeflow.clock import Clock, SystemClock
from poeflow.digest import Json
from poeflow.engine.asking.context import goes_on, interrupted
from poeflow.engine.asking.spending import Budget
from poeflow.errors import UsageError
from poeflow.events import Listener, Warned, ignore
from poeflow.flowfile.model import Limits
from poeflow.project.project import Project
from poeflow.redact import fields_without, repr_without
from poeflow.settings import UserConfig, find_config, process_environment


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
