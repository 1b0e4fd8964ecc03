"""The templates of a script: compiled when it is read, rendered when a rule answers."""

from collections.abc import Mapping

from jinja2 import TemplateSyntaxError

from poeflow.digest import Json
from poeflow.flowfile.tree import Document, KeyPath
from poeflow.problems import Problem
from poeflow.project.project import Project
from poeflow.templates.environment import Environment
from poeflow.templates.origin import Origin
from poeflow.templates.reader import ProjectReader
from poeflow.templates.render import render
from poeflow.templates.template_errors import syntax_problem


class Wording:
    """The templates in `document`, which stands at the project path `canonical`."""

    def __init__(self, project: Project, document: Document, canonical: str) -> None:
        self._document = document
        self._canonical = canonical
        self._environment = Environment(ProjectReader(project, project.root))

    def problem(self, text: str, path: KeyPath) -> Problem | None:
        """Return what keeps the template at `path` from being one."""
        origin = self._origin(path)
        try:
            self._environment.template(text, origin)
        except TemplateSyntaxError as error:
            return syntax_problem(error, text, origin)
        return None

    def rendered(self, text: str, path: KeyPath, values: Mapping[str, Json]) -> str:
        """Render the template at `path`. Raises `TemplateError`."""
        return render(self._environment, text, self._origin(path), values)

    def _origin(self, path: KeyPath) -> Origin:
        return Origin(path=self._canonical, locate=self._document.locator(path))
