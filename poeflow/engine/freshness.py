"""Whether an instance is current, and why not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from poeflow.digest import Json, sha256_of_json
from poeflow.engine.ask import NotStoredError
from poeflow.engine.context import EDITED, EditedError, Look
from poeflow.engine.fingerprint import Recipe, Recipes
from poeflow.engine.forecast import Forecast
from poeflow.engine.lock_entries import block_of, differences, reads_in, skipped_block
from poeflow.engine.request import Schemas
from poeflow.engine.results import State, StepResult, StepState, digest_of
from poeflow.engine.run_state import RunState
from poeflow.engine.send import Asked
from poeflow.errors import PoeflowError
from poeflow.flowfile.model import Step
from poeflow.planning.instances import Instance
from poeflow.planning.plan import Plan, prepare
from poeflow.planning.preparation import Prepared
from poeflow.records import Calls, InstanceState, InstanceStatus
from poeflow.store.lockfile import LockEntry


class Current(NamedTuple):
    """An instance that need not run, with the block that says so.

    `edited` are files of it that are not poeflow's own, with how they stand; `stale` says what
    changed of a request that is not sent, because a person's text stands in place of its answer.
    """

    prepared: Prepared
    block: LockEntry
    edited: Mapping[str, Look] = {}
    stale: tuple[str, ...] = ()


class Freshness:
    """Compares the instances of one flow with the lock. `name` makes ids what the lock has."""

    def __init__(
        self,
        plan: Plan,
        run_state: RunState,
        states: Mapping[str, StepState],
        *,
        name: Callable[[str], str],
    ) -> None:
        self._plan = plan
        self._run_state = run_state
        self._states = states
        self._name = name
        given = {key: sha256_of_json(value) for key, value in plan.inputs.items()}
        origins = {key: one.origin for key, one in run_state.context.providers.items()}
        self._schemas = Schemas(run_state.context.project, plan.file)
        self._recipes = Recipes(plan, run_state.context.project, given=given, origins=origins)

    def step(self, prepared: Prepared) -> Step:
        """Return the step an instance is of."""
        return self.spec(prepared.instance.step)

    def spec(self, step: str) -> Step:
        return self._plan.flow.steps[step]

    def name(self, instance: Instance) -> str:
        """Return what an instance is called in the lock."""
        return self._name(instance.id)

    def block(self, instance: Instance) -> LockEntry | None:
        """Return what the last run made of an instance."""
        return self._run_state.lock_update.block(self._name(instance.id))

    def recipe(self, prepared: Prepared, upstream: State | None) -> Recipe | None:
        """Return an instance's recipe short of what its templates read."""

        def digest(step: str, attribute: str | None) -> str | None:
            if upstream is not None and step == self._plan.chains.get(prepared.instance.step):
                return None if upstream.block is None else digest_of(upstream.block, attribute)
            state = self._states.get(step)
            return None if state is None else state.digest(attribute)

        is_late = self.is_late(prepared.instance.step)
        return self._recipes.recipe(prepared, digest, is_late=is_late)

    def is_late(self, step: str) -> bool:
        """Whether what a step runs over comes from another step."""
        return step not in self._plan.prepared and step not in self._plan.chains

    def current(self, prepared: Prepared, upstream: State | None) -> Current | None:
        """Return an instance that is current by its recipe, files included, else None.

        A file that was edited since stays as it is, unless the run replaces such files. One that
        the caller has asked again is not current, whatever the lock says.
        """
        if self._run_state.selection.asks_again(self.name(prepared.instance)):
            return None
        recipe = self.recipe(prepared, upstream)
        if recipe is None:
            return None
        taken = self._taken(prepared, recipe)
        if taken is not None:
            return Current(prepared, taken)
        for block in self._run_state.lock_update.candidates(self.name(prepared.instance)):
            found = self._whole(prepared, block) if self._is_of(block, recipe) else None
            if found is not None:
                return found
        return None

    def _taken(self, prepared: Prepared, recipe: Recipe) -> LockEntry | None:
        """Return the block of an instance whose files are taken as they are, if they are now."""
        accepting, step = self._run_state.accepting, prepared.instance.step
        if accepting is None:
            return None
        old = self.block(prepared.instance)
        whole = recipe.joined(self._recipes.reread(reads_in(old) if old is not None else ()))
        output, schema = self.spec(step).output, self._schemas.compiled(step)
        return accepting.block(output, schema, prepared, old, whole)

    def kept(self, prepared: Prepared, upstream: State | None) -> Current | None:
        """Return an instance whose file stays though its request changed: a person accepted it.

        None if there is no such file, or the run replaces it.
        """
        block, recipe = self.block(prepared.instance), self.recipe(prepared, upstream)
        if (
            block is None
            or block.accepted is None
            or recipe is None
            or self._run_state.context.force
        ):
            return None
        if self._run_state.context.files.look(block.accepted.path) == "missing":
            return None
        edited = _edited(self.looks(block))
        return Current(prepared, block, edited=edited, stale=self.reasons(prepared, upstream))

    def answered(self, prepared: Prepared, upstream: State | None) -> Current | None:
        """Return an instance whose request the last run sent, by the request itself.

        None if a file of it is gone, or the run replaces one.
        """
        block = self.known(prepared, upstream)
        is_known = block is not None and self.recipe(prepared, upstream) is not None
        return self._whole(prepared, block) if block is not None and is_known else None

    def known(self, prepared: Prepared, upstream: State | None) -> LockEntry | None:
        """Return what the last run made of an instance: of two sides of a merge, what still holds.

        None if it made nothing.
        """
        own = self.block(prepared.instance)
        found = list(self._run_state.lock_update.candidates(self.name(prepared.instance)))
        recipe = self.recipe(prepared, upstream) if len(found) > 1 else None
        if recipe is None:
            return own
        return next((block for block in found if self._is_of(block, recipe)), own)

    def proofs(self, prepared: Prepared, upstream: State | None) -> tuple[LockEntry, ...]:
        """Return what either side of the lock says of an instance's answer, read as it is now."""
        recipe = self.recipe(prepared, upstream)
        read = None if recipe is None else recipe.short.get("output")
        found = self._run_state.lock_update.candidates(self.name(prepared.instance))
        return tuple(
            block for block in found if recipe is not None and block.parts.get("output") == read
        )

    def _is_of(self, block: LockEntry, recipe: Recipe) -> bool:
        """Whether a block was made by a recipe, and what its templates read is as it was."""
        return recipe.joined(self._recipes.reread(reads_in(block))).hash == block.recipe

    def _whole(self, prepared: Prepared, block: LockEntry) -> Current | None:
        """Return an instance whose files are all there, edited or not, if the run keeps them."""
        looks = self.looks(block)
        edited = _edited(looks)
        is_replaced = self._run_state.context.force and bool(edited or block.accepted)
        is_whole = all(look == "same" or look in EDITED for look in looks.values())
        return Current(prepared, block, edited=edited) if is_whole and not is_replaced else None

    def renewed(self, kept: Current, upstream: State | None) -> LockEntry:
        """Return the block of an instance whose request is the same, written another way."""
        recipe = self.recipe(kept.prepared, upstream)
        if recipe is None:
            return kept.block
        whole = recipe.joined(self._recipes.reread(reads_in(kept.block)))
        return msgspec.structs.replace(kept.block, recipe=whole.hash, parts=whole.short)

    def looks(self, block: LockEntry) -> dict[str, Look]:
        """Return how the files of a block stand; those that git ignores may be missing."""
        files = self._run_state.context.files
        found = {path: files.look(path, digest) for path, digest in block.outputs.items()}
        if not block.untracked:
            return found
        return {path: look for path, look in found.items() if look != "missing"}

    def blocks_of(self, result: StepResult, recipe: Recipe, step: str) -> LockEntry:
        """Return the block for the next lock of an instance that has a result."""
        is_tracked = self._plan.flow.steps[step].output.tracked
        return block_of(result, recipe.joined(result.reads), is_tracked=is_tracked)

    def skipped(self, prepared: Prepared, upstream: State | None) -> LockEntry | None:
        """Return the block of an instance that was skipped, None where its recipe is not known."""
        recipe = self.recipe(prepared, upstream)
        return None if recipe is None else skipped_block(recipe)

    def reasons(self, prepared: Prepared, upstream: State | None) -> tuple[str, ...]:
        """Return what changed since the last run, all of it."""
        block, recipe = self.block(prepared.instance), self.recipe(prepared, upstream)
        if block is None or recipe is None:
            return ()
        return differences(recipe.joined(self._recipes.reread(reads_in(block))), block)

    def locked_units(self, step: str) -> tuple[Prepared, ...] | None:
        """Return a late step's instances as the lock has them, None where they cannot be used."""
        values = self._plan.early_values()
        found: list[Prepared] = []
        for key in self._run_state.lock_update.keys(self._name(step)):
            instance = Instance(step=step, key=key, names={"key": key})
            prepared, problems = prepare(self._plan, instance, {**values, "key": key})
            if problems:
                return None
            found.append(prepared)
        return tuple(found)


