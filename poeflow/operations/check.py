"""A flow loaded and checked, with what it was checked in."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from poeflow.flowfile.inputs import beside
from poeflow.flowfile.limit_problems import enough
from poeflow.flowfile.load import Loaded
from poeflow.flowfile.load import load as load_file
from poeflow.planning.checked import Checked
from poeflow.planning.files import clashes
from poeflow.planning.flow_check import check as check_file
from poeflow.problems import Problem
from poeflow.project.private_files import why_private
from poeflow.project.project import Project, Searches
from poeflow.project.read_log import ReadLog
from poeflow.templates.budget import Allowance
from poeflow.templates.environment import Environment
from poeflow.templates.reader import ProjectReader


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """What checking a flow found. `checked` is None where its shape is invalid."""

    project: Project
    loaded: Loaded
    checked: Checked | None
    problems: tuple[Problem, ...]
    environment: Environment


def checkups(flows: Iterable[tuple[Project, str, str]]) -> list[Checkup]:
    """Load and check the flows of one command, each as `checkup` does, and look at them together.

    What two of them claim is a problem of the later one.
    """
    allowance, searches = Allowance(), Searches()
    found = [checkup(*flow, allowance=allowance, searches=searches) for flow in flows]
    for root in {one.project.root for one in found}:
        places = [i for i, one in enumerate(found) if one.project.root == root]
        sound = [(i, c) for i in places if (c := found[i].checked) is not None]
        told = clashes(found[places[0]].project, [checked for _, checked in sound])
        for index, problem in told:
            at = sound[index][0]
            problems = enough((*found[at].problems, problem))
            found[at] = msgspec.structs.replace(found[at], problems=problems)
    return found


def checkup(
    project: Project,
    path: str,
    shown: str,
    *,
    allowance: Allowance | None = None,
    searches: Searches | None = None,
) -> Checkup:
    """Load and check one flow. `path` is its project path, `shown` what messages call it.

    It was named by the user: it and the folder it lies in may begin with a dot. `allowance` and
    `searches` bound the work of all flows of one command.
    """
    project = msgspec.structs.replace(_opened_for(project, path), searches=searches or Searches())
    loaded = load_file(project, path, shown=shown)
    environment = Environment(ProjectReader(project, Path.cwd()), allowance or Allowance())
    problems, checked = loaded.problems, None
    looked_at = loaded.file or loaded.draft
    if looked_at is not None:
        checked = check_file(project, looked_at, environment)
        problems = enough((*problems, *checked.problems))
    return Checkup(
        project=project,
        loaded=loaded,
        checked=checked if loaded.file is not None else None,
        problems=problems,
        environment=environment,
    )


def _opened_for(project: Project, path: str) -> Project:
    """Return the project with what a flow may read that its user named, and a log of it."""
    parts = PurePosixPath(path[2:]).parts
    dotted = [count for count, part in enumerate(parts[:-1], 1) if part.startswith(".")]
    folders = [project.root.joinpath(*parts[: dotted[-1]])] if dotted else []
    files = [
        project.path_of(one) for one in (path, beside(path)) if why_private(one[2:].split("/"))
    ]
    access = project.access.allowing(*folders, *files)
    return msgspec.structs.replace(project, access=access, log=project.log or ReadLog())
