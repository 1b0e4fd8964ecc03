"""An instance becomes one that is ready to run: with its settings, its files and where it saves."""

from collections.abc import Iterator, Mapping

import msgspec

from poeflow.errors import PoeflowError, StepError
from poeflow.flowfile.model import Attachment
from poeflow.flowfile.rules import model_fault
from poeflow.flowfile.step_settings import (
    PlacedAttachment,
    Settings,
    attachment_lists,
    fallback_settings,
    model_of,
    settings_of,
)
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.checked import Checked
from poeflow.planning.files import flow_claims
from poeflow.planning.instances import Instance
from poeflow.problems import Problem
from poeflow.project.attachment_files import AttachmentSource, Found, check_total, find
from poeflow.project.output_paths import check_output_path, claim_of
from poeflow.project.project import FileProblem, Project
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import Texts, as_text

Attached = Mapping[KeyPath, tuple[Found, ...]]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """An instance ready to run.

    `settings` are None where no model is asked. `attached` maps the place of each list of
    attachments to the files found for it. `save` is the project path of the file it writes, None
    if it writes none or another step decides the path. `skip` says why it does not run, empty
    where it does.
    """

    instance: Instance
    settings: Settings | None = None
    attached: Attached = {}
    save: str | None = None
    skip: str = ""


class Preparer:
    """Prepares the instances of one flow; what does not differ between them is found once."""

    def __init__(self, project: Project, checked: Checked, texts: Texts) -> None:
        self._project = project
        self._checked = checked
        self._file = checked.file
        self._texts = texts
        self._flows = flow_claims(checked)
        self._settings: dict[tuple[str, str], Settings] = {}
        self._found: dict[KeyPath, tuple[Found, ...]] = {}
        self._targets: dict[KeyPath, str] = {}

    def prepare(self, instance: Instance, values: Values) -> tuple[Prepared, list[Problem]]:
        """Return an instance ready to run, and what keeps it from that."""
        step = instance.step
        problems: list[Problem] = []
        save: str | None = None
        try:
            save = self._early_target(step, "save", values)
            self._early_target(step, "media", values)
        except PoeflowError as error:
            problems.append(self.problem(_output(step, "save"), error))
        if self._file.flow.steps[step].kind != "model":
            return Prepared(instance=instance, save=save), problems
        settings: Settings | None = None
        try:
            settings = self._settings_of(step, values)
        except PoeflowError as error:
            problems.append(self.problem(("steps", step, "model"), error))
        attached: dict[KeyPath, tuple[Found, ...]] = {}
        for path, entries in attachment_lists(step, self._file.flow.steps[step]):
            found, faults = self._search(path, entries, values)
            attached[path] = found
            problems += faults
        prepared = Prepared(instance=instance, settings=settings, attached=attached, save=save)
        return prepared, problems

    def target(self, step: str, key: str, values: Values) -> str:
        """Return the project path of what a step's `output` has under `key`: `save` or `media`.

        Raises `PoeflowError`.
        """
        path = _output(step, key)
        known = self._targets.get(path)
        if known is None:
            written = self._texts.path(path, values)
            known = self._project.canonical(written, relative_to=self._file.path)
            check_output_path(known)
            if claim_of(known) in self._flows:
                raise FileProblem(f"{known} is a flow that is run", hint="save to another file")
            if path not in self._checked.varying | self._checked.late:
                self._targets[path] = known
        return known

    def _early_target(self, step: str, key: str, values: Values) -> str | None:
        """Return a target, None if the step has none there or the path waits for a step."""
        output = self._file.flow.steps[step].output
        written = output.save if key == "save" else output.media
        is_late = _output(step, key) in self._checked.late
        return None if written is None or is_late else self.target(step, key, values)

    def fallbacks(self, step: str, settings: Settings, values: Values) -> Iterator[Settings]:
        """Yield the settings of the models to ask where the step's own fails."""
        for named in settings.fallback:
            yield self._rendered(fallback_settings(self._file.flow, step, named), named, values)

    def problem(self, path: KeyPath, error: PoeflowError) -> Problem:
        """Return an error as a problem of the flow file; a template's stands at its own place."""
        if isinstance(error, TemplateError):
            return Problem(error.place, error.reason, error.hint)
        return Problem(self._file.document.place(path), error.message, error.hint)

    def _settings_of(self, step: str, values: Values) -> Settings:
        model = model_of(self._file.flow, step)
        if model is None:
            raise AssertionError("check finds steps without a model")
        named = as_text(self._texts.value(model.path, model.value, values), "model")
        known = self._settings.get((step, named))
        if known is None:
            known = settings_of(self._file.flow, step, named=named)
            known = self._settings[step, named] = self._rendered(known, named, values)
        return known

    def _rendered(self, settings: Settings, named: str, values: Values) -> Settings:
        rendered = self._texts.value(("models", named, "model"), settings.model, values)
        model = as_text(rendered, "model")
        fault = model_fault(model)
        if fault:
            raise StepError(fault, hint="check what the template of model: gives")
        return msgspec.structs.replace(settings, model=model)

    def _search(
        self, path: KeyPath, entries: list[PlacedAttachment], values: Values
    ) -> tuple[tuple[Found, ...], list[Problem]]:
        found: list[Found] = []
        problems: list[Problem] = []
        for own, entry in entries:
            try:
                found += self._files(own, entry, values)
            except PoeflowError as error:
                problems.append(self.problem(own, error))
        try:
            check_total(tuple(found))
        except PoeflowError as error:
            problems.append(self.problem(path, error))
        return tuple(found), problems

    def _files(self, path: KeyPath, entry: str | Attachment, values: Values) -> tuple[Found, ...]:
        """Return the files an entry means; those an earlier step drew are known when it has run."""
        if isinstance(entry, Attachment) and entry.from_ is not None:
            return ()
        known = self._found.get(path)
        if known is not None:
            return known
        found = find(self._project, self._source(path, entry, values), relative_to=self._file.path)
        keys = (path, *((*path, key) for key in ("path", "url", "name")))
        if not self._checked.varying.intersection(keys):
            self._found[path] = found
        return found

    def _source(self, path: KeyPath, entry: str | Attachment, values: Values) -> AttachmentSource:
        if isinstance(entry, str):
            return AttachmentSource(path=as_text(self._texts.value(path, entry, values), "path"))

        def rendered(key: str, written: str | None) -> str | None:
            if written is None:
                return None
            return as_text(self._texts.value((*path, key), written, values), key)

        return AttachmentSource(
            path=rendered("path", entry.path),
            url=rendered("url", entry.url),
            as_=entry.as_,
            name=rendered("name", entry.name),
            media_type=entry.media_type,
        )


def _output(step: str, key: str) -> KeyPath:
    """Return the place of a key of a step's `output`."""
    return ("steps", step, "output", key)
