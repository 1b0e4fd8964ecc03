"""Finds the project of a file that the user names, and its path there.

Links in a project may lead only to places in it. Links above every project, such as a linked home
or a linked folder of temporary files, belong to the machine and are followed.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from poeflow.opener import UnusableFileError, read_named, really
from poeflow.project.project import FileProblem, Project, marked_root


class FollowedPath(msgspec.Struct, frozen=True):
    """The result of following the links of a path.

    `path` has no links, or is the link that leaves the project at `left`. `around` is the folder
    of the last link of the path, else that of the file.
    """

    path: Path
    around: Path
    left: Path | None = None


def placed(path: Path) -> tuple[Project, str]:
    """Return the project of a file that the user names, and its canonical path there.

    For a path that leaves its project by a link, return that link: reading it reports this.
    """
    return placed_at(follow(path))


def placed_at(
    found: FollowedPath, project_of: Callable[[Path], Project] = Project.find
) -> tuple[Project, str]:
    """Do the same as `placed` for a path that was followed to `found`.

    `project_of` finds the project that a folder is in.
    """
    root = found.left or project_of(found.around).root
    if not found.path.is_relative_to(root):
        root = project_of(found.path.parent).root
    return Project(root), "//" + found.path.relative_to(root).as_posix()


def follow(path: Path, *, is_held: bool = True) -> FollowedPath:
    """Follow a path link by link. Relative ones begin in the working folder, wherever it is.

    If `is_held`, a link outside any project may not leave its folder either.
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
        except OSError:  # a cycle, which reading the file reports
            return FollowedPath(entry, around, fence)
        if fence is not None and not found.is_relative_to(fence):
            return FollowedPath(entry, around, fence)
    return FollowedPath(found, around)


def read_given(path: Path, *, limit: int) -> bytes:
    """Read a file or pipe that the user names. Raises `OSError`.

    In a project only regular files are read, and no links that leave it.
    """
    found = follow(path, is_held=False)
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
    """Return the folder that a link in `folder` may not leave, None for links of the machine.

    If there is no project, everything below the working folder counts as one.
    """
    marked = marked_root(folder)
    if marked is None and folder.is_relative_to(here) and here != here.parent:
        return here
    return marked
