"""What a request is made from besides templates: attachments, media of steps, turns from data."""

from collections.abc import Iterator, Sequence

import msgspec

from poeflow.client.messages import Message, Part, TextPart
from poeflow.digest import Json
from poeflow.engine.asking.message_parts import AttachmentReader
from poeflow.errors import StepError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.model import (
    Attachment,
    ExampleFile,
    MessagePart,
    MessageSpec,
    TextFile,
)
from poeflow.flowfile.tables import MAX_BYTES, rows
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.instances import Attached
from poeflow.project.attachment_files import Found, attachment_source, find
from poeflow.project.project import Project
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import Texts, as_text
from poeflow.templates.threads import RowError, examples, thread


class MediaFolder(msgspec.Struct, frozen=True):
    """A folder with media of earlier steps, and what reads them."""

    tree: Project
    reader: AttachmentReader


class Files:
    """Loads the files of one flow's requests.

    `attachments` reads files of the project; the first of the `media_folders` that has one of an
    earlier step reads that. Warnings are added to `warnings`.
    """

    def __init__(
        self,
        texts: Texts,
        attachments: AttachmentReader,
        media_folders: Sequence[MediaFolder],
    ) -> None:
        self._texts = texts
        self._attachments = attachments
        self._media_folders = media_folders

    def found(self, found: tuple[Found, ...], warnings: list[str]) -> Iterator[Part]:
        """Yield the parts of files that were found before."""
        return self._loaded(found, self._attachments, warnings)

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
                yield from self.step_media(own, part.attach, values, warnings)

    def step_media(
        self, path: KeyPath, entry: str | Attachment, values: Values, warnings: list[str]
    ) -> Iterator[Part]:
        """Yield the media of an earlier step: its paths, in the folder of outputs."""
        if not isinstance(entry, Attachment) or entry.from_ is None:
            return
        paths = self._texts.expression((*path, "from"), values)
        if isinstance(paths, str):
            paths = [paths]
        if not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
            raise StepError("attachments.from must give paths", hint="write steps.ID.media")
        for one in paths:
            source = attachment_source(entry, path=str(one), name=entry.name)
            place = self._place(str(one))
            found = find(place.tree, source, relative_to="//")
            yield from self._loaded(found, place.reader, warnings)

    def _place(self, path: str) -> MediaFolder:
        """Return the folder that has a file of an earlier step, the last one if none has."""
        places = (
            one for one in self._media_folders if one.tree.path_of(f"//{path.lstrip('/')}").exists()
        )
        return next(places, self._media_folders[-1])

    def _loaded(
        self, found: tuple[Found, ...], reader: AttachmentReader, warnings: list[str]
    ) -> Iterator[Part]:
        for item in found:
            loaded = reader.load(item)
            if loaded.warning:
                warnings.append(loaded.warning)
            yield loaded.part


class DataTurns:
    """Finds the turns of one flow that come from data. Their texts are never rendered."""

    def __init__(self, project: Project, file: FlowFile, texts: Texts) -> None:
        self._project = project
        self._file = file
        self._texts = texts

    def thread(self, path: KeyPath, written: object, values: Values) -> list[Message]:
        """Return a whole conversation. Raises `TemplateError`."""
        try:
            found = thread(self._listed(path, written, values))
        except RowError as error:
            raise self._error(path, error) from None
        return [msgspec.convert(msgspec.to_builtins(message), Message) for message in found]

    def pairs(
        self, path: KeyPath, message: MessageSpec, values: Values
    ) -> Iterator[tuple[str, str]]:
        """Yield the user text and the assistant text of each example. Raises `TemplateError`."""
        written = message.few_shot
        columns = written if isinstance(written, ExampleFile) else ExampleFile(file="-")
        try:
            yield from examples(self._listed(path, written, values), columns)
        except RowError as error:
            raise self._error(path, error) from None

    def _error(self, path: KeyPath, error: RowError) -> TemplateError:
        return TemplateError(self._file.document.place(path), error.message, hint=error.hint)

    def _listed(self, path: KeyPath, written: object, values: Values) -> list[Json]:
        if isinstance(written, list):
            return [msgspec.to_builtins(example) for example in written]
        if isinstance(written, TextFile | ExampleFile):
            return self._rows((*path, "file"), written.file, values)
        found = self._texts.expression(path, values)
        if isinstance(found, list):
            return found
        place = self._file.document.place(path)
        raise TemplateError(place, f"{path[-1]} does not give a list", hint="give a list of them")

    def _rows(self, path: KeyPath, written: str, values: Values) -> list[Json]:
        """Return the rows of a table, which counts as read, so that its change makes stale."""
        named = as_text(self._texts.value(path, written, values), "file")
        canonical = self._project.canonical(named, relative_to=self._file.path)
        if canonical.lower().endswith(".parquet"):
            data = self._project.read_bytes(canonical, limit=MAX_BYTES)
            self._texts.reader.note(canonical, data)
            return rows(data, name=canonical)
        _, text = self._texts.reader.source(canonical, relative_to="//")
        return rows(text.encode(), name=canonical)
