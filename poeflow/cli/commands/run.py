"""`poeflow run`: run flows, results on stdout, progress on stderr."""

from dataclasses import replace
from pathlib import Path
from typing import Final, Unpack

import click

from poeflow.cli.commands.check import show
from poeflow.cli.one_run import run_one
from poeflow.cli.proving import prove
from poeflow.cli.results import print_results
from poeflow.cli.run_options import Chosen, check_selection, run_options
from poeflow.cli.targets import selections, target_of
from poeflow.engine.run import Outcome
from poeflow.errors import most_serious
from poeflow.problems import errors_only
from poeflow.wiring.checkup import checkup

EPILOG: Final = """\b
Examples:
  poeflow run flows/notes.yaml --offline
  poeflow run flows/notes.yaml --input topic=otters --input text=@notes.md
  poeflow run flows/*.yaml --output jsonl > events.jsonl
  poeflow run flows/notes.yaml:summarize --refresh
  poeflow run flows/notes.yaml:translate@German --only
"""


@click.command(epilog=EPILOG)
@click.argument("flows", nargs=-1, required=True, metavar="FLOW[:STEP[@KEY]]...")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an input; @FILE takes a file's text, @- standard input.",
)
@click.option("--inputs-file", type=click.Path(path_type=Path), help="YAML or JSON with inputs.")
@click.option("--offline", is_flag=True, help="Ask a local stand-in; nothing is sent or spent.")
@click.option(
    "--output",
    type=click.Choice(["text", "json", "jsonl"]),
    default="text",
    show_default=True,
    help="text: one result as it is, several as JSON; jsonl: every event.",
)
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Requests in flight, at most.")
@click.option("--keep-going", is_flag=True, help="After a failure, run what does not need it.")
@click.option("--fail-fast", is_flag=True, help="After a failure, do not finish what is asked.")
@click.option("--max-requests", type=click.IntRange(0), help="Requests sent, at most.")
@click.option("--max-tokens", type=click.IntRange(0), help="Reported tokens, at most.")
@click.option("--max-cost-usd", type=click.FloatRange(0), help="Estimated cost, at most.")
@click.option("--max-points", type=click.IntRange(0), help="Estimated points, at most.")
@click.option("--allow-unpriced", is_flag=True, help="Ask models whose price is not known.")
@click.option("--allow-tools", is_flag=True, help="Let the flow's Python functions run.")
@click.option(
    "--refresh", is_flag=True, help="Ask again where an answer is stored: all, or the steps named."
)
@click.option("--only", is_flag=True, help="Run the steps named, on what the others gave before.")
@click.option("--until", is_flag=True, help="Run the steps named and all they need.")
@click.option("--first", type=click.IntRange(1), metavar="N", help="Of each loop, the first N.")
@click.option("--key", metavar="GLOB", help="Of each loop, the instances whose key matches.")
@click.option("--force", is_flag=True, help="Replace output files that were edited.")
@click.option("--locked", is_flag=True, help="Send nothing; fail if anything is not current.")
@click.option("--env-file", type=click.Path(path_type=Path), help="File that holds POE_API_KEY.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another run to end.",
)
@click.pass_context
def run(ctx: click.Context, /, flows: tuple[str, ...], **options: Unpack[Chosen]) -> None:
    """Run flows: what was answered before is taken from the cache, the rest is asked.

    Results go to stdout, everything else to stderr. The key is read from POE_API_KEY.
    """
    chosen = selections(flows)
    check_selection(chosen, options)
    found = [target_of(path) for path in chosen]
    checkups = [checkup(target.project, target.path, target.shown) for target in found]
    for target, checked in zip(found, checkups, strict=True):
        show(list(checked.problems), {target.shown: checked.loaded.document.text})
    if any(errors_only(checked.problems) for checked in checkups):
        ctx.exit(3)
    given = run_options(checkups, options)
    if options["locked"]:
        ctx.exit(prove(found, checkups, given))
    outcomes: dict[str, Outcome] = {}
    for target, checked, steps in zip(found, checkups, chosen.values(), strict=True):
        own = replace(given, steps=steps)
        outcomes[target.shown] = run_one(checked, own, options["output"])
    if options["output"] != "jsonl":
        print_results(outcomes, options["output"])
    ctx.exit(most_serious(outcome.exit_code for outcome in outcomes.values()))
