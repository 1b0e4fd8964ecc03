"""Options that several commands share, and the `RunOptions` they make."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, ParamSpec, TypedDict, TypeVar

import click

from poeflow.cli.argument_values import input_texts
from poeflow.cli.completing import INPUTS
from poeflow.cli.output import Output
from poeflow.cli.private_files_options import (
    allow_file_option,
    env_file_option,
    trust_state_option,
    trusts_state,
)
from poeflow.errors import UsageError
from poeflow.flowfile.model import Limits
from poeflow.operations.check import Checkup
from poeflow.operations.run_context import shared_budget
from poeflow.operations.run_options import RunOptions

P = ParamSpec("P")
T = TypeVar("T")


class Shared(TypedDict):
    """The options of every command that runs flows, as click hands them over."""

    inputs: tuple[str, ...]
    inputs_file: Path | None
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
    max_points: int | None


class Chosen(Shared):
    """Those of `poeflow run`."""

    output: Output
    junit: Path | None
    refresh: bool
    failed: bool
    locked: bool
    wait: float


def shared_options(command: Callable[P, T]) -> Callable[P, T]:
    """Give a command the options of `Shared`, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def part_options(command: Callable[P, T]) -> Callable[P, T]:
    """Give a command the options that choose instances of loops."""
    for option in reversed(_PART):
        command = option(command)
    return command


_PART: Final = (
    click.option("--first", type=click.IntRange(1), metavar="N", help="Of each loop, the first N."),
    click.option("--key", metavar="GLOB", help="Of each loop, the instances whose key matches."),
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
    click.option("--offline", is_flag=True, help="Ask a local stand-in; nothing is sent or spent."),
    click.option(
        "--concurrency", type=click.IntRange(1, 1000), help="Requests in flight, at most."
    ),
    click.option("--keep-going", is_flag=True, help="After a failure, run what does not need it."),
    click.option("--fail-fast", is_flag=True, help="After a failure, do not finish what is asked."),
    click.option("--max-requests", type=click.IntRange(0), help="Requests sent, at most."),
    click.option("--max-tokens", type=click.IntRange(0), help="Reported tokens, at most."),
    click.option("--max-cost-usd", type=click.FloatRange(0), help="Estimated cost, at most."),
    click.option("--max-points", type=click.IntRange(0), help="Estimated points, at most."),
    click.option("--allow-unpriced", is_flag=True, help="Ask models whose price is not known."),
    click.option("--allow-tools", is_flag=True, help="Let the flow's Python functions run."),
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


def check_selection(
    chosen: Mapping[Path, Sequence[str]], options: Shared, *, refreshes: bool
) -> None:
    """Raise `UsageError` where steps are named for nothing, or nothing is named for an option."""
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


def run_options(
    checkups: Sequence[Checkup], options: Chosen, environ: Mapping[str, str]
) -> RunOptions:
    """Return how to run all flows of a command: with one budget, which they share."""
    given = replace(
        shared_run_options(options, environ),
        refresh=options["refresh"],
        failed=options["failed"],
        wait=options["wait"],
    )
    return replace(given, budget=shared_budget(checkups[0].project, given))


def shared_run_options(options: Shared, environ: Mapping[str, str]) -> RunOptions:
    """Return how to run flows, as far as the options of all commands say so."""
    limits = Limits(
        max_requests=options["max_requests"],
        max_tokens=options["max_tokens"],
        max_cost_usd=options["max_cost_usd"],
        max_points=options["max_points"],
    )
    return RunOptions(
        texts=input_texts(options["inputs"]),
        inputs_file=options["inputs_file"],
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
        environ=environ,
    )
