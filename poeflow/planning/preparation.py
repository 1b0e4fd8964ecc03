"""Prepares an instance to run: finds its settings, its files and its output path."""

from collections.abc import Iterator

import msgspec

from poeflow.digest import Json
from poeflow.errors import PoeflowError, StepError
from poeflow.flowfile.loops import carry_of, saves_samples
from poeflow.flowfile.model import Attachment
from poeflow.flowfile.rules import model_fault
from poeflow.flowfile.step_settings import (
    PlacedAttachment,
    Settings,
    attachment_lists,
    fallback_settings,
    model_of,
    settings_of,
    with_keys_of,
)
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.checked import Checked
from poeflow.planning.files import flow_claims
from poeflow.planning.instances import StepInstance
from poeflow.problems import Problem
from poeflow.project.attachment_files import (
    AttachmentSource,
    Found,
    check_total,
    find,
    reduction_of,
)
from poeflow.project.output_paths import check_output_path, claim_of
from poeflow.project.project import FileProblem, Project
from poeflow.templates.reader import Reads
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import Texts, as_text
from poeflow.templates.values import RESULT_ITEM_NAMES


class Preparer:
    """Prepares the instances of one flow; what they share is computed once."""

    def __init__(self, project: Project, checked: Checked, texts: Texts) -> None:
        self._project = project
        self._checked = checked
        self._file = checked.file
        self._texts = texts
        self._flows = flow_claims(checked)
        self._settings: dict[tuple[str, str], Settings] = {}
        self._found: dict[KeyPath, tuple[Found, ...]] = {}
        self._targets: dict[KeyPath, str] = {}
        self._named = sorted(checked.named, key=str)
        self._seen: set[str] = set()
        """The names of files that were there."""

    def prepare(self, instance: StepInstance, values: Values) -> tuple[StepInstance, list[Problem]]:
        """Return an instance that is ready to run, and the problems that keep it from that."""
        step = instance.step
        problems: list[Problem] = []
        save: str | None = None
        media: str | None = None
        try:
            save = self._early_target(step, "save", values)
            media = self._early_target(step, "media", values)
        except PoeflowError as error:
            problems.append(self.problem(_output(step, "save"), error))
        instance = msgspec.structs.replace(instance, is_ready=True, save=save, media=media)
        problems += self._missing_files(("steps", step), values)
        if self._file.flow.steps[step].kind != "model":
            return instance, problems
        settings: Settings | None = None
        try:
            settings = self._settings_of(step, values)
        except PoeflowError as error:
            problems.append(self.problem(("steps", step, "model"), error))
        if settings is not None and settings.system is not None and settings.system[0] != "steps":
            problems += self._missing_files(settings.system, values)
        attached: dict[KeyPath, tuple[Found, ...]] = {}
        for path, entries in attachment_lists(step, self._file.flow.steps[step]):
            found, own_problems = self._search(path, entries, values)
            attached[path] = found
            problems += own_problems
        return msgspec.structs.replace(instance, settings=settings, attached=attached), problems

    def target(self, step: str, key: str, values: Values) -> str:
        """Return the project path of `save` or `media` (the `key`) in a step's `output`.

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
            if path not in self._checked.varying and path not in self._checked.late:
                self._targets[path] = known
        return known

    def _early_target(self, step: str, key: str, values: Values) -> str | None:
        """Return a target, None if the step has none or its path depends on a step."""
        output = self._file.flow.steps[step].output
        written = output.save if key == "save" else output.media
        if written is None or _output(step, key) in self._checked.late:
            return None
        if key == "save" and saves_samples(self._file.flow.steps[step]):
            self.target(step, key, {**values, "sample": 1})
            return None
        return self.target(step, key, values)

    def _missing_files(self, owner: KeyPath, values: Values) -> Iterator[Problem]:
        """Yield a problem for each text below `owner` whose file, by its template, is missing."""
        for path in self._named:
            if path[: len(owner)] != owner:
                continue
            try:
                name = self._texts.file_name(path, values)
                if name not in self._seen:
                    canonical = self._project.canonical(name, relative_to=self._file.path)
                    self._project.size_of(canonical)
                    self._seen.add(name)
            except PoeflowError as error:
                yield self.problem(path, error)

    def fallbacks(self, step: str, settings: Settings, values: Values) -> Iterator[Settings]:
        """Yield the settings of the fallback models of a step."""
        for named in settings.fallback:
            found = fallback_settings(self._file.flow, step, named, settings)
            yield self._rendered(found, named, values)

    def carried(self, step: str, values: Values, reads: Reads) -> Json:
        """Return what an instance takes from the one before it, whose result is `previous`.

        None if its loop carries nothing. `reads` collects what is read. Raises `TemplateError`.
        """
        if carry_of(self._file.flow.steps[step]) is None:
            return None
        with self._texts.reader.recording(reads):
            return self._texts.expression(("steps", step, "for_each", "carry"), values)

    def problem(self, path: KeyPath, error: PoeflowError) -> Problem:
        """Return an error as a problem of the flow file; a template error has its own place."""
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
            self._check_alias(step, named, written=model.value)
            known = settings_of(self._file.flow, step, named=named)
            known = self._settings[step, named] = self._rendered(known, named, values)
        return known

    def _check_alias(self, step: str, named: str, *, written: Json) -> None:
        """Raise `StepError` if an alias says how answers are read, and a template named it."""
        flow, node = self._file.flow, self._file.document.node(("steps", step))
        alias = flow.models.get(named)
        if alias is None or node is None or named == written:
            return
        own = flow.steps[step]
        whole = with_keys_of(alias, own, node)
        key = "tools" if whole.tools != own.tools else "output" if whole != own else ""
        if key:
            message = f'the alias "{named}" has {key}, which is known too late for this step'
            hint = f"name the alias itself in model:, or give the step {key}: of its own"
            raise StepError(message, hint=hint)

    def _rendered(self, settings: Settings, named: str, values: Values) -> Settings:
        rendered = self._texts.value(("models", named, "model"), settings.model, values)
        model = as_text(rendered, "model")
        reason = model_fault(model)
        if reason:
            raise StepError(reason, hint="check what the template of model: gives")
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
        """Return the files of an entry; those that a step makes are known once it has run."""
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
            reduction=reduction_of(entry.resize, entry.pages),
        )


def _output(step: str, key: str) -> KeyPath:
    """Return the place of a key in a step's `output`."""
    return ("steps", step, "output", key)


def own_items(instance: StepInstance) -> dict[str, Json]:
    """Return the item of an instance, or its combination, by name."""
    return {name: instance.names[name] for name in RESULT_ITEM_NAMES if name in instance.names}
