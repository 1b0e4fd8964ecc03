"""`poeflow plan`: what a run would do, instance by instance, and why."""

import os
from pathlib import Path
from typing import Final

import click

from poeflow.cli.argument_values import input_texts
from poeflow.cli.click_options import part_options
from poeflow.cli.commands.check import show
from poeflow.cli.completing import FLOWS, INPUTS, INSTANCES
from poeflow.cli.output import conclude, print_lines, show_sheet
from poeflow.cli.private_files_options import (
    access_of,
    allow_file_option,
    say_warning,
    trust_state_option,
    trusts_state,
    without_keys,
)
from poeflow.cli.targets import instance_among, target_of
from poeflow.costs import Prices
from poeflow.operations.check import checkup
from poeflow.operations.run_context import prices_of
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import facts_of, rendered
from poeflow.problems import errors_only
from poeflow.records import InstanceStatus
from poeflow.report.github_commands import inert_json
from poeflow.report.history import request_lines
from poeflow.report.plan import as_json, lines, plan_sheet, summary

EPILOG: Final = """\b
Examples:
  poeflow plan flows/notes.yaml
  poeflow plan flows/notes.yaml --input topic=otters --all
  poeflow plan flows/notes.yaml --render translate@German
"""


@click.command(epilog=EPILOG)
@click.argument("flow", type=click.Path(path_type=Path), shell_complete=FLOWS)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an input.",
    shell_complete=INPUTS,
)
@click.option("--inputs-file", type=click.Path(path_type=Path), help="YAML or JSON with inputs.")
@click.option("--offline", is_flag=True, help="Plan a simulated run.")
@part_options
@click.option("--all", "all_", is_flag=True, help="List what is fresh, too.")
@click.option(
    "--render",
    metavar="STEP[@KEY]",
    help="Print the request of one instance.",
    shell_complete=INSTANCES,
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@trust_state_option
@allow_file_option
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    flow: Path,
    *,
    inputs: tuple[str, ...],
    inputs_file: Path | None,
    first: int | None,
    key: str | None,
    render: str | None,
    output: str,
    offline: bool,
    all_: bool,
    allow_files: tuple[Path, ...],
) -> None:
    """Say what a run would do and why, without network, key or code.

    Every instance is fresh, new, stale, missing, edited, skipped, needed again by another, or
    unknown until another has run.
    """
    target = target_of(flow, access_of(allow_files))
    found = checkup(target.project, target.path, target.shown)
    show(found.problems, (found,))
    if errors_only(found.problems):
        ctx.exit(3)
    options = RunOptions(
        texts=input_texts(inputs),
        inputs_file=inputs_file,
        offline=offline,
        first=first,
        key=key,
        environ=os.environ,
        trust_state=trusts_state(),
        listen=say_warning,
    )
    facts = facts_of(found, options)
    prices = prices_of(target.project, os.environ)
    if render is not None:
        _show_request(rendered(found, options, _named(facts, render)), output, prices)
    elif output == "json":
        click.echo(inert_json(without_keys()(as_json(facts, prices))))
    else:
        _show_facts(facts, prices, all_=all_)


def _named(facts: tuple[InstanceStatus, ...], wanted: str) -> InstanceStatus:
    """Return the fact of one instance. Raises `UsageError`."""
    by_name = {fact.id: fact for fact in facts}
    return by_name[instance_among(wanted, by_name)]


def _show_facts(facts: tuple[InstanceStatus, ...], prices: Prices, *, all_: bool) -> None:
    show_sheet(
        lambda marks, width: plan_sheet(facts, all_=all_, marks=marks, width=width),
        lines(facts, all_=all_),
    )
    conclude(summary(facts, prices))


def _show_request(fact: InstanceStatus, output: str, prices: Prices) -> None:
    if output == "json":
        click.echo(inert_json(without_keys()(as_json([fact], prices))))
    else:
        print_lines(request_lines(fact))
