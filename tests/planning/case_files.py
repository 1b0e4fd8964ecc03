"""The flows of `tests/cases`, checked as `poeflow check` does."""

from pathlib import Path

from poeflow.flowfile.load import load_flow
from poeflow.planning.flow_check import check
from poeflow.problems import Problem
from poeflow.project.project import Project
from poeflow.report.problem_formats import problem_line
from poeflow.templates.environment import Environment
from poeflow.templates.reader import ProjectReader

CASES = Path(__file__).parents[1] / "cases"


def problems_in(root: Path, path: str) -> list[Problem]:
    """Return every problem of the flow at `path` below `root`, where files are called from."""
    project = Project(root.resolve())
    loaded = load_flow(project, f"//{path}", shown=path)
    found = set(loaded.problems)
    file = loaded.file or loaded.draft
    if file is not None:
        environment = Environment(ProjectReader(project, project.root))
        found |= set(check(project, file, environment).problems)
    return sorted(found)


def listing(root: Path, path: str) -> str:
    """Return the problems as the plain report tells them, less the name of the flow's own file."""
    lines = [problem_line(problem).removeprefix(f"{path}:") for problem in problems_in(root, path)]
    return "".join(f"{line}\n" for line in lines).replace(str(root.resolve()), "PROJECT")