def _edited(looks: Mapping[str, Look]) -> dict[str, Look]:
    return {path: look for path, look in looks.items() if look in EDITED}


class StatusCollector:
    """Notes the facts of one flow's instances in the course of the run."""

    def __init__(self, plan: Plan, run_state: RunState, freshness: Freshness) -> None:
        self._run_state = run_state
        self._freshness = freshness
        self._forecast = Forecast(plan.flow, run_state.lock_update, run_state.context.catalogue)

    def ok(
        self,
        name: str,
        prepared: Prepared,
        upstream: State | None,
        result: StepResult,
        block: LockEntry | None,
    ) -> None:
        """Note an instance whose result is at hand."""
        locked = self._freshness.block(prepared.instance)
        looks = [self._run_state.saver.looks.get(path) for path in result.files]
        state: InstanceState = "fresh"
        reasons: tuple[str, ...] = ()
        if locked is None:
            state, reasons = "new", ("the lock does not have it",)
        elif block is None or (locked.request, locked.result, locked.outputs) != (
            block.request,
            block.result,
            block.outputs,
        ):
            state = "stale"
            reasons = self._freshness.reasons(prepared, upstream) or ("its result is another",)
        elif "edited" in looks:
            state, reasons = "edited", _files(result, looks, "edited", "was edited")
        elif "missing" in looks or "old" in looks:
            state = "missing"
            reasons = _files(result, looks, "missing", "is missing")
            reasons += _files(result, looks, "old", "is an older one")
        if state in ("new", "stale") and result.source == "cached":
            reasons += ("its answer is in the cache",)
        self._note(name, state, reasons, model=result.model)

    def current(self, name: str, unit: Current) -> None:
        """Note an instance that need not run."""
        reasons = tuple(f"{path[2:]} {_EDITS[look]}" for path, look in unit.edited.items())
        if unit.stale:
            self._note(name, "stale", (*unit.stale, *reasons, "kept: edited by hand"))
        elif reasons:
            self._note(name, "edited", reasons)
        else:
            self._note(name, "fresh" if unit.block.status == "ok" else "skipped", ())

    def skipped(self, name: str, prepared: Prepared, block: LockEntry | None) -> None:
        """Note an instance that its own `if` skips."""
        locked = self._freshness.block(prepared.instance)
        is_same = locked is not None and locked.status == "skipped"
        if is_same and block is not None:
            self._note(name, "skipped", ())
        else:
            self._note(name, "stale" if locked is not None else "new", (prepared.skip,))

    def pending(
        self, name: str, prepared: Prepared, upstream: State | None, error: NotStoredError
    ) -> None:
        """Note an instance that would have to be asked."""
        locked = self._freshness.block(prepared.instance)
        reasons = self._freshness.reasons(prepared, upstream)
        state: InstanceState = "stale"
        if locked is None:
            state, reasons = "new", ("the lock does not have it",)
        elif not reasons and locked.request == error.identity:
            state, reasons = "missing", self._without(locked)
        elif not reasons:
            reasons = ("its request is another",)
        asked = error.asked
        request = self._run_state.asker.whole(asked)
        kinds = self._forecast.sure(name, prepared.instance.step, asked.settings, request)
        self._note(name, state, reasons, model=asked.request.model, request=request, kinds=kinds)

    def needed(self, name: str, step: str, asked: Asked | None, *, reader: str) -> None:
        """Note a current instance that is asked again, because `reader` builds on its answer.

        `asked` is None where the request builds on an answer that is not here either.
        """
        settings = None if asked is None else asked.settings
        request = None if asked is None else self._run_state.asker.whole(asked)
        self._note(
            name,
            "needed",
            (f"{reader} needs its answer, which is not here",),
            model=None if asked is None else asked.request.model,
            request=request,
            kinds=self._forecast.sure(name, step, settings, request),
        )

    def blocked(self, name: str, reason: str, prepared: Iterable[Prepared] = ()) -> None:
        """Note what waits for another instance: one, or all `prepared` ones of a step."""
        for one in prepared:
            block = self._freshness.block(one.instance)
            own = self._freshness.reasons(one, None) if block else ("the lock does not have it",)
            called = self._freshness.name(one.instance)
            kinds = self._forecast.possible(called, one.instance.step, one.settings)
            self._note(called, "unknown", (reason, *own), kinds=kinds)
        if not prepared:
            self._note(name, "unknown", (reason,))

    def failed(self, name: str, error: PoeflowError) -> None:
        """Note an instance that cannot be what it should: its answer fails, a file was edited."""
        is_edited = isinstance(error, EditedError)
        self._note(name, "edited" if is_edited else "stale", (error.message,))

    def _without(self, block: LockEntry) -> tuple[str, ...]:
        """Say which files of an instance are gone, when its answer is not here either."""
        words: dict[Look, str] = {"missing": "is missing", "old": "is an older one"}
        looks = self._freshness.looks(block).items()
        gone = tuple(f"{path[2:]} {words[look]}" for path, look in looks if look in words)
        return (*gone, "its answer is not here")

    def _note(
        self,
        name: str,
        state: InstanceState,
        reasons: tuple[str, ...],
        *,
        model: str | None = None,
        request: dict[str, Json] | None = None,
        kinds: tuple[Calls, ...] = (),
    ) -> None:
        self._run_state.facts[name] = InstanceStatus(
            id=name,
            state=state,
            reasons=reasons,
            calls=sum(kind.least for kind in kinds),
            most_calls=sum(kind.most for kind in kinds),
            model=model,
            request=request,
            kinds=kinds,
        )


_EDITS: Final[Mapping[Look, str]] = {
    "edited": "was edited",
    "foreign": "was edited",
    "marked": "holds the marks of a merge",
}


def kept_because(unit: Current) -> str:
    """Say why a file stays though its request changed, and how it does not."""
    path = unit.block.accepted.path if unit.block.accepted is not None else "its file"
    return (
        f"{'; '.join(unit.stale)}: {path} is kept, as it was edited by hand "
        "(`poeflow accept` keeps it for good, `run --merge-edits` merges the new answer into it, "
        "--force replaces it)"
    )


def _files(
    result: StepResult, looks: Sequence[str | None], wanted: str, told: str
) -> tuple[str, ...]:
    return tuple(
        f"{path[2:]} {told}"
        for path, look in zip(result.files, looks, strict=True)
        if look == wanted
    )
