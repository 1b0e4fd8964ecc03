"""Makes the recipe of an instance: hashes of all that decides its request.

Equal recipes give equal requests. A recipe needs no answer, so even a fresh clone knows what is
current.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from poeflow.digest import (
    Json,
    encode_json,
    key_text,
    sha256_of,
    sha256_of_json,
    sha256_of_key,
)
from poeflow.engine import recipe_parts
from poeflow.engine.asking.message_parts import AttachmentReader
from poeflow.engine.recipe_parts import Recipe
from poeflow.flowfile.key_marks import decisions
from poeflow.flowfile.loops import ITEM_NAMES, carry_of, continues_itself, is_fan_out, is_fold
from poeflow.flowfile.model import Flow, Step
from poeflow.flowfile.step_settings import POE, Settings, judges_of, judging_personas, model_of
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning.instances import StepInstance
from poeflow.planning.plan import Plan
from poeflow.project.attachment_files import Found
from poeflow.project.project import FileProblem
from poeflow.templates.reader import Reads

_ALL: Final = (None, "all")
"""The attributes of a step that have its items."""
BEYOND_JUDGING: Final = frozenset({"output", "samples", "repeat", "tools_mode"})
"""Parts that decide more than how a text is judged."""
_OF_REQUEST: Final = frozenset({*decisions(Step), "attachment", "conversation", "server"})
"""Kinds of parts that decide a request alone, if they are not looked for by name."""
_READS_FILES: Final = lazy_pattern(r"\b(?:file|read|glob|include|import|from|extends)\b")
"""In what a step expects: it may read files."""
_SEES_ITEMS: Final = lazy_pattern(r"\b(?:item|matrix|carry)\b")
"""In what a step expects: it may see what comes from some file."""
_NOT_PARTS: Final = frozenset(
    key for key, decides in decisions(Step).items() if not decides.counts_as_written
)
"""Keys of a step that decide no request, or that are hashed in another form."""
_MISSING: Final = "missing"


class SharedRecipe(NamedTuple):
    """What the recipes of instances share that have the same step and `settings`.

    If a step `is_read_alone`, its instances see nothing of other ones.
    """

    settings: Settings | None
    parts: Mapping[str, str]
    server: str
    model: str
    because: tuple[str, ...]
    older: Mapping[str, str]
    is_read_alone: bool


class HashedOutcome(Protocol):
    """How a step ended, as far as others see it."""

    def digest(self, attribute: str | None, *, is_old: bool = False) -> str | None:
        """Return the hash of what another step sees, if known; `is_old` makes that of version 1."""


class ResultHashes(Protocol):
    """Returns the hash of another step's result, None if that is not known yet."""

    def __call__(self, step: str, attribute: str | None) -> str | None: ...


