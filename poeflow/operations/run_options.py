"""How to run a flow: what a caller may choose."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from poeflow.clock import Clock, SystemClock
from poeflow.digest import Json
from poeflow.engine.budget import Budget
from poeflow.engine.context import goes_on, interrupted
from poeflow.events import Listener
from poeflow.flowfile.model import Limits
from poeflow.settings import UserConfig, process_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to run a flow.

    `inputs` are typed values, `texts` those of a command line (they win and are read as the
    input's type asks), `inputs_file` a YAML or JSON file of values. Paths are relative to that
    file, else to `folder`. `refresh` asks again where an answer is stored, for the `steps` named or
    for all, `failed` for what failed in the last run; `force` replaces files that were edited,
    `prune_outputs` removes those that no step writes any more, `merge_edits` has new answers merged
    into accepted ones;
    `offline` asks a simulator; `wait` is how many seconds to wait for another run to end. `only`
    runs the steps named and takes what they need as the last run left it, `until` runs them and all
    they need; of steps with many instances `first` runs so many, and `key` those it matches, as in
    a shell. After a failure nothing new is started; `keep_going` runs what does not need it,
    `fail_fast` does not even finish. `allow_tools` lets the flow's own Python functions run.
    `trust_state` has the state in `.poeflow` used where git tracks it.
    `told` collects what was warned of, so that several runs say it once, and `tracked` what git
    tracks of the state, by project, so that it is asked once.
    `limits` are the caller's own, of which the smallest counts; `budget` is one that several runs
    share. `stop` is asked before anything new is started, and gives the reason not to, else an
    empty text; `cut_short` gives the exit code of a run that is cancelled. `config` is the user's
    configuration, None for the file they keep it in.
    """

    inputs: Mapping[str, Json] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    inputs_file: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
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
    limits: Limits = field(default_factory=Limits)
    budget: Budget | None = None
    stop: Callable[[], str] = goes_on
    cut_short: Callable[[], int] = interrupted
    wait: float = 10.0
    config: UserConfig | None = None
    told: set[str] = field(default_factory=set)
    tracked: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=process_environment, repr=False)
    listen: Listener | None = None
    clock: Clock = field(default_factory=SystemClock)


class RunKeywords(TypedDict, total=False):
    """The fields of `RunOptions`, for functions that take them as keywords."""

    inputs: Mapping[str, Json]
    texts: Mapping[str, str]
    inputs_file: Path | None
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
    budget: Budget | None
    stop: Callable[[], str]
    cut_short: Callable[[], int]
    wait: float
    config: UserConfig | None
    told: set[str]
    tracked: dict[Path, tuple[str, ...]]
    environ: Mapping[str, str]
    listen: Listener | None
    clock: Clock


def options_from(options: RunOptions | None, given: RunKeywords) -> RunOptions:
    """Return the options with those given as keywords, which win."""
    return replace(options or RunOptions(), **given)
