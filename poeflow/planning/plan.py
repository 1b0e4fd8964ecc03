"""The plan of a flow: its steps in order, and their instances as far as they are known.

An instance is prepared to run: its settings, its files and its output path are found.
"""

from collections.abc import Iterator, Mapping

import msgspec

from poeflow.digest import Json
from poeflow.errors import PoeflowError, StepError
from poeflow.flowfile import step_settings
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import InstanceCount, carry_of, saves_samples
from poeflow.flowfile.model import Attachment, Flow, Step
from poeflow.flowfile.rules import model_fault
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.bot_checks import model_uses
from poeflow.planning.checked import Checked, flow_claims
from poeflow.planning.instances import (
    FanOut,
    StepInstance,
    StepInstances,
    instance_keys,
)
from poeflow.planning.selection import Selection
from poeflow.problems import Problem
from poeflow.project.attachment_files import (
    AttachmentSource,
    Found,
    attachment_source,
    check_total,
    find,
)
from poeflow.project.output_paths import check_output_path, claim_of
from poeflow.project.project import FileProblem, Project
from poeflow.templates.reader import Reads
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import Texts, as_text


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked flow with its inputs.

    `instances` are those of each step that are known before any step has run, ready; a step that
    is not in it is unknown until those it needs have run. `children` maps steps to the plans of
    the flows they use, if their inputs are known. `instance_count` counts the instances of all.
    """

    checked: Checked
    texts: Texts
    fan_out: FanOut
    preparer: "Preparer"
    inputs: Mapping[str, Json]
    instances: Mapping[str, StepInstances]
    concurrency: int
    instance_count: InstanceCount
    children: Mapping[str, "Plan"] = {}

    @property
    def file(self) -> FlowFile:
        return self.checked.file

    @property
    def order(self) -> tuple[str, ...]:
        return self.checked.order

    @property
    def edges(self) -> Mapping[str, tuple[str, ...]]:
        return self.checked.edges

    @property
    def flow(self) -> Flow:
        return self.checked.file.flow

    @property
    def steps(self) -> Mapping[str, Step]:
        return self.flow.steps

    @property
    def chains(self) -> Mapping[str, str]:
        return self.checked.chains

    @property
    def tested(self) -> Mapping[str, frozenset[str]]:
        return self.checked.tested

    def models(self) -> frozenset[str]:
        """Return the models that may be called, as far as known, judges and fallbacks included."""
        own = frozenset(
            settings.model
            for instances in self.instances.values()
            for settings in instances.settings()
            if settings.model is not None
        )
        others = {
            use.settings.model
            for use in model_uses(self.file.flow)
            if use.is_used and use.is_literal and use.settings.model is not None
        }
        return (own | others).union(*(child.models() for child in self.children.values()))

    def targets(self) -> frozenset[str]:
        """Return the project paths that are known to be written, also by used flows."""
        return frozenset(target for _, _, target in targets_of(self))

    def largest_loop(self, selection: Selection) -> int:
        """Return how many selected instances the largest loop has that asks a model."""
        sizes = (
            selection.count(step, instance_keys(instances))
            for step, instances in self.instances.items()
            if step_settings.is_asking(self.steps[step])
        )
        return max(sizes, default=0)

    def secrets(self, *places: KeyPath | None) -> frozenset[str]:
        """Return the values of the secret inputs that the texts at `places` use."""
        if not self.checked.secrets:
            return frozenset()
        names = {
            name
            for path, used in self.checked.secrets.items()
            if any(place is not None and path[: len(place)] == place for place in places)
            for name in used
        }
        values = (self.inputs.get(name) for name in names)
        return frozenset(value for value in values if isinstance(value, str))

    def early_values(self) -> dict[str, Json]:
        """Return the names that templates can use before any step has run."""
        return self.file.early_names(self.inputs)

    def early_instance(self, step: str, key: str | None) -> StepInstance:
        """Return an instance without its item, ready if it needs nothing that is not known yet."""
        names: dict[str, Json] = {} if key is None else {"key": key}
        instance = StepInstance(step=step, key=key, names=names)
        ready, problems = prepare(self, instance, {**self.early_values(), **names})
        return instance if problems else ready


def targets_of(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Yield step, instance and path for each file that is known to be written, also by used flows.

    Steps with a late `if` are left out: of two of them perhaps only one runs.
    """
    for step in plan.order:
        if ("steps", step, "if") in plan.checked.late:
            continue
        is_saved = plan.steps[step].output.save is not None
        for one in plan.instances.get(step, ()) if is_saved else ():
            if one.save is not None and not one.skip:
                yield step, one.id, one.save
        child = plan.children.get(step)
        if child is not None:
            yield from ((step, f"{step}/{name}", target) for _, name, target in targets_of(child))


