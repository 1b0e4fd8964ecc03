"""Where the state of a project is: `.poeflow` in it, or its own folder in `POEFLOW_STATE_DIR`.

Only the user's environment decides this, never a file of the project.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from poeflow.digest import sha256_of
from poeflow.errors import UsageError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import really

STATE_NAME: Final = ".poeflow"
STATE_VARIABLE: Final = "POEFLOW_STATE_DIR"
_ODD: Final = lazy_pattern(r"[^A-Za-z0-9_-]+")
_LONGEST: Final = 40


def state_folder(root: Path, environ: Mapping[str, str]) -> Path:
    """Return the folder for the state of the project at `root`, which need not exist.

    Under `POEFLOW_STATE_DIR` it is named after the project, with a hash of its path, so that two
    projects never share one. Raises `UsageError` if that is not a safe place.
    """
    named = environ.get(STATE_VARIABLE, "").strip()
    if not named:
        return root / STATE_NAME
    try:
        own = really(root)
        place = really(_absolute(named))
        _check_safe(place)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{STATE_VARIABLE}: {named}: {reason}", hint="check the path") from None
    if place.is_relative_to(own):
        message = f"{STATE_VARIABLE}: {place} is in the project, where flows could read it"
        raise UsageError(message, hint="name a folder outside, or unset it for .poeflow")
    readable = _ODD.sub("-", own.name).strip("-")[:_LONGEST] or "project"
    return place / f"{readable}-{sha256_of(os.fsencode(own))[:16]}"


def is_elsewhere(environ: Mapping[str, str]) -> bool:
    """Return whether the user wants the state outside of projects."""
    return bool(environ.get(STATE_VARIABLE, "").strip())


def _absolute(named: str) -> Path:
    path = Path(named)
    if not path.is_absolute():
        message = f"{STATE_VARIABLE}: {named} is not an absolute path"
        raise UsageError(message, hint="begin it with /, as in /var/tmp/poeflow-state")
    return path


def _check_safe(place: Path) -> None:
    """Raise `UsageError` if others could put a folder of theirs in place of one of poeflow's."""
    try:
        status = place.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        message = f"{STATE_VARIABLE}: {place} is not a folder"
        raise UsageError(message, hint="name a folder; it is made if it is missing")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        message = f"{STATE_VARIABLE}: anyone may write to {place}"
        raise UsageError(message, hint=f"chmod o-w {place}")
    user = os.geteuid()
    if user and status.st_uid not in (user, 0):
        message = f"{STATE_VARIABLE}: {place} belongs to another user"
        raise UsageError(message, hint="name a folder of your own")
