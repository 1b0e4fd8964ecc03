"""The instances of a step: one, or one for each item, with its key, its settings and its files."""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import PoeflowError, StepError
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import is_fan_out, key_text
from poeflow.flowfile.model import Attachment, Loop, Matrix, TextFile
from poeflow.flowfile.rules import model_fault
from poeflow.flowfile.step_settings import (
    Settings,
    attachment_lists,
    fallback_settings,
    model_of,
    settings_of,
)
from poeflow.flowfile.tables import MAX_BYTES, rows
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.allowance import HINT, Allowance, TooManyInstancesError
from poeflow.planning.checked import Checked
from poeflow.planning.combinations import TooManyFitsError, combined, length_of_keys
from poeflow.planning.files import flow_claims
from poeflow.problems import Problem
from poeflow.project.attachment_files import AttachmentSource, Found, check_total, find
from poeflow.project.output_paths import check_output_path, claim_of
from poeflow.project.project import FileProblem, Project
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import Texts, as_text


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a step. `key` is None where the step runs once.

    `names` are what its templates see besides inputs and steps: `item`, `key`, `loop`, `matrix`.
    """

    step: str
    key: str | None = None
    names: Mapping[str, Json] = {}

    @property
    def id(self) -> str:
        """What it is called everywhere: `translate[German]`."""
        return self.step if self.key is None else f"{self.step}[{self.key}]"


_KEY: Final = "give them a key: that differs"


class FanOut:
    """Finds the instances of the steps of one flow, whose names begin with `prefix`.

    All are counted by `allowance` before they are made.
    """

    def __init__(
        self, project: Project, file: FlowFile, texts: Texts, *, allowance: Allowance, prefix: str
    ) -> None:
        self._project = project
        self._file = file
        self._texts = texts
        self._allowance = allowance
        self._prefix = prefix

    def instances(self, step: str, values: Values) -> tuple[Instance, ...]:
        """Return the instances of `step`, in order. Raises `TemplateError` or `FileProblem`."""
        spec = self._file.flow.steps[step]
        if not is_fan_out(spec):
            self._count(("steps", step), step, 1)
            return (Instance(step=step),)
        if spec.matrix is not None:
            found = self._of_matrix(step, spec.matrix, values)
        else:
            found = self._of_items(step, values)
        return self._checked(step, tuple(found))

    def chained(self, step: str, sources: Iterable[Instance]) -> tuple[Instance, ...]:
        """Return the instances of a step that runs over those of another, with their names.

        Raises `TemplateError`.
        """
        found = tuple(sources)
        characters = sum(len(source.key or "") for source in found)
        self._count(("steps", step, "for_each"), step, len(found), characters=characters)
        return tuple(Instance(step=step, key=s.key, names=s.names) for s in found)

    def _of_items(self, step: str, values: Values) -> Iterable[Instance]:
        path: KeyPath = ("steps", step, "for_each")
        loop = self._file.flow.steps[step].for_each
        has_key = isinstance(loop, Loop) and loop.key is not None
        if isinstance(loop, Loop) and loop.file is not None:
            path = (*path, "file")
            items = self._file_rows(path, loop.file, values)
        elif isinstance(loop, Loop):
            path = (*path, "in")
            items = self._list(path, loop.in_, values)
        else:
            items = self._list(path, loop, values)
        self._count(path, step, len(items))
        characters = 0
        for index, item in enumerate(items):
            names: dict[str, Json] = {"item": item, "loop": _position(index, len(items))}
            key = key_text(item)
            if has_key:
                own: KeyPath = ("steps", step, "for_each", "key")
                key = key_text(self._texts.expression(own, {**values, **names}))
            characters += len(key)
            yield Instance(step=step, key=key, names={**names, "key": key})
        self._count(path, step, len(items), characters=characters)

    def _of_matrix(self, step: str, matrix: Matrix, values: Values) -> Iterable[Instance]:
        path: KeyPath = ("steps", step, "matrix")
        axes = self._axes(step, matrix, values)
        include = self._texts.value((*path, "include"), [*matrix.include], values)
        exclude = self._texts.value((*path, "exclude"), [*matrix.exclude], values)
        try:
            combinations = combined(axes, _mappings(include), _mappings(exclude))
        except TooManyFitsError:
            place = self._file.document.key_place(path)
            message = "include and exclude fit too many combinations together"
            raise TemplateError(place, message, hint="shorten them, or the axes") from None
        characters = sum(len(key) for key, _ in combinations)
        self._count(path, step, len(combinations), characters=characters)
        for index, (key, combination) in enumerate(combinations):
            loop = _position(index, len(combinations))
            names: dict[str, Json] = {"matrix": combination, "key": key, "loop": loop}
            yield Instance(step=step, key=key, names=names)

    def _axes(self, step: str, matrix: Matrix, values: Values) -> dict[str, list[Json]]:
        """Return the values of each axis, their combinations counted."""
        path: KeyPath = ("steps", step, "matrix", "axes")
        axes: dict[str, list[Json]] = {}
        for axis, written in matrix.axes.items():
            axes[axis] = self._axis((*path, axis), written, values)
            count, is_whole = prod(map(len, axes.values())), len(axes) == len(matrix.axes)
            characters = length_of_keys(axes, count)
            self._count(path, step, count, characters=characters, is_whole=is_whole)
        return axes

    def _count(
        self,
        path: KeyPath,
        step: str,
        instances: int,
        *,
        characters: int = 0,
        is_whole: bool = True,
    ) -> None:
        """Count the instances of a step. Raises `TooManyInstancesError`."""
        name = f"{self._prefix}{step}"
        fault = self._allowance.fault(name, instances, characters, is_whole=is_whole)
        if fault:
            place = self._file.document.place(path)
            raise TooManyInstancesError(place, fault, hint=HINT)

    def _axis(
        self, path: KeyPath, written: str | list[Json] | TextFile, values: Values
    ) -> list[Json]:
        if isinstance(written, TextFile):
            return self._file_rows((*path, "file"), written.file, values)
        return self._list(path, written, values)

    def _list(self, path: KeyPath, written: Json, values: Values) -> list[Json]:
        """Return the list that is written, or that an expression gives."""
        if isinstance(written, list):
            found = self._texts.value(path, written, values)
        else:
            found = self._texts.expression(path, values)
        if not isinstance(found, list):
            place = self._file.document.place(path)
            hint = "write | items for a mapping" if isinstance(found, dict) else "give a list"
            raise TemplateError(place, f"this gives {_kind(found)} and no list", hint=hint)
        return found

    def _file_rows(self, path: KeyPath, written: str, values: Values) -> list[Json]:
        named = as_text(self._texts.value(path, written, values), "file")
        canonical = self._project.canonical(named, relative_to=self._file.path)
        return rows(self._project.read_bytes(canonical, limit=MAX_BYTES), name=canonical)

    def _checked(self, step: str, instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
        """Refuse two instances with one key: nobody could tell their answers apart."""
        seen: dict[str | None, int] = {}
        for index, instance in enumerate(instances):
            first = seen.setdefault(instance.key, index)
            if first != index:
                place = self._file.document.key_place(("steps", step, "for_each"))
                both = f"items {first + 1} and {index + 1}"
                raise TemplateError(place, f'{both} have the key "{instance.key}"', hint=_KEY)
        return instances


def _mappings(found: Json) -> list[dict[str, Json]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _position(index: int, length: int) -> dict[str, Json]:
    """Return `loop` as templates know it."""
    return {
        "index": index + 1,
        "index0": index,
        "first": index == 0,
        "last": index == length - 1,
        "length": length,
    }


def _kind(value: Json) -> str:
    kinds = {str: "a text", dict: "a mapping", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")


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

    def fallbacks(self, step: str, settings: Settings, values: Values) -> Iterable[Settings]:
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
        self, path: KeyPath, entries: list[tuple[KeyPath, str | Attachment]], values: Values
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
