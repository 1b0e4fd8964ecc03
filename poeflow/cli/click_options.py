"""Options that several commands share, and the `RunOptions` made from them."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, ParamSpec, TypedDict, TypeVar

import click
import msgspec

from poeflow.cli.completing import ALIASES, INPUTS
from poeflow.cli.output import RunFormat, say_warning
from poeflow.cli.private_files_options import (
    allow_file_option,
    env_file_option,
    environment_with,
    trust_state_option,
    trusts_state,
)
from poeflow.clock import seconds
from poeflow.errors import UsageError
from poeflow.flowfile.model import Limits
from poeflow.flowfile.patterns import one_of
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import NotTextError, text_of
from poeflow.operations.budgets import shared_budget
from poeflow.operations.check import Checkup
from poeflow.operations.plan import aliases_of
from poeflow.operations.run_options import RunOptions
from poeflow.project.places import read_given

_DAYS: Final = lazy_pattern(r"([0-9]+(?:\.[0-9]+)?)d")
MAX_VALUE_BYTES: Final = 64 * 1024 * 1024
P = ParamSpec("P")
T = TypeVar("T")


class Amount(click.FloatRange):
    """A number that is finite: `nan` and `inf` limit nothing."""

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number. Ends the command if it is out of range, or no number."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found


def duration_of(written: str, option: str) -> float:
    """Return in seconds what an option says, such as `7d` or `12h`. Raises `UsageError`."""
    days = _DAYS.fullmatch(written)
    try:
        return float(days[1]) * 86_400 if days is not None else seconds(written)
    except ValueError:
        raise UsageError(
            f"{option} {written}: not a duration", hint="for example 12h or 7d"
        ) from None


class SharedOptions(TypedDict):
    """The options of every command that runs flows, as click passes them."""

    inputs: tuple[str, ...]
    inputs_file: Path | None
    models: tuple[str, ...]
    offline: bool
    concurrency: int | None
    keep_going: bool
    fail_fast: bool
    only: bool
    until: bool
    first: int | None
    key: str | None
    force: bool
    allow_files: tuple[Path, ...]
    env_file: Path | None
    prune_outputs: bool
    merge_edits: bool
    allow_tools: bool
    allow_unpriced: bool
    max_requests: int | None
    max_tokens: int | None
    max_cost_usd: float | None
    max_cost_usd_per_day: float | None
    max_cost_usd_per_month: float | None
    max_points: int | None


class StatusCommandOptions(TypedDict):
    """The options of every command that looks at the instances of flows, as click passes them."""

    inputs_file: Path | None
    models: tuple[str, ...]
    since: str | None
    first: int | None
    key: str | None
    output: str
    junit: Path | None
    offline: bool
    allow_files: tuple[Path, ...]
    env_file: Path | None


class PlanCommandOptions(StatusCommandOptions):
    """The options of `poeflow plan`."""

    inputs: tuple[str, ...]
    render: str | None
    all_: bool
    max_cost_usd_per_day: float | None
    max_cost_usd_per_month: float | None


class RunCommandOptions(SharedOptions):
    """The options of `poeflow run`."""

    output: RunFormat
    junit: Path | None
    refresh: bool
    failed: bool
    locked: bool
    since: str | None
    reading: bool
    wait: float


_PART: Final = (
    click.option("--first", type=click.IntRange(1), metavar="N", help="Of each loop, the first N."),
    click.option("--key", metavar="GLOB", help="Of each loop, the instances whose key matches."),
)
junit_option: Final = click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write a JUnit report."
)
states_output_option: Final = click.option(
    "--output",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="github: text, with annotations and a job summary.",
)
"""How commands that only look can show the states of instances."""


def model_option(does: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return the option for models to try. `does` is its help."""
    return click.option(
        "--model",
        "models",
        multiple=True,
        metavar="ALIAS=NAME",
        help=does,
        shell_complete=ALIASES,
    )