class Recipes:
    """Makes the recipes of one flow's instances.

    `given` are hashes of the flow's inputs, those from a step as `given`; older locks have all
    by their values. `origins` are the names of providers in a request.
    """

    def __init__(
        self,
        plan: Plan,
        attachments: AttachmentReader,
        *,
        given: Mapping[str, str],
        origins: Mapping[str, str],
    ) -> None:
        self._plan = plan
        self._flow = plan.flow
        self._steps = plan.steps
        self._document = plan.file.document
        self._attachments = attachments
        self._reader = plan.texts.reader
        own = {key: sha256_of_json(value) for key, value in plan.inputs.items()}
        self.given: Mapping[str, str] = {**own, **given}
        self._older = {key: own[key] for key in given if key in own}
        self._origins = origins
        self._own: dict[str, dict[str, str]] = {}
        self._items_of: dict[str, str] = {}
        self._last_asked: tuple[Settings, dict[str, str]] | None = None
        self._shared: dict[str, SharedRecipe] = {}
        """What the last instance of each step shares with the others of its loop."""

    def recipe(
        self, instance: StepInstance, hash_of: ResultHashes, *, is_late: bool
    ) -> Recipe | None:
        """Return the recipe of an instance, None if it needs a result that is not known yet.

        Files that its templates read are not in it. If it `is_late`, its item comes from another
        step: then only the key is hashed, as that step's result has a hash of its own.
        """
        shared = self._shared.get(instance.step)
        if shared is None or shared.settings is not instance.settings:
            shared = self._shared[instance.step] = self._shared_by(instance)
        names = self._names(instance, hash_of, is_late=is_late)
        if names is None:
            return None
        parts = {**shared.parts, **names}
        if not shared.is_read_alone:
            seen = self._seen(instance, hash_of)
            if seen is None:
                return None
            parts |= seen
        if instance.attached and shared.settings is not None:
            parts |= self._attached_parts(instance)
        return Recipe(
            parts=parts,
            server=shared.server,
            model=shared.model,
            because=shared.because,
            older=shared.older,
        )

    def _shared_by(self, instance: StepInstance) -> "SharedRecipe":
        step, settings = instance.step, instance.settings
        uses = self._plan.checked.uses[step]
        asked = {} if settings is None else self._settings_parts(settings)
        is_fed = "source" in uses.names or is_fold(self._flow, step)
        return SharedRecipe(
            settings=settings,
            parts={**self._own_parts(step), **asked},
            server=self._server(settings),
            model=(settings.model or "") if settings is not None else "",
            because=self._because(step),
            older={f"input {name}": v for name, v in self._older.items() if name in uses.inputs},
            is_read_alone=not is_fed and not uses.steps and self._history(step) is None,
        )

    def _seen(self, instance: StepInstance, hash_of: ResultHashes) -> dict[str, str] | None:
        """Return the parts for what an instance sees of others, None if one is not known yet."""
        step, uses = instance.step, self._plan.checked.uses[instance.step]
        parts: dict[str, str | None] = {}
        if "source" in uses.names:
            parts["source"] = hash_of(self._plan.chains.get(step) or "", None)
        if is_fold(self._flow, step):
            carry = carry_of(self._steps[step])
            part, carried = "conversation" if carry is None else "carry", instance.carried
            parts[part] = None if carried is None else sha256_of_json([carry, carried])
        for name, attribute in sorted(uses.steps, key=str):
            part = f"steps.{name}{'.' + attribute if attribute else ''}"
            parts[part] = hash_of(name, attribute)
        history = self._history(step)
        if history is not None:
            parts[f"steps.{history}.conversation"] = hash_of(history, "conversation")
        known = {part: found for part, found in parts.items() if found is not None}
        return known if len(known) == len(parts) else None

    def _because(self, step: str) -> tuple[str, ...]:
        """Return the steps whose results an instance of `step` reads."""
        uses, history = self._plan.checked.uses[step], self._history(step)
        found = {name for name, _ in uses.steps}
        found |= {history} if history is not None else set()
        source = self._plan.chains.get(step)
        found |= {source} if source is not None else set()
        return tuple(sorted(found))

    def _history(self, step: str) -> str | None:
        """Return the other step whose conversation a step continues."""
        is_own = continues_itself(self._flow, step)
        return None if is_own else self._steps[step].history

    def reread(self, names: Iterable[str]) -> dict[str, str]:
        """Return the current hashes of files and patterns, by their parts."""
        return {name: self._read(name) for name in names}

    def saving_to(self, step: str, recipe: Recipe, paths: Iterable[str]) -> Iterator[Recipe]:
        """Yield a recipe as it would be if its step saved to each of these paths, as written."""
        output = self._written(("steps", step, "output"))
        if isinstance(output, dict):
            for one in paths:
                yield recipe.joined({"output": sha256_of_json({**output, "save": one})})

    def expected(self, step: str) -> str:
        """Return what a step expects, as the flow file has it."""
        return encode_json(self._written(("steps", step, "expect"))).decode()

    def _own_parts(self, step: str) -> dict[str, str]:
        """Return the parts from the flow file, by the keys of the step, its inputs and items."""
        parts = self._own.get(step)
        if parts is None:
            node = self._document.node(("steps", step))
            written: Json = node.data if node is not None else {}
            keys = written if isinstance(written, dict) else {}
            parts = {
                key: sha256_of_json(value) for key, value in keys.items() if key not in _NOT_PARTS
            }
            for name in sorted(judging_personas(self._flow, self._steps[step])):
                system = self._written(("models", name, "system"))
                parts[f"judge {name}"] = sha256_of_json(system)
            parts |= _judge_parts(self._flow, step)
            parts |= self._items_seen(step)
            checked = self._plan.checked
            child = checked.children.get(step)
            if child is not None and self._steps[step].repeat is not None:
                parts["use"] = sha256_of_json(recipe_parts.written_in(child))
            elif child is not None:
                parts[recipe_parts.OUTPUTS] = sha256_of_json(recipe_parts.outputs_in(child))
            inputs = checked.uses[step].inputs
            parts |= {f"input {name}": self.given[name] for name in inputs if name in self.given}
            self._own[step] = parts
        return parts

    def _items_seen(self, step: str) -> dict[str, str]:
        """Return the hashes of the items of other steps, as far as their keys do not show them.

        Items that are lists or mappings are in the hash of the step's results.
        """
        read = {name for name, seen in self._plan.checked.uses[step].steps if seen in _ALL}
        found: dict[str, str] = {}
        for name in read & self._plan.instances.keys():
            if is_fan_out(self._steps[name]):
                if name not in self._items_of:
                    self._items_of[name] = sha256_of_json(_hidden(self._plan.instances[name]))
                found[f"steps.{name}{recipe_parts.ITEMS}"] = self._items_of[name]
        return found

    def _names(
        self, instance: StepInstance, hash_of: ResultHashes, *, is_late: bool
    ) -> dict[str, str] | None:
        """Return the hashes of the instance's own names that it uses, None if not known yet.

        Its item counts as all that decides it, if that comes from a step: the lock has no items.
        """
        used = self._plan.checked.uses[instance.step].names
        if is_late and instance.key is None:
            return {"key": sha256_of_json(None)}
        if is_late:
            written = sha256_of_json(self._loop(instance.step))
            return {"key": sha256_of_json(instance.key), recipe_parts.LOOP: written}
        names, key = instance.own_names, instance.key
        found = {name: sha256_of_json(names[name]) for name in names if name in used}
        is_chained = instance.step in self._plan.checked.chains
        loop = self._late_loop(instance.step) if is_chained else None
        if loop is not None and used & ITEM_NAMES:
            items = self._items(loop, hash_of)
            if items is None:
                return None
            found |= dict.fromkeys(used & ITEM_NAMES, items)
        if key is not None:
            found["key"] = sha256_of_key(key)
        return found

    def _late_loop(self, step: str) -> str | None:
        """Return the loop whose instances a step runs over, if a step gives its items."""
        source, chains = self._plan.chains.get(step), self._plan.chains
        while source is not None and source in chains:
            source = chains[source]
        return None if source in self._plan.instances else source

    def _items(self, loop: str, hash_of: ResultHashes) -> str | None:
        """Return the hash of all that decides the items of a loop, None if not known yet."""
        uses = self._plan.checked.uses[loop]
        read = [hash_of(name, attribute) for name, attribute in sorted(uses.steps, key=str)]
        given = [[name, self.given.get(name)] for name in sorted(uses.inputs)]
        return None if None in read else sha256_of_json([*self._loop(loop), given, read])

    def _loop(self, step: str) -> list[Json]:
        """Return what is written about the items of a loop."""
        return [self._written(("steps", step, key)) for key in ("for_each", "matrix")]

    def _attached_parts(self, instance: StepInstance) -> dict[str, str]:
        return {
            f"attachment {item.path or item.url}": self._attachment_hash(item)
            for found in instance.attached.values()
            for item in found
        }

    def _settings_parts(self, settings: Settings) -> Mapping[str, str]:
        """Return the parts for what is asked, and how; many steps have the same settings."""
        last = self._last_asked
        if last is None or last[0] is not settings:
            last = self._last_asked = settings, dict(self._asked_parts(settings))
        return last[1]

    def _asked_parts(self, settings: Settings) -> Iterator[tuple[str, str]]:
        yield "model", sha256_of_json([settings.model, settings.provider])
        server = self._server(settings)
        if server:
            yield recipe_parts.SERVER, sha256_of_json(server)
        for name, layer in (("params", settings.params), ("extra_body", settings.extra_body)):
            for key, given in layer.items():
                yield f"{name}.{key}", sha256_of_json(given.value)
        if settings.system is not None:
            yield "system", sha256_of_json(self._written(settings.system))

    def _attachment_hash(self, item: Found) -> str:
        about: dict[str, Json] = {
            "name": item.name,
            "as": item.as_,
            "media_type": item.media_type,
        }
        if item.reduction is not None:
            about |= msgspec.structs.asdict(item.reduction)
        return sha256_of_json([about, item.url or self._bytes_hash(str(item.path))])

    def _server(self, settings: Settings | None) -> str:
        """Return the address of a provider if the environment sets another."""
        provider = settings.provider if settings is not None else ""
        origin = self._origins.get(provider, provider)
        return "" if origin == provider else origin

    def _written(self, path: KeyPath) -> Json:
        node = self._document.node(path)
        return node.data if node is not None else None

    def _bytes_hash(self, path: str) -> str:
        try:
            return self._attachments.digest(path)
        except FileProblem:
            return _MISSING

    def _read(self, part: str) -> str:
        """Return the current hash of a file, or of a pattern's list of files."""
        kind, _, path = part.removeprefix(recipe_parts.SHOWN).partition(" ")
        try:
            if kind == "reads":
                return self._attachments.digest(path)
            if kind == "glob":
                return sha256_of_json(self._reader.glob(path, relative_to="//"))
            return sha256_of(self._reader.source(path, relative_to="//")[1].encode())
        except FileProblem:
            return sha256_of(_MISSING.encode())


