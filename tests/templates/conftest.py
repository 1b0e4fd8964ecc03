"""A real project on disk, and what a flow in it would hand to its templates."""

from collections.abc import Callable
from pathlib import Path

import pytest

from poeflow.project.project import Project
from poeflow.templates.environment import Environment
from poeflow.templates.names import check_expression, check_template
from poeflow.templates.reader import Origin, ProjectReader
from poeflow.templates.render import evaluate, render, render_path, render_value
from poeflow.templates.scopes import CheckedTemplate, Scope
from poeflow.templates.work_budget import Allowance

SCOPE = Scope(inputs=frozenset({"topic", "rows"}), steps=frozenset({"draft", "outline"}))
VALUES = {
    "inputs": {"topic": "cats", "rows": [{"name": "Ada", "age": 36}, {"name": "Bo", "age": 7}]},
    "steps": {
        "draft": {
            "text": "a draft",
            "data": {"items": [1, 2], "ok": True, "none": None},
            "status": "ok",
        },
        "outline": {"text": "an outline"},
    },
    "flow": {"name": "demo"},
}


class House:
    """Checks and renders texts that stand in `//prompts/main.md`."""

    values = VALUES

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        self.environment = Environment(ProjectReader(Project(root.resolve()), root.resolve()))

    def share(self, allowance: Allowance) -> Allowance:
        """Render from now on at the cost of an allowance."""
        self.environment = Environment(self.environment.reader, allowance)
        return allowance

    def origin(self, text: str) -> Origin:
        return Origin.for_file("//prompts/main.md", text, shown="prompts/main.md")

    def check(self, text: str, scope: Scope = SCOPE, *, is_path: bool = False) -> CheckedTemplate:
        return check_template(self.environment, text, self.origin(text), scope, is_path=is_path)

    def problems(self, text: str, scope: Scope = SCOPE) -> list[str]:
        """Check, and return the problems without the name of the file."""
        found = self.check(text, scope).problems
        return [str(problem).removeprefix("prompts/main.md:") for problem in found]

    def check_expression(self, text: str) -> CheckedTemplate:
        return check_expression(self.environment, text, self.origin(text), SCOPE)

    def render(self, text: str) -> str:
        return render(self.environment, text, self.origin(text), VALUES)

    def path(self, text: str) -> str:
        return render_path(self.environment, text, self.origin(text), VALUES)

    def value(self, text: str) -> object:
        return render_value(self.environment, text, self.origin(text), VALUES)

    def evaluate(self, text: str) -> object:
        return evaluate(self.environment, text, self.origin(text), VALUES)


@pytest.fixture
def make_house(tmp_path: Path) -> Callable[[dict[str, str]], House]:
    return lambda files: House(tmp_path, files)


@pytest.fixture
def house(make_house: Callable[[dict[str, str]], House]) -> House:
    return make_house({})
