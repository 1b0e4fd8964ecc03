"""The files of a revision: their names, their contents in a folder, and which differ from disk.

Names and contents come from commits of strangers: nothing is written outside the given folder,
not through a link either.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import msgspec

from poeflow.errors import UsageError
from poeflow.store.folders import disk_errors
from poeflow.store.git import Git

MAX_FILES: Final = 50_000
"""How many files of a revision are read."""
MAX_FILE: Final = 24 * 1024 * 1024
"""Bytes of a file; a larger one is left out, as it can be no attachment either."""
MAX_BYTES: Final = 512 * 1024 * 1024
"""Bytes of all files that are read of a revision."""
_LISTED: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 16 * 1024 * 1024
MANY: Final = 5000
"""How many contents git is asked for at once."""
_HEAD: Final = 200
"""Bytes that git prints before each content, at most."""
_KINDS: Final = {b"100644": "file", b"100755": "file", b"120000": "link"}
_UNFIT: Final = frozenset(
    {
        *(errno.EEXIST, errno.EILSEQ, errno.EINVAL, errno.EISDIR),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR),
    }
)
"""Errors for a name that is too long, has no spelling there, or is another's without case.

Windows says of a path that is too long that there is no such file.
"""
_NO_LINKS: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM})
_NEVER: Final = frozenset({"", ".", "..", ".git", ".poeflow"})
_TOO_LARGE: Final = (
    "put a poeflow.toml into the folder of the flows: only what is below it is compared"
)


class TreeFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a revision: its project path, the hash of its content, and its size in bytes."""

    path: str
    content: str
    size: int
    kind: Literal["file", "link"] = "file"


def files_of(git: Git, commit: str) -> tuple[TreeFile, ...]:
    """Return the files of a commit that are in the project. Raises `UsageError` for too many."""
    printed = git.ask("ls-tree", "-r", "-z", "-l", commit, most=_LISTED)
    if printed is None:
        message = f"git cannot list the files of {commit[:12]}"
        raise UsageError(message, hint="fetch the commit with all its files, or check `git fsck`")
    found = tuple(_files(printed.split(b"\0")))
    if len(found) > MAX_FILES:
        raise UsageError(f"{commit[:12]} has over {MAX_FILES:,} files", hint=_TOO_LARGE)
    return found


def committed_paths(git: Git, commit: str) -> frozenset[str]:
    """Return the project paths of the files of a commit; none if git fails."""
    printed = git.ask("ls-tree", "-r", "-z", "--name-only", commit, most=_LISTED) or b""
    return frozenset(f"//{os.fsdecode(name)}" for name in printed.split(b"\0") if name)


def _files(lines: Iterable[bytes]) -> Iterator[TreeFile]:
    for line in lines:
        about, _, name = line.partition(b"\t")
        fields = about.split()
        path = os.fsdecode(name)
        is_sound = len(fields) == 4 and _NEVER.isdisjoint(path.lower().split("/"))
        kind = _KINDS.get(fields[0]) if is_sound else None
        if kind is not None and fields[3].isdigit() and int(fields[3]) <= MAX_FILE:
            yield TreeFile(
                path=f"//{path}",
                content=fields[2].decode(),
                size=int(fields[3]),
                kind="link" if kind == "link" else "file",
            )


def write_files(git: Git, files: Sequence[TreeFile], folder: Path, *, at_once: int = MANY) -> None:
    """Write files into an empty folder. Raises `UsageError` if they are too large or missing.

    Links come last, so that nothing is written through one; those that leave the folder are left
    out, and so are names that the file system does not take. Raises `DiskError` if the disk is
    full or cannot be written.
    """
    if sum(one.size for one in files) > MAX_BYTES:
        megabytes = MAX_BYTES // 1024**2
        raise UsageError(f"a revision has over {megabytes:,} MiB of files", hint=_TOO_LARGE)
    ordered = sorted(files, key=lambda one: one.kind == "link")
    for batch in _batches(ordered, at_once):
        for file, data in zip(batch, _contents(git, batch), strict=True):
            with disk_errors(folder / file.path[2:], "written"), _unfit_names(file):
                _write(folder, file, data)


@contextlib.contextmanager
def _unfit_names(file: TreeFile) -> Iterator[None]:
    """Pass over a file with a name, or a link, that the file system cannot have."""
    try:
        yield
    except ValueError:
        return
    except OSError as error:
        if error.errno not in (_UNFIT | _NO_LINKS if file.kind == "link" else _UNFIT):
            raise


def _batches(files: Iterable[TreeFile], most: int) -> Iterator[list[TreeFile]]:
    batch: list[TreeFile] = []
    size = 0
    for file in files:
        if batch and (size + file.size > _AT_ONCE or len(batch) == most):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _contents(git: Git, files: Sequence[TreeFile]) -> Iterator[bytes]:
    given = "".join(f"{one.content}\n" for one in files).encode()
    most = sum(one.size + _HEAD for one in files)
    printed = git.ask("cat-file", "--batch", given=given, most=most)
    at = 0
    for file in files:
        head = f"{file.content} blob {file.size}\n".encode()
        if printed is None or not printed.startswith(head, at):
            message = f"git cannot read {file.path[2:]} of a revision"
            raise UsageError(message, hint="fetch the commit with all its files")
        at += len(head)
        yield printed[at : at + file.size]
        at += file.size + 1


def _write(folder: Path, file: TreeFile, data: bytes) -> None:
    target = folder / file.path[2:]
    if file.kind == "link":
        if _stays(file.path, os.fsdecode(data)) and target.parent.resolve() == target.parent:
            target.symlink_to(os.fsdecode(data))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _stays(path: str, end: str) -> bool:
    """Return whether a link leads into the project: up first, then only down."""
    parts, depth = PurePosixPath(end).parts, path.count("/") - 2
    ups = len(list(itertools.takewhile(lambda part: part == "..", parts)))
    return not end.startswith("/") and ups <= depth and ".." not in parts[ups:]


def changed_since(git: Git, commit: str) -> frozenset[str]:
    """Return the project paths of files that differ from a commit: changed, new or gone.

    New files that git does not ignore count. Raises `UsageError` if git fails.
    """
    shown = ("--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv")
    flags = ("--relative", "--ignore-submodules=all")
    differing = git.ask("diff", *shown, *flags, commit, "--", ".", most=_LISTED)
    untracked = ("--others", "--exclude-standard", "-z")
    new = git.ask("ls-files", *untracked, "--", ".", most=_LISTED)
    if differing is None or new is None:
        message = f"git cannot compare the files with {commit[:12]}"
        raise UsageError(message, hint="try `git status` and `git diff`, which may say why")
    names = {*differing.split(b"\0"), *new.split(b"\0")} - {b""}
    return frozenset(f"//{os.fsdecode(name)}" for name in names)


def changed_between(old: Iterable[TreeFile], new: Iterable[TreeFile]) -> frozenset[str]:
    """Return the project paths of files that two revisions do not have alike."""
    before = {(one.path, one.content, one.kind) for one in old}
    after = {(one.path, one.content, one.kind) for one in new}
    return frozenset(path for path, _, _ in before ^ after)
