"""What a run will do, known before anything is sent: order, settings and files of every step."""

from collections.abc import Iterator, Mapping

import msgspec

from poeflow.attachments.find import AttachmentSource, Found, check_total, find
from poeflow.check.flow import Checked
from poeflow.digest import Json
from poeflow.engine.texts import Texts, Values, as_text
from poeflow.errors import InvalidFlowError, PoeflowError
from poeflow.files import Project
from poeflow.problems import Problem
from poeflow.spec.load import FlowFile
from poeflow.spec.model import Attachment
from poeflow.spec.resolve import DEFAULT_CONCURRENCY, Settings, model_of, settings_of
from poeflow.spec.tree import Path


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked flow with its inputs.

    `edges` maps each step to what it needs, `attached` the place of each list of attachments to
    the files found for it.
    """

    file: FlowFile
    inputs: Mapping[str, Json]
    order: tuple[str, ...]
    edges: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, Settings]
    attached: Mapping[Path, tuple[Found, ...]]
    concurrency: int

    @property
    def asks(self) -> bool:
        """Whether any step asks a model."""
        return bool(self.settings)

    def early_values(self) -> dict[str, Json]:
        """Return what templates see before any step has run."""
        flow = self.file.flow
        about: dict[str, Json] = {"name": self.file.name, "description": flow.description}
        return {"inputs": dict(self.inputs), "flow": about}


def make_plan(
    project: Project,
    checked: Checked,
    inputs: Mapping[str, Json],
    texts: Texts,
    *,
    concurrency: int | None = None,
) -> Plan:
    """Resolve models and find attachments; the smaller of two limits on concurrency wins.

    Raises `InvalidFlowError` with every problem found.
    """
    file = checked.file
    plan = Plan(
        file=file,
        inputs=inputs,
        order=checked.order,
        edges=checked.edges,
        settings={},
        attached={},
        concurrency=_concurrency(file, concurrency),
    )
    values = plan.early_values()
    problems: list[Problem] = []
    settings: dict[str, Settings] = {}
    attached: dict[Path, tuple[Found, ...]] = {}
    for name, step in file.flow.steps.items():
        if step.kind != "model":
            continue
        try:
            settings[name] = _settings(file, name, texts, values)
        except PoeflowError as error:
            problems.append(_problem(file, ("steps", name, "model"), error))
        for path, sources in _attachment_lists(file, name):
            found, faults = _find(project, file, texts, values, (path, sources))
            attached[path] = found
            problems += faults
    if problems:
        raise InvalidFlowError(tuple(sorted(problems)))
    return msgspec.structs.replace(plan, settings=settings, attached=attached)


def _concurrency(file: FlowFile, asked: int | None) -> int:
    limits = [limit for limit in (file.flow.limits.concurrency, asked) if limit is not None]
    return min(limits, default=DEFAULT_CONCURRENCY)


def _settings(file: FlowFile, step: str, texts: Texts, values: Values) -> Settings:
    model = model_of(file.flow, step)
    if model is None:
        raise AssertionError("check finds steps without a model")
    named = as_text(texts.value(model.path, model.value, values), "model")
    settings = settings_of(file.flow, step, named=named)
    rendered = texts.value(("models", named, "model"), settings.model, values)
    return msgspec.structs.replace(settings, model=as_text(rendered, "model"))


def _attachment_lists(
    file: FlowFile, step: str
) -> Iterator[tuple[Path, list[tuple[Path, str | Attachment]]]]:
    """Yield every list of attachments of a step: its own, and one for each attached part."""
    spec = file.flow.steps[step]
    own: Path = ("steps", step, "attachments")
    if spec.attachments:
        yield own, [((*own, index), entry) for index, entry in enumerate(spec.attachments)]
    for index, message in enumerate(spec.messages or ()):
        parts = message.content if isinstance(message.content, list) else []
        for position, part in enumerate(parts):
            if part.attach is not None:
                path = ("steps", step, "messages", index, "content", position, "attach")
                yield path, [(path, part.attach)]


def _find(
    project: Project,
    file: FlowFile,
    texts: Texts,
    values: Values,
    listed: tuple[Path, list[tuple[Path, str | Attachment]]],
) -> tuple[tuple[Found, ...], list[Problem]]:
    found: list[Found] = []
    problems: list[Problem] = []
    for path, entry in listed[1]:
        try:
            source = _source(texts, path, entry, values)
            found += find(project, source, relative_to=file.path)
        except PoeflowError as error:
            problems.append(_problem(file, path, error))
    try:
        check_total(tuple(found))
    except PoeflowError as error:
        problems.append(_problem(file, listed[0], error))
    return tuple(found), problems


def _source(texts: Texts, path: Path, entry: str | Attachment, values: Values) -> AttachmentSource:
    if isinstance(entry, str):
        return AttachmentSource(path=as_text(texts.value(path, entry, values), "path"))

    def rendered(key: str, written: str | None) -> str | None:
        if written is None:
            return None
        return as_text(texts.value((*path, key), written, values), key)

    return AttachmentSource(
        path=rendered("path", entry.path),
        url=rendered("url", entry.url),
        as_=entry.as_,
        name=rendered("name", entry.name),
        media_type=entry.media_type,
    )


def _problem(file: FlowFile, path: Path, error: PoeflowError) -> Problem:
    return Problem(file.document.place(path), error.message, error.hint)
