"""`poeflow status`: show for every step whether it is current, one line per step."""

from pathlib import Path
from typing import Final, Unpack

import click
import msgspec

from poeflow.cli.changed_flows import only_changed, since_option
from poeflow.cli.ci import CiReports
from poeflow.cli.click_options import (
    StatusCommandOptions,
    junit_option,
    model_option,
    models_known_to,
    options_to_look,
    part_options,
    states_output_option,
)
from poeflow.cli.completing import FLOWS
from poeflow.cli.output import print_document, show_sheet
from poeflow.cli.private_files_options import (
    access_of,
    allow_file_option,
    env_file_option,
    trust_state_option,
)
from poeflow.cli.problem_output import say_error, show_problems
from poeflow.cli.targets import flow_targets
from poeflow.digest import encode_json
from poeflow.errors import InvalidFlowError, PoeflowError, most_serious
from poeflow.operations.check import checkup
from poeflow.operations.locks import lacking
from poeflow.operations.status import statuses_of, with_earlier_names
from poeflow.problems import errors_only
from poeflow.records import InstanceStatus
from poeflow.report.plan import status_lines, status_table

EPILOG: Final = """\b
Examples:
  poeflow status
  poeflow status flows/notes.yaml --output json
  poeflow status flows --output github --junit junit.xml
  poeflow status flows/notes.yaml --model writer=GPT-5.2
  poeflow status --since main
"""


@click.command(epilog=EPILOG)
@click.argument("flows", nargs=-1, metavar="FLOW...", shell_complete=FLOWS)
@click.option("--inputs-file", type=click.Path(path_type=Path), help="YAML or JSON with inputs.")
@model_option("Look at another model for an alias.")
@click.option("--offline", is_flag=True, help="Look at the simulated runs.")
@part_options
@since_option
@states_output_option
@junit_option
@trust_state_option
@allow_file_option
@env_file_option
@click.pass_context
def status(
    ctx: click.Context, /, flows: tuple[str, ...], **options: Unpack[StatusCommandOptions]
) -> None:
    """Show for every step whether it is current, or why not. Nothing is sent or written.

    Files, folders and globs are fine; without any, the flows below this folder.
    """
    output, inputs_file = options["output"], options["inputs_file"]
    given = options_to_look(options)
    found: dict[str, tuple[InstanceStatus, ...]] = {}
    codes: list[int] = []
    targets = flow_targets(flows or (".",), access_of(options["allow_files"], options["env_file"]))
    with CiReports(output, options["junit"]) as ci:
        checks = [checkup(*target) for target in targets]
        looked_at = only_changed(checks, options["since"], given=filter(None, [inputs_file]))
        models_of = models_known_to(looked_at, given.models)
        for one, tried in zip(looked_at, models_of, strict=True):
            ci.report_problems(one)
            if errors_only(one.problems):
                show_problems(errors_only(one.problems), (one,))
                codes.append(InvalidFlowError.exit_code)
                continue
            try:
                chosen = msgspec.structs.replace(given, models=tried)
                statuses = statuses_of(one, chosen)
                found[one.shown] = with_earlier_names(one, chosen, statuses)
            except PoeflowError as error:
                lacks = lacking(one, error, given)
                codes.append(say_error(one, error, lacks=lacks, named=flows))
                if codes[-1]:
                    ci.report_status(one, (), faults=(str(error),), level="error")
                continue
            ci.report_status(one, found[one.shown])
    _show(found, output)
    ctx.exit(most_serious(codes))


def _show(found: dict[str, tuple[InstanceStatus, ...]], output: str) -> None:
    if output == "json":
        document = encode_json({name: list(statuses) for name, statuses in found.items()}).decode()
        print_document(document)
        return
    show_sheet(
        lambda marks, width: status_table(found, marks=marks, width=width), status_lines(found)
    )
