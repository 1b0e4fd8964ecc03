"""`poeflow run`: run flows, results on stdout, progress on stderr."""

import os
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click

from poeflow.api import Checkup, checkup, run_checked
from poeflow.cli.commands.check import show
from poeflow.cli.failures import secrets_in
from poeflow.cli.interrupts import run_until_done
from poeflow.cli.results import Output, listener, print_results
from poeflow.cli.targets import target_of
from poeflow.cli.values import environment, input_texts
from poeflow.engine.run import Outcome
from poeflow.errors import most_serious
from poeflow.problems import errors_only
from poeflow.redact import Scrubber
from poeflow.report.scrubbed import scrubbed
from poeflow.wiring import RunOptions

EPILOG: Final = """\b
Examples:
  poeflow run flows/notes.yaml --offline
  poeflow run flows/notes.yaml --input topic=otters --input text=@notes.md
  poeflow run flows/*.yaml --output jsonl > events.jsonl
"""


class _Options(TypedDict):
    inputs: tuple[str, ...]
    inputs_file: Path | None
    offline: bool
    output: Output
    concurrency: int | None
    keep_going: bool
    refresh: bool
    env_file: Path | None
    wait: float


@click.command(epilog=EPILOG)
@click.argument(
    "flows", nargs=-1, required=True, metavar="FLOW...", type=click.Path(path_type=Path)
)
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
@click.option("--refresh", is_flag=True, help="Ask again where an answer is stored.")
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
def run(ctx: click.Context, /, flows: tuple[Path, ...], **options: Unpack[_Options]) -> None:
    """Run flows: what was answered before is taken from the cache, the rest is asked.

    Results go to stdout, everything else to stderr. The key is read from POE_API_KEY.
    """
    found = [target_of(path) for path in flows]
    checkups = [checkup(target.project, target.path, target.shown) for target in found]
    for target, checked in zip(found, checkups, strict=True):
        show(list(checked.problems), {target.shown: checked.loaded.document.text})
    if any(errors_only(checked.problems) for checked in checkups):
        ctx.exit(3)
    texts = input_texts(options["inputs"])
    outcomes: dict[str, Outcome] = {}
    for target, checked in zip(found, checkups, strict=True):
        outcomes[target.shown] = _run_one(checked, texts, options)
    if options["output"] != "jsonl":
        print_results(outcomes, options["output"])
    ctx.exit(most_serious(outcome.exit_code for outcome in outcomes.values()))


def _run_one(checked: Checkup, texts: dict[str, str], options: _Options) -> Outcome:
    environ = environment(os.environ, options["env_file"])
    with listener(options["output"]) as listen:
        return run_until_done(
            run_checked(
                checked,
                RunOptions(
                    texts=texts,
                    inputs_file=options["inputs_file"],
                    offline=options["offline"],
                    keep_going=options["keep_going"],
                    refresh=options["refresh"],
                    concurrency=options["concurrency"],
                    wait=options["wait"],
                    environ=environ,
                    listen=scrubbed(listen, Scrubber(*secrets_in(environ))),
                ),
            )
        )
