"""What git knows of a project: its commit, and older versions of its files.

Git is kept from what a repository's own configuration could have it run, or fetch.
"""

import subprocess
import tempfile
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Final

from poeflow.conflicts import has_marks

TIMEOUT: Final = 2.0
_QUIET: Final = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.untrackedCache=false"),
    *("-c", "core.sshCommand=false"),
    *("-c", "safe.bareRepository=explicit"),
)
"""What a repository's own configuration could have git run, turned off."""
_ALONE: Final = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "", "GIT_OPTIONAL_LOCKS": "0"}
MAX_VERSIONS: Final = 50
"""How far back an older version of a file is looked for, in commits that changed it."""


def git_state(root: Path, environ: Mapping[str, str]) -> tuple[str | None, bool | None]:
    """Return the commit `root` is at, and whether anything in it differs from that.

    Both are None where there is no git, no repository or no commit, or where git takes longer than
    two seconds. Nothing is written, and no network is used.
    """
    told = _git(root, environ, "status", "--porcelain=v2", "--branch", "--untracked-files=normal")
    if told is None:
        return None, None
    lines = told.decode("utf-8", "replace").splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if not commits or commits[0] == "(initial)":
        return None, None
    return commits[0], any(not line.startswith("#") for line in lines)


class GitFiles:
    """Older versions of the files below `root`, and merges with them."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ

    def versions(self, path: str) -> Iterator[bytes]:
        """Yield what the file at `path` held in commits before, the newest first.

        Nothing where there is no git or no repository.
        """
        count = f"--max-count={MAX_VERSIONS}"
        commits = _git(self._root, self._environ, "rev-list", count, "HEAD", "--", path) or b""
        for commit in commits.decode("ascii", "replace").split():
            found = _git(self._root, self._environ, "cat-file", "blob", f"{commit}:./{path}")
            if found is not None:
                yield found

    def merged(self, ours: bytes, base: bytes, theirs: bytes) -> tuple[bytes, bool] | None:
        """Return both changes of `base` in one text, and whether they are in conflict in it.

        Then both are there between marks. None where there is no git.
        """
        with tempfile.TemporaryDirectory(prefix="poeflow-") as folder:
            sides = {"edited": ours, "before": base, "answer": theirs}
            for name, data in sides.items():
                (Path(folder) / name).write_bytes(data)
            labels = [word for name in sides for word in ("-L", name)]
            words = ("merge-file", "-p", *labels, *sides)
            found = _git(Path(folder), self._environ, *words, fine=range(128))
        if found is None:
            return None
        return found, has_marks(found) and not has_marks(ours + base + theirs)


def _git(
    root: Path, environ: Mapping[str, str], *words: str, fine: Container[int] = (0,)
) -> bytes | None:
    """Return what git prints, None where it fails: ends with another code than those `fine`."""
    clean = {name: environ[name] for name in ("PATH", "HOME") if name in environ}
    try:
        done = subprocess.run(  # noqa: S603 - git itself, with words of ours
            ["git", *_QUIET, *words],  # noqa: S607 - wherever the user's PATH has it
            cwd=root,
            env={**clean, **_ALONE, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode in fine else None