_PERIODS: Final = (
    click.option(
        "--max-cost-usd-per-day",
        type=Amount(0),
        help="Estimated cost of all runs of a day, by the history.",
    ),
    click.option("--max-cost-usd-per-month", type=Amount(0), help="The same for a month."),
)
_OPTIONS: Final = (
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set an input; @FILE takes a file's text, @- standard input.",
        shell_complete=INPUTS,
    ),
    click.option(
        "--inputs-file", type=click.Path(path_type=Path), help="YAML or JSON with inputs."
    ),
    model_option("Try another model for an alias; outputs and lock stay as they are."),
    click.option(
        "--offline", is_flag=True, help="Use a local simulator; nothing is sent or spent."
    ),
    click.option(
        "--concurrency", type=click.IntRange(1, 1000), help="Requests in flight, at most."
    ),
    click.option("--keep-going", is_flag=True, help="After a failure, run what does not need it."),
    click.option("--fail-fast", is_flag=True, help="After a failure, do not finish what is asked."),
    click.option("--max-requests", type=click.IntRange(0), help="Requests sent, at most."),
    click.option("--max-tokens", type=click.IntRange(0), help="Reported tokens, at most."),
    click.option("--max-cost-usd", type=Amount(0), help="Estimated cost, at most."),
    *_PERIODS,
    click.option("--max-points", type=click.IntRange(0), help="Estimated points, at most."),
    click.option("--allow-unpriced", is_flag=True, help="Ask models whose price is not known."),
    click.option("--allow-tools", is_flag=True, help="Let the flow's commands and functions run."),
    click.option(
        "--only", is_flag=True, help="Run the steps named, on what the others gave before."
    ),
    click.option("--until", is_flag=True, help="Run the steps named and all they need."),
    *_PART,
    click.option("--force", is_flag=True, help="Replace output files that were edited."),
    click.option(
        "--merge-edits",
        is_flag=True,
        help="Merge new answers into files that were edited and accepted.",
    ),
    click.option(
        "--prune-outputs", is_flag=True, help="Remove output files that no step writes any more."
    ),
    trust_state_option,
    allow_file_option,
    env_file_option,
)


