"""How `include` and `import` find their files: by the project's rules."""

from collections.abc import Callable

from jinja2 import BaseLoader, Environment, TemplateNotFound

from poeflow.files import FileProblem
from poeflow.templates.reader import Reader


class Loader(BaseLoader):
    """Gives Jinja the texts of a reader, by canonical paths."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        try:
            return self._reader.source(template, relative_to="//")[1], None, None
        except FileProblem as error:
            raise TemplateNotFound(template, str(error)) from None
