"""Revisions of a project by the names git gives them: `main`, `v1.0`, `HEAD~2`, `main...HEAD`.

Names are looked up in the repository's files; git only computes with the hashes they have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from poeflow.errors import UsageError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.store.git import Git

_WRITTEN: Final = lazy_pattern(
    r"([^\x00-\x20~^:?*\[\\\x7f-]?[^\x00-\x20~^:?*\[\\\x7f]*)((?:[~^][0-9]{0,6})*)"
)
_SHORT: Final = lazy_pattern(r"[0-9a-f]{4,64}")
_HASH: Final = lazy_pattern(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_NAMES: Final = "name a branch, a tag or a commit, for example origin/main or HEAD~1"
_HEAD: Final = "HEAD"


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """A commit, and the name the user gave it."""

    name: str
    commit: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Two revisions to compare. `new` is None if it is the files on disk."""

    old: Revision
    new: Revision | None = None


def repository_of(root: Path, environ: Mapping[str, str], *, asked: str) -> Git:
    """Return git for the project at `root`. Raises `UsageError` if there is none.

    `asked` is what the user wrote that needs it.
    """
    git = Git.find(root, environ)
    if git is None:
        hint = "revisions are git's: run this in a clone, or `git init` and commit first"
        raise UsageError(f"{asked} needs a repository of git, and {root} is in none", hint=hint)
    return git


def is_span(written: str) -> bool:
    """Return whether a text is two revisions: `A..B`, or `A...B`."""
    return ".." in written


def span_of(git: Git, written: str) -> Span:
    """Return the revisions of `A..B`, or of `A...B`: B, and where it left A. Raises `UsageError`.

    An empty side is HEAD, as for git.
    """
    separator = "..." if "..." in written else ".."
    before, _, after = written.partition(separator)
    old, new = revision_of(git, before or _HEAD), revision_of(git, after or _HEAD)
    return Span(old=_base(git, old, new) if separator == "..." else old, new=new)


def span_since(git: Git, written: str) -> Span:
    """Return the span from a revision to the files on disk. Raises `UsageError`.

    `REV...` is where HEAD left REV.
    """
    if not written.endswith("..."):
        return Span(old=revision_of(git, written))
    old = revision_of(git, written.removesuffix("..."))
    return Span(old=_base(git, old, revision_of(git, _HEAD)))


def revision_of(git: Git, written: str) -> Revision:
    """Return the commit that `NAME`, `NAME~2` or `NAME^` stands for. Raises `UsageError`."""
    parts = _WRITTEN.fullmatch(written)
    if parts is None or "@{" in written:
        raise UsageError(f'"{written}" is not a revision', hint=_NAMES)
    name, steps = parts[1], parts[2]
    start = git.revision(name) or (name if _SHORT.fullmatch(name) else None)
    words = ("rev-parse", "--verify", "--quiet", f"{start}{steps}^{{commit}}")
    found = (git.ask(*words) or b"").strip() if start is not None else b""
    if not _HASH.fullmatch(found):
        raise _unknown(git, written)
    return Revision(name=written, commit=found.decode())


def _base(git: Git, old: Revision, new: Revision) -> Revision:
    """Return the newest commit that both have. Raises `UsageError`."""
    found = (git.ask("merge-base", old.commit, new.commit) or b"").strip()
    if not _HASH.fullmatch(found):
        more = "; this clone has not all of them: `git fetch --unshallow`" if git.is_shallow else ""
        message = f"{old.name} and {new.name} have no commit in common"
        raise UsageError(message, hint=f"compare them as {old.name}..{new.name}{more}")
    return Revision(name=f"{old.name}...{new.name}", commit=found.decode())


def _unknown(git: Git, written: str) -> UsageError:
    if git.ask("version") is None:
        return UsageError(f'"{written}" needs git, which does not run', hint="install git")
    if git.is_shallow:
        hint = f"this clone has not all commits: `git fetch --unshallow`, or {_NAMES}"
    elif written == "HEAD":
        hint = "the repository has no commit yet: commit first"
    else:
        hint = _NAMES
    return UsageError(f'git knows no revision "{written}"', hint=hint)
