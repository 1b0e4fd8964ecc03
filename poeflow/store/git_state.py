"""Which commit a project is at, asked of git; a repository that is hostile runs nothing."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TIMEOUT: Final = 2.0
_QUIET: Final = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.untrackedCache=false"),
)
"""What a repository's own configuration could have git run, turned off."""


def git_state(root: Path, environ: Mapping[str, str]) -> tuple[str | None, bool | None]:
    """Return the commit `root` is at, and whether anything in it differs from that.

    Both are None where there is no git, no repository or no commit, or where git takes longer than
    two seconds. Nothing is written, and no network is used.
    """
    told = _git(root, environ, "status", "--porcelain=v2", "--branch", "--untracked-files=normal")
    if told is None:
        return None, None
    lines = told.splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if not commits or commits[0] == "(initial)":
        return None, None
    return commits[0], any(not line.startswith("#") for line in lines)


def _git(root: Path, environ: Mapping[str, str], *words: str) -> str | None:
    clean = {name: environ[name] for name in ("PATH", "HOME") if name in environ}
    try:
        done = subprocess.run(  # noqa: S603 - git itself, with words of ours
            ["git", *_QUIET, *words],  # noqa: S607 - wherever the user's PATH has it
            cwd=root,
            env={**clean, "GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