def _judge_parts(flow: Flow, step: str) -> dict[str, str]:
    """Return the parts for the models that judge a step: what they are asked with, and by whom.

    A judge without a model is that of its step. A template may name any alias.
    """
    own = flow.steps[step]
    asking = model_of(flow, step) if own.kind == "model" else None
    of_step = "" if asking is None else str(asking.value)
    found: dict[str, str] = {}
    providers: set[str] = set()
    for name in {judge.model or of_step for judge in judges_of(own)} - {""}:
        is_template = "{" in name
        asked = {one: _asked(flow, one) for one in (flow.models if is_template else (name,))}
        found[recipe_parts.JUDGE_MODEL + name] = sha256_of(
            encode_json(asked if is_template else asked[name])
        )
        aliases = [flow.models.get(one) for one in (*asked, name)]
        default = flow.defaults.provider or POE
        providers |= {(alias.provider if alias else None) or default for alias in aliases}
    return (
        {**found, recipe_parts.JUDGE_PROVIDER: sha256_of_json(sorted(providers))} if found else {}
    )


def _asked(flow: Flow, named: str) -> list[object]:
    """Return what a judge is asked with by the name of its model, an alias or a bot."""
    alias = flow.models.get(named)
    if alias is None:
        return [named]
    return [alias.model, alias.provider, alias.params.by_name, alias.extra_body]


