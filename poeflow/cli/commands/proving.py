"""Whether flows are proven current by their locks, told on stderr and in reports for CI."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from poeflow.cli.ci import CiReports
from poeflow.cli.click_options import Chosen
from poeflow.cli.private_files_options import say
from poeflow.cli.targets import Target
from poeflow.errors import StaleError, UsageError
from poeflow.operations.check import Checkup
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import proof_of

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
