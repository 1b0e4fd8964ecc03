"""`poeflow plan`: show what a run would do, instance by instance, and why."""

import os
from pathlib import Path
from typing import Final, Unpack

import click

from poeflow.cli.changed_flows import changed_flow, since_option
from poeflow.cli.ci import CiReports
from poeflow.cli.click_options import (
    PlanCommandOptions,
    input_files,
    junit_option,
    model_option,
    options_to_plan,
    plan_options,
    states_output_option,
)
from poeflow.cli.completing import FLOWS, INPUTS, INSTANCES
from poeflow.cli.output import conclude, print_document, print_lines, show_sheet
from poeflow.cli.private_files_options import (
    access_of,
    allow_file_option,
    env_file_option,
    trust_state_option,
)
from poeflow.cli.targets import instance_among
from poeflow.operations.budgets import PeriodCost, period_costs, prices_of
from poeflow.operations.state import workspace_of
from poeflow.operations.status import statuses_of, with_request
from poeflow.records import InstanceStatus
from poeflow.report.history import request_lines
from poeflow.report.plan import as_json, plan_lines, plan_summary, plan_table

EPILOG: Final = """\b
Examples:
  poeflow plan flows/notes.yaml
  poeflow plan flows/notes.yaml --input topic=otters --all
  poeflow plan flows/notes.yaml --since HEAD~1
  poeflow plan flows/notes.yaml --render translate@German
  poeflow plan flows/notes.yaml --output github --junit junit.xml
  poeflow plan flows/notes.yaml --model writer=GPT-5.2
  poeflow plan flows/notes.yaml --max-cost-usd-per-day 5
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
@model_option("Plan a trial of another model for an alias.")
@click.option("--offline", is_flag=True, help="Plan a simulated run.")
@plan_options
@since_option
@click.option("--all", "all_", is_flag=True, help="List what is fresh, too.")
@click.option(
    "--render",
    metavar="STEP[@KEY]",
    help="Print the request of one instance.",
    shell_complete=INSTANCES,
)
@states_output_option
@junit_option
@trust_state_option
@allow_file_option
@env_file_option
def plan(flow: Path, **options: Unpack[PlanCommandOptions]) -> None:
    """Show what a run would do and why, without network, key or code.

    Every instance is fresh, new, stale, missing, edited, skipped, needed again by another, or
    unknown until another has run.
    """
    output, render, inputs_file = options["output"], options["render"], options["inputs_file"]
    given = options_to_plan(options)
    with CiReports(output, options["junit"]) as ci:
        files = input_files(options["inputs"], inputs_file)
        access = access_of(options["allow_files"], options["env_file"])
        found = changed_flow(flow, access, options["since"], ci.report_problems, given=files)
        if found is None:
            _show_nothing(output)
            return
        statuses = statuses_of(found, given)
        prices = prices_of(found.project, os.environ)
        summary = plan_summary(statuses, prices)
        ci.report_status(found, statuses, note=summary)
    if render is not None:
        statuses = (with_request(found, given, _named(statuses, render)),)
    if output == "json":
        print_document(as_json(statuses, prices))
    elif render is not None:
        print_lines(request_lines(statuses[0]))
    else:
        _show_statuses(statuses, all_=options["all_"])
        conclude(summary)
        for cost in period_costs(found.project, workspace_of(found.project, given), given):
            conclude(_left(cost))


def _show_nothing(output: str) -> None:
    if output == "json":
        click.echo("[]")


def _left(cost: PeriodCost) -> str:
    """Return what is left of the budget of a day or month."""
    used, limit = float(cost.cost_usd), cost.limit.value
    requests = "request" if cost.unknown == 1 else "requests"
    unknown = f"; {cost.unknown:,} {requests} of unknown cost" if cost.unknown else ""
    return (
        f"{cost.period.name}: {max(limit - used, 0.0):,.4g} of {limit:,g} USD left"
        f" ({cost.limit.owner}), {used:,.4g} used{unknown}"
    )


def _named(statuses: tuple[InstanceStatus, ...], wanted: str) -> InstanceStatus:
    """Return the status of the instance `wanted`. Raises `UsageError`."""
    by_name = {status.id: status for status in statuses}
    return by_name[instance_among(wanted, by_name)]


def _show_statuses(statuses: tuple[InstanceStatus, ...], *, all_: bool) -> None:
    show_sheet(
        lambda marks, width: plan_table(statuses, all_=all_, marks=marks, width=width),
        plan_lines(statuses, all_=all_),
    )