def is_called(step: Step) -> bool:
    """Whether a step runs a command, or functions judge its text, or models one it renders."""
    is_judged = step.kind == "render" and bool(judges_of(step))
    return step.kind == "command" or is_judged or any(one.call for one in step.expect)


def _hidden(instances: Sequence[StepInstance]) -> list[Json]:
    """Return the items that are plain values and another text than their keys, with these."""
    pairs = [(one.key, one.names.get("item")) for one in instances]
    return [
        [key, item]
        for key, item in pairs
        if not isinstance(item, dict | list) and key_text(item) != key
    ]


def read_parts(reads: Reads) -> dict[str, str]:
    """Return the parts for files that were read while an instance was rendered."""
    if reads.is_empty:  # as of most
        return {}
    files = {f"file {path}": digest for path, digest in reads.texts.items()}
    read = {**reads.contents, **reads.code}
    files |= {f"reads {path}": digest for path, digest in read.items()}
    globs = {f"glob {pattern}": digest for pattern, digest in reads.globs.items()}
    return files | globs


def shown_parts(reads: Reads) -> dict[str, str]:
    """Return the parts for files that the outputs of a used flow read."""
    return {f"{recipe_parts.SHOWN}{part}": digest for part, digest in read_parts(reads).items()}


def decides_more(part: str, expected: str, *, is_asked: bool) -> bool:
    """Whether a part of a recipe may decide more than the request, which does not show it changed.

    `expected` is what its step expects, `is_asked` says whether the request reads it.
    """
    kind = part.replace(".", " ").split()[0]
    if kind in ("expect", "judge", "reads", *BEYOND_JUDGING):
        return True
    if kind in ("file", "glob"):
        return not is_asked or any(one.search(expected) for one in (_READS_FILES, _SEES_ITEMS))
    if kind in _OF_REQUEST or not expected:
        return False
    name = "inputs" if kind == "input" else kind
    return name in expected or _READS_FILES.search(expected) is not None
