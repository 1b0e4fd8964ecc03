"""`poeflow run`: run flows and show them, or prove with `--locked` that nothing is to be run."""

import asyncio
from collections.abc import Sequence
from typing import Final, Unpack

import click
import msgspec

from poeflow.cli.changed_flows import as_now, checked_selections, reading_option, since_option
from poeflow.cli.ci import CiReports
from poeflow.cli.click_options import (
    Amount,
    RunCommandOptions,
    check_selection,
    junit_option,
    run_options,
    shared_options,
)
from poeflow.cli.completing import SELECTIONS
from poeflow.cli.output import RUN_OUTPUTS, RunFormat, output_option, say, say_warning
from poeflow.cli.private_files_options import environment_with, without_secrets
from poeflow.cli.problem_output import say_error
from poeflow.cli.process import ended_by_signals
from poeflow.engine.results import Outcome
from poeflow.errors import PoeflowError, StaleError, UsageError, most_serious
from poeflow.events import Listener
from poeflow.operations.check import Checkup
from poeflow.operations.proof import proof_of, proof_of_all
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.operations.state import workspace_of

_ASKING: Final = {
    "refresh": "--refresh",
    "failed": "--failed",
    "force": "--force",
    "models": "--model",
}
"""Options that have something asked or replaced, which `--locked` never does."""
_PARTS: Final = ("only", "until", "first", "key")
"""Options that choose a part of a flow."""
EPILOG: Final = """\b
Examples:
  poeflow run flows/notes.yaml --offline
  poeflow run flows/notes.yaml --input topic=otters --input text=@notes.md
  poeflow run flows/*.yaml --output jsonl > events.jsonl
  poeflow run flows/*.yaml --since origin/main --locked
  poeflow run --locked --reading prompts/tone.md data/log.csv
  poeflow run flows/notes.yaml:summarize --refresh
  poeflow run flows/notes.yaml:translate@German --only
  poeflow run flows/notes.yaml --model writer=GPT-5.2
"""


@click.command(epilog=EPILOG)
@click.argument(
    "flows",
    nargs=-1,
    metavar="FLOW[:STEP[@KEY]]...",
    shell_complete=SELECTIONS,
)
@shared_options
@output_option
@junit_option
@click.option(
    "--refresh", is_flag=True, help="Ask again even if answers are stored: all, or the steps named."
)
@click.option("--failed", is_flag=True, help="Ask again what failed in the last run.")
@click.option("--locked", is_flag=True, help="Send nothing; fail if anything is not current.")
@since_option
@reading_option
@click.option(
    "--wait",
    type=Amount(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another run to end.",
)
@click.pass_context
def run(
    ctx: click.Context, /, flows: tuple[str, ...], **options: Unpack[RunCommandOptions]
) -> None:
    """Run flows: only requests without a stored answer are sent.

    Results go to stdout, everything else to stderr. The key is read from POE_API_KEY; servers and
    limits of your own are in your configuration, see `poeflow config`.
    """
    if not flows and not options["reading"]:
        raise click.MissingParameter(param=ctx.command.params[0])
    with CiReports(options["output"], options["junit"]) as ci:
        environ = environment_with(options["env_file"])
        chosen, found = checked_selections(flows, options, ci.report_problems)
        if not found:
            ctx.exit(0)
        if options["locked"]:
            _check_locked(options, names_steps=any(chosen.values()))
        check_selection(chosen, options, refreshes=options["refresh"])
        given = run_options(found, options, environ)
        if options["locked"]:
            proving = msgspec.structs.replace(given[0], listen=say_warning)
            ctx.exit(
                _prove(found, proving, ci, all_locks=bool(options["reading"] or options["since"]))
            )
        outcomes: dict[str, Outcome] = {}
        for first, steps, of_flow in zip(found, chosen.values(), given, strict=True):
            checkup = as_now(first) if outcomes else first
            own = msgspec.structs.replace(of_flow, steps=tuple(steps))
            _announce_trial(checkup, own)
            run_one = _run_one(checkup, own, options["output"], ci.listeners(checkup, own))
            outcomes[checkup.shown] = asyncio.run(run_one)
        ci.write_results(
            {flow: one.outputs for flow, one in outcomes.items() if one.exit_code == 0}
        )
        RUN_OUTPUTS[options["output"]].print_results(outcomes)
        ctx.exit(most_serious(outcome.exit_code for outcome in outcomes.values()))


def _prove(found: Sequence[Checkup], given: RunOptions, ci: CiReports, *, all_locks: bool) -> int:
    """Report for each flow whether its lock proves it current, and return the exit code.

    With `all_locks` those of its inputs files have to, too.
    """
    proves = proof_of_all if all_locks else proof_of
    codes: list[int] = []
    for checkup in found:
        try:
            proof = proves(checkup, given)
        except PoeflowError as error:
            codes.append(say_error(checkup, error))
            ci.report_status(checkup, (), faults=(str(error),), level="error")
            continue
        ci.report_status(checkup, proof.statuses, faults=proof.faults, level="error")
        for line in (*(proof.reasons or ["current"]), *proof.advice):
            say(f"{checkup.shown}: {line}")
        codes += [StaleError.exit_code] * bool(proof.reasons)
    return most_serious(codes)


def _check_locked(options: RunCommandOptions, *, names_steps: bool) -> None:
    """Raise `UsageError` if `--locked` is combined with an option that contradicts it."""
    given: dict[str, object] = {**options}
    for name, option in _ASKING.items():
        if given[name]:
            hint = "--locked sends and writes nothing: give one of them"
            raise UsageError(f"--locked and {option} are two things", hint=hint)
    if names_steps or any(given[name] for name in _PARTS):
        hint = "poeflow plan FLOW says how each step stands"
        raise UsageError("--locked proves whole flows, not parts of them", hint=hint)


def _announce_trial(found: Checkup, given: RunOptions) -> None:
    """Say that a run tries other models, and what it leaves as it is."""
    if given.models:
        named = ", ".join(f"{alias}={name}" for alias, name in given.models.items())
        folder = workspace_of(found.project, given).trials
        where = f"files go to {folder}, outputs and lock stay as they are"
        say(f"{found.shown}: a trial of {named}; {where}")


async def _run_one(
    found: Checkup, given: RunOptions, output: RunFormat, also: Sequence[Listener]
) -> Outcome:
    """Run a flow and show it; `also` are further listeners. No secret is shown."""
    shows = RUN_OUTPUTS[output]
    with ended_by_signals() as ending, shows.listener() as shown:

        def stop() -> str:
            return given.stop() or (shown.reason_to_stop() if shows.events_are_all else "")

        listen = without_secrets(shown, also, given.environ)
        options = msgspec.structs.replace(
            given,
            listen=listen,
            hears_text=shown.hears_text,
            holds_results=False,
            stop=stop,
            cut_short=ending.exit_code,
        )
        return await run_checked(found, options)
