"""How templates find files, by the project's rules, and the functions they may call."""

from collections.abc import Callable
from typing import Any, Final

from jinja2 import BaseLoader, Environment, TemplateNotFound, pass_context
from jinja2.runtime import Context
from jinja2.utils import Namespace

from poeflow.project.project import FileProblem
from poeflow.templates.budget import Budget
from poeflow.templates.mapping_keys import mapping_of, namespace_of
from poeflow.templates.reader import Reader
from poeflow.templates.values import text_of


class Loader(BaseLoader):
    """Gives Jinja the texts of a reader, by canonical paths."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def canonical(self, path: object, *, relative_to: str) -> str:
        """Return the canonical path of a file there is. Raises `TemplateNotFound`."""
        try:
            return self._reader.source(text_of(path), relative_to=relative_to)[0]
        except FileProblem as error:  # not put in words: the file may be one that may be missing
            raise TemplateNotFound(str(path)) from error

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        try:
            return self._reader.source(template, relative_to="//")[1], None, None
        except FileProblem as error:
            raise TemplateNotFound(template) from error


_READING: Final = 100
_SEARCHING: Final = 200
_VISIT: Final = 60
"""The work of reading a file again, of a search that is known, and of an entry looked at."""


def file_functions(reader: Reader, budget: Callable[[], Budget]) -> dict[str, Callable[..., Any]]:
    """Return the functions of templates; paths are relative to the file that calls them."""

    @pass_context
    def read(context: Context, path: object) -> str:
        budget().work(_READING)
        text = reader.source(text_of(path), relative_to=context.name or "//")[1]
        budget().walk(text)
        return text

    @pass_context
    def glob(context: Context, pattern: object) -> list[str]:
        current = budget()
        current.work(_SEARCHING)
        written, relative_to = text_of(pattern), context.name or "//"
        found = reader.glob(
            written, relative_to=relative_to, visit=lambda count: current.work(count * _VISIT)
        )
        current.held(found)
        return found

    def dict_(*arguments: Any, **named: Any) -> dict[Any, Any]:
        made = mapping_of(budget(), *arguments, **named)
        budget().held(made)
        return made

    def namespace(*arguments: Any, **named: Any) -> Namespace:
        return namespace_of(budget(), *arguments, **named)

    return {"read": read, "glob": glob, "dict": dict_, "namespace": namespace}
