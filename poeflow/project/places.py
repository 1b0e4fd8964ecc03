"""Where a file that somebody names lies: in which project, and under which path there.

Links that stand in a project may lead on within it and no further. Those above every project, as a
linked home or a linked folder of temporary files, are the machine's own and followed.
"""

from pathlib import Path

import msgspec

from poeflow.opener import UnusableFileError, read_named, really
from poeflow.project.project import FileProblem, Project, marked_root


class Found(msgspec.Struct, frozen=True):
    """Where a path leads, by links that may be followed.

    `path` has no link in it, or is the link that leaves the project at `left`. `around` is the
    folder that the last link of a path stood in, else that of the file.
    """

    path: Path
    around: Path
    left: Path | None = None


def placed(path: Path) -> tuple[Project, str]:
    """Return the project of a file that somebody names, and its canonical path there.

    A path that leaves its project by a link gives that link: reading it says so.
    """
    found = find(path)
    root = found.left or Project.find(found.around).root
    if not found.path.is_relative_to(root):
        root = Project.find(found.path.parent).root
    return Project(root), "//" + found.path.relative_to(root).as_posix()


def leaves(path: Path) -> bool:
    """Whether a path leads out of a project by a link that stands in it."""
    return find(path).left is not None


def find(path: Path, *, is_held: bool = True) -> Found:
    """Follow a path link by link. Relative ones begin in the working folder, wherever it is.

    A link that `is_held` and that no project holds may still not leave the folder it lies in.
    """
    here = Path.cwd()
    found = Path(path.anchor) if path.is_absolute() else here
    parts = path.parts[1:] if path.is_absolute() else path.parts
    around = found
    for position, part in enumerate(parts, 1):
        around = found.parent if part == ".." else found
        entry = around if part == ".." else found / part
        if not entry.is_symlink():
            found = entry
            continue
        fence = _fence(around, here)
        if fence is None and is_held and position == len(parts):
            fence = around
        try:
            found = really(entry)
        except OSError:  # it goes round: whoever reads it says so
            return Found(entry, around, fence)
        if fence is not None and not found.is_relative_to(fence):
            return Found(entry, around, fence)
    return Found(found, around)


def read_given(path: Path, *, limit: int) -> bytes:
    """Read a file that the user names, a pipe among them. Raises `OSError`.

    One that lies in a project is held to what is read of it: regular files, and no link out.
    """
    found = find(path, is_held=False)
    root = found.left or _fence(found.around, Path.cwd())
    if root is None or not found.path.is_relative_to(root):
        return read_named(path, limit=limit)
    canonical = "//" + found.path.relative_to(root).as_posix()
    try:
        return Project(root).peek(canonical, limit=limit)
    except FileProblem as error:
        reason = error.message.removeprefix(f"{canonical} ").removeprefix(f"{canonical}: ")
        raise UnusableFileError(reason, error.hint) from None


def _fence(folder: Path, here: Path) -> Path | None:
    """Return the folder that a link in `folder` may not leave, None for one of the machine's own.

    Where nothing marks a project, what lies below the working folder counts as one.
    """
    marked = marked_root(folder)
    if marked is None and folder.is_relative_to(here) and here != here.parent:
        return here
    return marked
