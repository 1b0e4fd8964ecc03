"""How templates find files, by the project's rules: `include`, `import`, `read` and `glob`."""

from collections.abc import Callable
from typing import Any

from jinja2 import BaseLoader, Environment, TemplateNotFound, pass_context
from jinja2.runtime import Context

from poeflow.files import FileProblem
from poeflow.templates.reader import Reader
from poeflow.templates.texts import text_of


class Loader(BaseLoader):
    """Gives Jinja the texts of a reader, by canonical paths."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def canonical(self, path: object, *, relative_to: str) -> str:
        """Return the canonical path of a file there is. Raises `TemplateNotFound`."""
        try:
            return self._reader.source(text_of(path), relative_to=relative_to)[0]
        except FileProblem as error:
            raise TemplateNotFound(str(path), str(error)) from None

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        try:
            return self._reader.source(template, relative_to="//")[1], None, None
        except FileProblem as error:
            raise TemplateNotFound(template, str(error)) from None


def file_functions(reader: Reader) -> dict[str, Callable[..., Any]]:
    """Return `read` and `glob`; paths are relative to the file that calls them."""

    @pass_context
    def read(context: Context, path: object) -> str:
        return reader.source(text_of(path), relative_to=context.name or "//")[1]

    @pass_context
    def glob(context: Context, pattern: object) -> list[str]:
        return reader.glob(text_of(pattern), relative_to=context.name or "//")

    return {"read": read, "glob": glob}
