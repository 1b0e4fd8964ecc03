"""What a command line says of how to run, for all commands that run flows."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from poeflow.cli.results import Output
from poeflow.cli.values import environment, input_texts
from poeflow.errors import UsageError
from poeflow.spec.model import Limits
from poeflow.wiring.budgets import shared_budget
from poeflow.wiring.checkup import Checkup
from poeflow.wiring.options import RunOptions


class Chosen(TypedDict):
    """The options as click hands them over."""

    inputs: tuple[str, ...]
    inputs_file: Path | None
    offline: bool
    output: Output
    concurrency: int | None
    keep_going: bool
    fail_fast: bool
    refresh: bool
    only: bool
    until: bool
    first: int | None
    key: str | None
    force: bool
    locked: bool
    allow_tools: bool
    allow_unpriced: bool
    max_requests: int | None
    max_tokens: int | None
    max_cost_usd: float | None
    max_points: int | None
    env_file: Path | None
    wait: float


def check_selection(chosen: Mapping[Path, Sequence[str]], options: Chosen) -> None:
    """Raise `UsageError` where steps are named for nothing, or nothing is named for an option."""
    wanting = [name for name in ("only", "until") if options[name]]
    if len(wanting) > 1:
        raise UsageError("--only and --until are two things", hint="give one of them")
    if any(chosen.values()) and not (wanting or options["refresh"]):
        hint = "add --only, --until or --refresh"
        raise UsageError("steps are named, and not what to do with them", hint=hint)
    if wanting and not all(chosen.values()):
        hint = f"for example flow.yaml:draft --{wanting[0]}"
        raise UsageError(f"--{wanting[0]} needs the name of a step", hint=hint)


def run_options(checkups: Sequence[Checkup], options: Chosen) -> RunOptions:
    """Return how to run all flows of a command: with one budget, which they share."""
    limits = Limits(
        max_requests=options["max_requests"],
        max_tokens=options["max_tokens"],
        max_cost_usd=options["max_cost_usd"],
        max_points=options["max_points"],
    )
    given = RunOptions(
        texts=input_texts(options["inputs"]),
        inputs_file=options["inputs_file"],
        offline=options["offline"],
        keep_going=options["keep_going"],
        fail_fast=options["fail_fast"],
        refresh=options["refresh"],
        only=options["only"],
        until=options["until"],
        first=options["first"],
        key=options["key"],
        force=options["force"],
        allow_tools=options["allow_tools"],
        allow_unpriced=options["allow_unpriced"],
        concurrency=options["concurrency"],
        limits=limits,
        wait=options["wait"],
        environ=environment(os.environ, options["env_file"]),
    )
    return replace(given, budget=shared_budget(checkups[0].project, given))
