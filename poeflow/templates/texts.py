"""The texts of one flow, ready to render: by their place in the flow file, with what they see."""

from collections.abc import Mapping

from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.tree import KeyPath
from poeflow.templates.environment import Environment
from poeflow.templates.origin import Origin
from poeflow.templates.reader import Reader
from poeflow.templates.render import evaluate, render, render_path, render_value
from poeflow.templates.sites import Site, sites_of, text_of

Values = Mapping[str, Json]


class Texts:
    """Renders any template of `file`. One render pass: what values hold is never a template."""

    def __init__(self, file: FlowFile, reader: Reader, environment: Environment) -> None:
        self._file = file
        self._reader = reader
        self._environment = environment
        self._sites = {site.path: site for site in sites_of(file)}

    @property
    def reader(self) -> Reader:
        return self._reader

    def release(self) -> None:
        """Let renderings take their time from now on, and files be written: a run asks models.

        Each rendering keeps its own bounds.
        """
        self._environment.allowance.is_free = True
        self._reader.unsettle()

    def prose(self, path: KeyPath, values: Values) -> str:
        """Render the text at `path`, or the file it names. Raises `TemplateError`."""
        site = self._sites.get((*path, "file")) or self._sites[path]
        text, origin = self._text(site)
        return text if site.raw else render(self._environment, text, origin, values)

    def value(self, path: KeyPath, written: Json, values: Values) -> Json:
        """Render every template below a free value; one that is all expression keeps its type."""
        if isinstance(written, dict):
            return {key: self.value((*path, key), part, values) for key, part in written.items()}
        if isinstance(written, list):
            return [self.value((*path, i), part, values) for i, part in enumerate(written)]
        site = self._sites.get(path)
        if site is None or not isinstance(written, str):
            return written
        text, origin = self._text(site)
        return render_value(self._environment, text, origin, values)

    def expression(self, path: KeyPath, values: Values) -> Json:
        """Return the value of the bare expression at `path`. Raises `TemplateError`."""
        text, origin = self._text(self._sites[path])
        return evaluate(self._environment, text, origin, values)

    def path(self, path: KeyPath, values: Values) -> str:
        """Render a file's path: what each expression gives is one safe segment of it."""
        text, origin = self._text(self._sites[path])
        return render_path(self._environment, text, origin, values)

    def _text(self, site: Site) -> tuple[str, Origin]:
        return text_of(self._reader, self._file, site)


def as_text(value: Json, what: str) -> str:
    """Return a rendered value that must be text. Raises `StepError` naming `what`."""
    if isinstance(value, str):
        return value
    raise StepError(f"{what} must be text, not {value!r}", hint="check the template's value")
