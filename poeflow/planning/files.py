"""Looks for every attachment a flow names literally, and at the messages they go with."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.model import Attachment, Step
from poeflow.flowfile.tree import KeyPath
from poeflow.planning.effort import MAX_PATTERNS
from poeflow.problems import Problem
from poeflow.project.attachment_files import AttachmentSource, Found, check_total, find
from poeflow.project.globs import is_pattern
from poeflow.project.project import FileProblem, Project

_TEMPLATE: Final = re.compile(r"\{[{%#]")


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """What the literal attachments of a flow are.

    `files` are canonical paths, `globs` canonical patterns.
    """

    files: frozenset[str]
    globs: frozenset[str]
    problems: tuple[Problem, ...]


def attached(project: Project, file: FlowFile) -> Attached:
    """Look for every attachment named literally; nothing is read."""
    search = _Search(project, file)
    problems: list[Problem] = []
    for name, step in file.flow.steps.items():
        problems += _conversation(file, name, step)
        found: list[Found] = []
        for path, entry in _entries(name, step):
            try:
                found += search.found(entry)
            except FileProblem as error:
                place = file.document.place((*path, _key(entry)))
                problems.append(Problem(place, error.message, error.hint))
        try:
            check_total(tuple(found))
        except FileProblem as error:
            place = file.document.key_place(("steps", name, "attachments"))
            problems.append(Problem(place, error.message, error.hint))
    return Attached(
        files=frozenset(search.files), globs=frozenset(search.globs), problems=tuple(problems)
    )


class _Search:
    """Finds the attachments of one flow, and keeps what files and patterns it saw."""

    def __init__(self, project: Project, file: FlowFile) -> None:
        self.files: set[str] = set()
        self.globs: set[str] = set()
        self._project = project
        self._file = file

    def found(self, entry: str | Attachment) -> tuple[Found, ...]:
        """Return the files an entry means, none where only a run can tell."""
        source = _source(entry)
        if source is None:
            return ()
        if source.path is not None and is_pattern(source.path):
            self.globs.add(self._project.canonical(source.path, relative_to=self._file.path))
            if len(self.globs) > MAX_PATTERNS:
                message = f"the flow attaches over {MAX_PATTERNS} patterns"
                raise FileProblem(message, hint="use fewer, wider ones")
        found = find(self._project, source, relative_to=self._file.path)
        self.files.update(item.path for item in found if item.path is not None)
        return found


def _entries(name: str, step: Step) -> Iterator[tuple[KeyPath, str | Attachment]]:
    for index, entry in enumerate(step.attachments):
        yield ("steps", name, "attachments", index), entry
    for index, message in enumerate(step.messages or ()):
        parts = message.content if isinstance(message.content, list) else []
        for position, part in enumerate(parts):
            if part.attach is not None:
                path = ("steps", name, "messages", index, "content", position, "attach")
                yield path, part.attach


def _source(entry: str | Attachment) -> AttachmentSource | None:
    """Return what an entry names; None where that is a template or media of a step."""
    if isinstance(entry, str):
        return None if _TEMPLATE.search(entry) else AttachmentSource(path=entry)
    if entry.from_ is not None or _TEMPLATE.search(f"{entry.path} {entry.url}"):
        return None
    return AttachmentSource(
        path=entry.path,
        url=entry.url,
        as_=entry.as_,
        name=entry.name,
        media_type=entry.media_type,
    )


def _key(entry: str | Attachment) -> str:
    return "url" if isinstance(entry, Attachment) and entry.url is not None else "path"


def _conversation(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    """Yield what is wrong with a step's messages as a whole."""
    roles = [message.role for message in step.messages or ()]
    path: KeyPath = ("steps", name)
    if step.system is not None and "system" in roles:
        place = file.document.key_place((*path, "system"))
        yield Problem(place, "messages has a system message too", "keep one of them")
    if step.attachments and step.messages is not None and "user" not in roles:
        place = file.document.key_place((*path, "attachments"))
        yield Problem(place, "attachments go with a user message", "add one to messages:")
