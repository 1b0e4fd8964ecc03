"""The files that go with a request, as parts of its messages: of the project, or drawn before."""

from collections.abc import Iterator

from poeflow.client.messages import Part, TextPart
from poeflow.engine.message_parts import load
from poeflow.errors import StepError
from poeflow.flowfile.model import Attachment, MessagePart
from poeflow.flowfile.tree import KeyPath
from poeflow.planning.prepare import Attached
from poeflow.project.attachment_files import AttachmentSource, Found, find
from poeflow.project.project import Project
from poeflow.redact import Keyring
from poeflow.templates.texts import Texts, Values


class Files:
    """Loads the files of one flow's requests.

    `drawn` is the tree that holds what earlier steps drew, `forbidden` the keys no file may hold.
    What to warn of is added to the `warnings` handed in.
    """

    def __init__(
        self, texts: Texts, project: Project, drawn: Project, *, forbidden: Keyring
    ) -> None:
        self._texts = texts
        self._project = project
        self._drawn = drawn
        self._forbidden = forbidden

    def found(self, found: tuple[Found, ...], warnings: list[str]) -> Iterator[Part]:
        """Yield the parts of files that were found before."""
        return self._loaded(found, self._project, warnings)

    def parts(
        self,
        path: KeyPath,
        written: list[MessagePart],
        attached: Attached,
        values: Values,
        warnings: list[str],
    ) -> Iterator[Part]:
        """Yield the parts of a message's content, texts rendered and files loaded."""
        for index, part in enumerate(written):
            own: KeyPath = (*path, "content", index)
            if part.text is not None:
                yield TextPart(text=self._texts.prose((*own, "text"), values))
            elif part.attach is not None:
                own = (*own, "attach")
                yield from self.found(attached[own], warnings)
                yield from self.drawn(own, part.attach, values, warnings)

    def drawn(
        self, path: KeyPath, entry: str | Attachment, values: Values, warnings: list[str]
    ) -> Iterator[Part]:
        """Yield what an earlier step drew: paths it gave, in the tree that outputs go to."""
        if not isinstance(entry, Attachment) or entry.from_ is None:
            return
        paths = self._texts.expression((*path, "from"), values)
        if isinstance(paths, str):
            paths = [paths]
        if not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
            raise StepError("attachments.from must give paths", hint="write steps.ID.media")
        for one in paths:
            source = AttachmentSource(
                path=str(one), as_=entry.as_, name=entry.name, media_type=entry.media_type
            )
            found = find(self._drawn, source, relative_to="//")
            yield from self._loaded(found, self._drawn, warnings)

    def _loaded(
        self, found: tuple[Found, ...], project: Project, warnings: list[str]
    ) -> Iterator[Part]:
        for item in found:
            loaded = load(project, item, forbidden=self._forbidden)
            if loaded.warning:
                warnings.append(loaded.warning)
            yield loaded.part