def shared_options(command: Callable[P, T]) -> Callable[P, T]:
    """Add the options of `SharedOptions` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def part_options(command: Callable[P, T]) -> Callable[P, T]:
    """Add the options that choose instances of loops to a command."""
    for option in reversed(_PART):
        command = option(command)
    return command


def plan_options(command: Callable[P, T]) -> Callable[P, T]:
    """Add the options of a run that a plan takes: instances of loops, limits of a day and month."""
    for option in reversed((*_PART, *_PERIODS)):
        command = option(command)
    return command


def run_options(
    checkups: Sequence[Checkup], options: RunCommandOptions, environ: Mapping[str, str]
) -> list[RunOptions]:
    """Return the options of `poeflow run` for each flow, with one budget for all of them."""
    given = msgspec.structs.replace(
        shared_run_options(options, environ),
        refresh=options["refresh"],
        failed=options["failed"],
        wait=options["wait"],
    )
    whole = msgspec.structs.replace(given, budget=shared_budget(checkups[0].project, given))
    return [
        msgspec.structs.replace(whole, models=own)
        for own in models_known_to(checkups, given.models)
    ]


def shared_run_options(options: SharedOptions, environ: Mapping[str, str]) -> RunOptions:
    """Return the run options that the shared command line options set."""
    limits = Limits(
        max_requests=options["max_requests"],
        max_tokens=options["max_tokens"],
        max_cost_usd=options["max_cost_usd"],
        max_points=options["max_points"],
    )
    return RunOptions(
        texts=input_texts(options["inputs"]),
        inputs_file=options["inputs_file"],
        models=tried_models(options["models"]),
        offline=options["offline"],
        keep_going=options["keep_going"],
        fail_fast=options["fail_fast"],
        only=options["only"],
        until=options["until"],
        first=options["first"],
        key=options["key"],
        force=options["force"],
        prune_outputs=options["prune_outputs"],
        merge_edits=options["merge_edits"],
        allow_tools=options["allow_tools"],
        allow_unpriced=options["allow_unpriced"],
        trust_state=trusts_state(),
        concurrency=options["concurrency"],
        limits=limits,
        max_cost_usd_per_day=options["max_cost_usd_per_day"],
        max_cost_usd_per_month=options["max_cost_usd_per_month"],
        environ=environ,
    )


def check_selection(
    chosen: Mapping[Path, Sequence[str]], options: SharedOptions, *, refreshes: bool
) -> None:
    """Raise `UsageError` if steps are named without an option for them, or the other way round."""
    asked = {"only": options["only"], "until": options["until"]}
    wanting = [name for name, is_asked in asked.items() if is_asked]
    if len(wanting) > 1:
        raise UsageError("--only and --until are two things", hint="give one of them")
    if any(chosen.values()) and not (wanting or refreshes):
        hint = "add --only, --until or --refresh"
        raise UsageError("steps are named, and not what to do with them", hint=hint)
    if wanting and not all(chosen.values()):
        hint = f"for example flow.yaml:draft --{wanting[0]}"
        raise UsageError(f"--{wanting[0]} needs the name of a step", hint=hint)


def input_texts(pairs: Iterable[str]) -> dict[str, str]:
    """Read `NAME=VALUE` pairs; `@path` takes a file's text, `@-` standard input's, `@@` is an @.

    Raises `UsageError`.
    """
    texts: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise UsageError(f"--input {pair!r} is not NAME=VALUE", hint="for example topic=otters")
        texts[name] = _content(value)
    return texts


def tried_models(pairs: Iterable[str]) -> dict[str, str]:
    """Read the `ALIAS=NAME` pairs of `--model`. Raises `UsageError`."""
    models: dict[str, str] = {}
    for pair in pairs:
        alias, separator, name = pair.partition("=")
        if not separator or not alias or not name:
            hint = "for example writer=GPT-5.2; a model of no alias is changed in the flow"
            raise UsageError(f"--model {pair!r} is not ALIAS=NAME", hint=hint)
        if models.setdefault(alias, name) != name:
            hint = "run twice, once with each"
            raise UsageError(f"--model names two models for {alias}", hint=hint)
    return models


def models_known_to(found: Sequence[Checkup], models: Mapping[str, str]) -> list[dict[str, str]]:
    """Return for each flow those of the `models` to try whose aliases it has.

    Raises `UsageError` for one that no flow has.
    """
    known = [aliases_of(one) for one in found]
    every = frozenset[str]().union(*known)
    for alias in models:
        if alias not in every:
            raise UsageError(f'unknown model alias "{alias}"', hint=one_of(alias, every))
    return [{name: models[name] for name in models if name in own} for own in known]


def options_to_look(
    given: StatusCommandOptions, *, inputs: Iterable[str] = (), is_whole: bool = False
) -> RunOptions:
    """Return the options to look at instances with; `is_whole` if their results are shown, too."""
    return RunOptions(
        texts=input_texts(inputs),
        inputs_file=given["inputs_file"],
        models=tried_models(given["models"]),
        offline=given["offline"],
        first=given["first"],
        key=given["key"],
        environ=environment_with(given["env_file"]),
        trust_state=trusts_state(),
        listen=say_warning,
        holds_results=is_whole or given["output"] == "json",
    )


def options_to_plan(given: PlanCommandOptions) -> RunOptions:
    """Return the options to look at what a run would do."""
    is_whole = given["render"] is not None
    return msgspec.structs.replace(
        options_to_look(given, inputs=given["inputs"], is_whole=is_whole),
        max_cost_usd_per_day=given["max_cost_usd_per_day"],
        max_cost_usd_per_month=given["max_cost_usd_per_month"],
    )


def input_files(pairs: Iterable[str], inputs_file: Path | None = None) -> tuple[Path, ...]:
    """Return the files that `NAME=@path` pairs take their texts from, and the file of inputs."""
    values = (pair.partition("=")[2] for pair in pairs)
    found = (
        Path(value[1:]).absolute()
        for value in values
        if value.startswith("@") and not value.startswith("@@") and value != "@-"
    )
    return (*found, *filter(None, [inputs_file]))


def without_stdin(pairs: Iterable[str]) -> tuple[str, ...]:
    """Return the pairs with the text that `@-` stands for, so that they can be read twice."""
    return tuple(
        f"{pair[:-2]}{_as_value(sys.stdin.read())}" if pair.partition("=")[2] == "@-" else pair
        for pair in pairs
    )


def _content(value: str) -> str:
    if value.startswith("@@") or not value.startswith("@"):
        return value.removeprefix("@")
    if value == "@-":
        return sys.stdin.read()
    path = Path(value[1:])
    try:
        return text_of(read_given(path, limit=MAX_VALUE_BYTES))
    except NotTextError:
        raise UsageError(f"{path} is not UTF-8 text", hint="use an input of type file") from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise UsageError(
            f"{path}: {reason}", hint="write @@ for a value that begins with @"
        ) from None


def _as_value(text: str) -> str:
    return f"@{text}" if text.startswith("@") else text