def own_path_hint(*, is_used: bool, is_alike: bool) -> str:
    """Return how instances get files of their own; those of a used flow know no key of its user.

    If their paths are only `is_alike`, a slug keeps them alike.
    """
    if is_alike:
        more = "name the items apart" + ("" if is_used else ", or add {{ loop.index }} to the path")
        return f"the paths differ only in case, which not every disk tells apart: {more}"
    name = "an input of the flow that differs" if is_used else "{{ key | slug }}"
    return f"give each a path of its own, with {name} in it"


def prepare(
    plan: Plan, instance: StepInstance, values: Values
) -> tuple[StepInstance, list[Problem]]:
    """Return an instance ready to run, or to be skipped if its `if` is known and false."""
    condition: KeyPath = ("steps", instance.step, "if")
    if condition not in plan.checked.late:
        try:
            skip = reason_to_skip(plan, instance.step, values)
        except PoeflowError as error:
            return instance, [plan.preparer.problem(condition, error)]
        if skip:
            return msgspec.structs.replace(instance, is_ready=True, skip=skip), []
    return plan.preparer.prepare(instance, values)


def reason_to_skip(plan: Plan, step: str, values: Values) -> str:
    """Return why the step's `if` skips it, empty if it does not. Raises `TemplateError`."""
    written = plan.file.flow.steps[step].if_
    if written is None or written is True:
        return ""
    if written is False:
        return "if: false"
    holds = plan.texts.expression(("steps", step, "if"), values)
    return "" if holds else f"{written.strip()} does not hold"


class Preparer:
    """Prepares the instances of one flow; what they share is computed once."""

    def __init__(self, project: Project, checked: Checked, texts: Texts) -> None:
        self._project = project
        self._checked = checked
        self._file = checked.file
        self._texts = texts
        self._flows = flow_claims(checked)
        self._settings: dict[tuple[str, str], step_settings.Settings] = {}
        """By step and model; those of all steps that add nothing to their model have no step."""
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
        settings: step_settings.Settings | None = None
        try:
            settings = self._settings_of(step, values)
        except PoeflowError as error:
            problems.append(self.problem(("steps", step, "model"), error))
        if settings is not None and settings.system is not None and settings.system[0] != "steps":
            problems += self._missing_files(settings.system, values)
        attached: dict[KeyPath, tuple[Found, ...]] = {}
        for path, entries in step_settings.attachment_lists(step, self._file.flow.steps[step]):
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

    def fallbacks(
        self, step: str, settings: step_settings.Settings, values: Values
    ) -> Iterator[step_settings.Settings]:
        """Yield the settings of the fallback models of a step."""
        for named in settings.fallback:
            found = step_settings.fallback_settings(self._file.flow, step, named, settings)
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

    def _settings_of(self, step: str, values: Values) -> step_settings.Settings:
        model = step_settings.model_of(self._file.flow, step)
        if model is None:
            raise AssertionError("check finds steps without a model")
        named = as_text(self._texts.value(model.path, model.value, values), "model")
        is_alike = named == model.value and not step_settings.has_settings(
            self._file.flow.steps[step]
        )
        owner = "" if is_alike else step
        known = self._settings.get((owner, named))
        if known is None:
            self._check_alias(step, named, written=model.value)
            known = step_settings.settings_of(self._file.flow, step, named=named)
            known = self._settings[owner, named] = self._rendered(known, named, values)
        return known

    def _check_alias(self, step: str, named: str, *, written: Json) -> None:
        """Raise `StepError` if an alias says how answers are read, and a template named it."""
        flow, node = self._file.flow, self._file.document.node(("steps", step))
        alias = flow.models.get(named)
        if alias is None or node is None or named == written:
            return
        own = flow.steps[step]
        whole = step_settings.with_keys_of(alias, own, node)
        key = "tools" if whole.tools != own.tools else "output" if whole != own else ""
        if key:
            message = f'the alias "{named}" has {key}, which is known too late for this step'
            hint = f"name the alias itself in model:, or give the step {key}: of its own"
            raise StepError(message, hint=hint)

    def _rendered(
        self, settings: step_settings.Settings, named: str, values: Values
    ) -> step_settings.Settings:
        rendered = self._texts.value(("models", named, "model"), settings.model, values)
        model = as_text(rendered, "model")
        reason = model_fault(model)
        if reason:
            raise StepError(reason, hint="check what the template of model: gives")
        return msgspec.structs.replace(settings, model=model)

    def _search(
        self, path: KeyPath, entries: list[step_settings.PlacedAttachment], values: Values
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

        return attachment_source(
            entry,
            path=rendered("path", entry.path),
            url=rendered("url", entry.url),
            name=rendered("name", entry.name),
        )


def _output(step: str, key: str) -> KeyPath:
    """Return the place of a key in a step's `output`."""
    return ("steps", step, "output", key)
