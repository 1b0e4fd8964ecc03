"""`poeflow run`: run flows and show them, or prove with `--locked` that nothing is to be run."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Unpack

import click

from poeflow.cli.ci import CiReports
from poeflow.cli.click_options import Chosen, check_selection, run_options, shared_options
from poeflow.cli.commands.check import show
from poeflow.cli.completing import SELECTIONS
from poeflow.cli.output import Output, listener, print_results
from poeflow.cli.private_files_options import access_of, environment_with, say, say_warning
from poeflow.cli.signals import Ending
from poeflow.cli.targets import Target, selections, target_of
from poeflow.engine.run import Outcome
from poeflow.errors import InvalidFlowError, StaleError, UsageError, most_serious
from poeflow.events import Event, Listener
from poeflow.operations.check import Checkup, checkups
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import proof_of
from poeflow.planning.plan import check_steps
from poeflow.problems import errors_only
from poeflow.redact import Scrubber
from poeflow.report.listeners import Lasting, scrubbed
from poeflow.settings import known_keys


def run_one(
    checked: Checkup, given: RunOptions, output: Output, *, also: tuple[Listener, ...] = ()
) -> Outcome:
    """Run a flow to its end, `also` heard by others; nothing that is shown holds a secret."""
    others = [Lasting(hear) for hear in also]
    with listener(output) as shown:

        def listen(event: Event) -> None:
            for hear in (shown, *others):
                hear(event)

        def stop() -> str:
            return given.stop() or (shown.reason_to_stop() if output == "jsonl" else "")

        heard = scrubbed(listen, Scrubber(*known_keys(given.environ)))
        ending = Ending()
        options = replace(given, listen=heard, stop=stop, cut_short=lambda: ending.exit_code)
        return ending.run(run_checked(checked, options))


_ASKING: Final = ("refresh", "failed", "force")
_PARTS: Final = ("only", "until", "first", "key")


def check_locked(chosen: Mapping[Path, Sequence[str]], options: Chosen) -> None:
    """Raise `UsageError` where `--locked` stands beside what it cannot be together with."""
    given: Mapping[str, object] = {**options}
    for name in _ASKING:
        if given[name]:
            hint = "--locked sends and writes nothing: give one of them"
            raise UsageError(f"--locked and --{name} are two things", hint=hint)
    if any(chosen.values()) or any(given[name] for name in _PARTS):
        hint = "poeflow plan FLOW says how each step stands"
        raise UsageError("--locked proves whole flows, not parts of them", hint=hint)


def prove(found: list[Target], checkups: list[Checkup], given: RunOptions, ci: CiReports) -> int:
    """Print what keeps flows from being proven current, and return the exit code."""
    code = 0
    for target, checked in zip(found, checkups, strict=True):
        proof = proof_of(checked, given)
        ci.stand(checked, proof)
        for line in proof.against or ["current"]:
            say(f"{target.shown}: {line}")
        if proof.against:
            code = StaleError.exit_code
    return code


EPILOG: Final = """\b
Examples:
  poeflow run flows/notes.yaml --offline
  poeflow run flows/notes.yaml --input topic=otters --input text=@notes.md
  poeflow run flows/*.yaml --output jsonl > events.jsonl
  poeflow run flows/notes.yaml:summarize --refresh
  poeflow run flows/notes.yaml:translate@German --only
"""


@click.command(epilog=EPILOG)
@click.argument(
    "flows",
    nargs=-1,
    required=True,
    metavar="FLOW[:STEP[@KEY]]...",
    shell_complete=SELECTIONS,
)
@shared_options
@click.option(
    "--output",
    type=click.Choice(["text", "json", "jsonl", "github"]),
    default="text",
    metavar="FORMAT",
    help="text (default): one result as it is, several as JSON; json; jsonl: every event; "
    "github: text, with annotations and a job summary.",
)
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write a JUnit report."
)
@click.option(
    "--refresh", is_flag=True, help="Ask again where an answer is stored: all, or the steps named."
)
@click.option("--failed", is_flag=True, help="Ask again what failed in the last run.")
@click.option("--locked", is_flag=True, help="Send nothing; fail if anything is not current.")
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

    Results go to stdout, everything else to stderr. The key is read from POE_API_KEY; other servers
    and limits of your own are in your configuration, see `poeflow config`.
    """
    chosen = selections(flows)
    with CiReports(options["output"], options["junit"], os.environ) as ci:
        ctx.exit(_run(chosen, options, ci))


def _run(chosen: Mapping[Path, Sequence[str]], options: Chosen, ci: CiReports) -> int:
    """Run the chosen flows and return the exit code."""
    environ = environment_with(options["env_file"])
    access = access_of(options["allow_files"], options["env_file"])
    found = [target_of(path, access) for path in chosen]
    checks = checkups((target.project, target.path, target.shown) for target in found)
    for checked in checks:
        show(checked.problems, (checked,))
        ci.tell(checked)
    if any(errors_only(checked.problems) for checked in checks):
        return InvalidFlowError.exit_code
    for checked, steps in zip(checks, chosen.values(), strict=True):
        if checked.checked is not None:
            check_steps(checked.checked, steps)
    if options["locked"]:
        check_locked(chosen, options)
    check_selection(chosen, options, refreshes=options["refresh"])
    given = run_options(checks, options, environ)
    if options["locked"]:
        return prove(found, checks, replace(given, listen=say_warning), ci)
    outcomes: dict[str, Outcome] = {}
    for target, checked, steps in zip(found, checks, chosen.values(), strict=True):
        own = replace(given, steps=tuple(steps))
        also = ci.listeners(checked)
        outcomes[target.shown] = run_one(checked, own, options["output"], also=also)
    if options["output"] != "jsonl":
        print_results(outcomes, options["output"])
    return most_serious(outcome.exit_code for outcome in outcomes.values())
