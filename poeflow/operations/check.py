"""Loads and checks the flows of a command, one by one and against each other."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from poeflow.digest import sha256_of
from poeflow.flowfile.inputs import inputs_path
from poeflow.flowfile.load import LoadResult
from poeflow.flowfile.load import load_flow as load_file
from poeflow.flowfile.project_settings import KnownSettings
from poeflow.opener import NotTextError, text_of
from poeflow.planning.checked import Checked
from poeflow.planning.files import save_conflicts
from poeflow.planning.flow_check import check as check_file
from poeflow.problems import Problem, limited
from poeflow.project.private_files import why_private
from poeflow.project.project import MAX_TEXT_BYTES, FileProblem, Project, Searches
from poeflow.project.read_log import ReadLog
from poeflow.templates.environment import Environment
from poeflow.templates.reader import ProjectReader
from poeflow.templates.work_budget import Allowance


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """The result of checking a flow. `checked` is None if the flow does not fit the schema."""

    project: Project
    loaded: LoadResult
    checked: Checked | None
    problems: tuple[Problem, ...]
    environment: Environment

    @property
    def shown(self) -> str:
        """The name of the flow in messages."""
        return self.loaded.document.path


def checkups(flows: Iterable[tuple[Project, str, str]]) -> list[Checkup]:
    """Load and check the flows of one command, each as `checkup` does, then all together.

    A file that two flows claim is a problem of the later flow.
    """
    allowance, searches, known = Allowance(), Searches(), KnownSettings()
    found = [checkup(*flow, allowance=allowance, searches=searches, known=known) for flow in flows]
    for root in {one.project.root for one in found}:
        places = [i for i, one in enumerate(found) if one.project.root == root]
        sound = [(i, c) for i in places if (c := found[i].checked) is not None]
        conflicts = save_conflicts([checked for _, checked in sound])
        for index, problem in conflicts:
            at = sound[index][0]
            problems = limited((*found[at].problems, problem))
            found[at] = msgspec.structs.replace(found[at], problems=problems)
    return found


def checkup(
    project: Project,
    path: str,
    shown: str,
    *,
    allowance: Allowance | None = None,
    searches: Searches | None = None,
    known: KnownSettings | None = None,
) -> Checkup:
    """Load and check one flow. `path` is its project path, `shown` its name in messages.

    The user named it, so the name of the file or of its folder may begin with a dot. `allowance`
    and `searches` bound the work of all flows of one command, `known` settings are not read again.
    """
    project = msgspec.structs.replace(_opened_for(project, path), searches=searches or Searches())
    loaded = load_file(project, path, shown=shown, known=known)
    environment = Environment(ProjectReader(project, Path.cwd()), allowance or Allowance())
    problems, checked = loaded.problems, None
    looked_at = loaded.file or loaded.draft
    if looked_at is not None:
        checked = check_file(project, looked_at, environment)
        problems = limited((*problems, *checked.problems))
    return Checkup(
        project=project,
        loaded=loaded,
        checked=checked if loaded.file is not None else None,
        problems=problems,
        environment=environment,
    )


def checked_again(found: Checkup) -> Checkup:
    """Load and check a flow again, as its files may have changed since it was checked."""
    file = found.loaded.file or found.loaded.draft
    return found if file is None else checkup(found.project, file.path, found.shown)


def _opened_for(project: Project, path: str) -> Project:
    """Return the project with access to the flow and its inputs file if private, and a read log."""
    parts = PurePosixPath(path[2:]).parts
    dotted = [count for count, part in enumerate(parts[:-1], 1) if part.startswith(".")]
    folders = [project.root.joinpath(*parts[: dotted[-1]])] if dotted else []
    files = [
        project.path_of(one) for one in (path, inputs_path(path)) if why_private(one[2:].split("/"))
    ]
    access = project.access.allowing(*folders, *files)
    return msgspec.structs.replace(project, access=access, log=project.log or ReadLog())


def text_as_checked(project: Project, shown: str) -> str:
    """Return the text of a file that the read log of a project holds, empty if it has changed."""
    path = Path(shown).parent.resolve() / Path(shown).name
    snapshot = project.log.files.get(path) if project.log is not None else None
    if snapshot is None or not snapshot.digest or not path.is_relative_to(project.root):
        return ""
    canonical = "//" + path.relative_to(project.root).as_posix()
    try:
        data = project.peek(canonical, limit=MAX_TEXT_BYTES)
        return text_of(data) if sha256_of(data) == snapshot.digest else ""
    except (FileProblem, NotTextError):
        return ""
