"""Whether flows are proven current by their locks, told on stderr."""

import click

from poeflow.cli.private import without_keys
from poeflow.cli.targets import Target
from poeflow.errors import StaleError
from poeflow.redact import visible
from poeflow.report.workflow import inert
from poeflow.wiring.checkup import Checkup
from poeflow.wiring.options import RunOptions
from poeflow.wiring.surveying import lock_faults


def prove(found: list[Target], checkups: list[Checkup], given: RunOptions) -> int:
    """Print what keeps flows from being proven current, and return the exit code."""
    code = 0
    safe = without_keys()
    for target, checked in zip(found, checkups, strict=True):
        faults = lock_faults(checked, given)
        for fault in faults:
            click.echo(inert(visible(safe(f"{target.shown}: {fault}"))), err=True)
        if faults:
            code = StaleError.exit_code
        else:
            click.echo(inert(visible(f"{target.shown}: current")), err=True)
    return code
