"""Whether an instance is current by the lock, and what changed if not."""

import functools
from collections.abc import Callable, Mapping

import msgspec

from poeflow.digest import in_hexadecimal
from poeflow.engine import lock_entries
from poeflow.engine.asking.answer_schemas import AnswerSchemas
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.message_parts import AttachmentReader
from poeflow.engine.lock_entries import Accepting, LockProof, proofs_of_turns
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.recipe import (
    BEYOND_JUDGING,
    HashedOutcome,
    Recipes,
    decides_more,
    is_called,
    read_parts,
)
from poeflow.engine.recipe_parts import OUTPUTS, RESULTS, Recipe, shows_more
from poeflow.engine.results import InstanceOutcome, StepResult
from poeflow.flowfile.loops import samples_of
from poeflow.planning.instances import StepInstance
from poeflow.planning.plan import Plan
from poeflow.project.output_files import EDITED, Look
from poeflow.project.output_paths import older_paths
from poeflow.store.lock.entries import LockEntry, reads_in
from poeflow.templates.reader import Reads
from poeflow.templates.values import own_items


class Freshness:
    """Compares the instances of one flow with the lock. `name` turns ids into the lock's names.

    `passed` are the hashes of the inputs that come from a step of the flow that uses this one.
    """

    def __init__(
        self,
        plan: Plan,
        context: RunContext,
        lock_update: LockUpdate,
        outcomes: Mapping[str, HashedOutcome],
        *,
        name: Callable[[str], str],
        attachments: AttachmentReader,
        schemas: AnswerSchemas,
        accepting: Accepting | None = None,
        passed: Mapping[str, str] | None = None,
    ) -> None:
        self._plan = plan
        self._context = context
        self.lock_update = lock_update
        self._outcomes = outcomes
        self._name = name
        self._accepting = accepting
        self._results_within: dict[str, str] = {}  # by the ids of instances whose flows have run
        origins = {key: one.origin for key, one in context.providers.items()}
        self._schemas = schemas
        self._steps = plan.steps
        self._unproven = frozenset(
            name for name, spec in plan.steps.items() if spec.runs_always or spec.kind == "flow"
        )
        """The steps whose recipes do not decide their results."""
        self._called = frozenset(name for name, spec in plan.steps.items() if is_called(spec))
        self._computed: dict[tuple[str, str | None], Recipe | None] = {}
        self.recipes = Recipes(plan, attachments, given=passed or {}, origins=origins)
        self.given = self.recipes.given

    def name(self, instance: StepInstance) -> str:
        """Return the name of an instance in the lock."""
        return self._name(instance.id)

    def entry(self, instance: StepInstance) -> LockEntry | None:
        """Return the last run's entry of an instance."""
        return self.lock_update.entry(self._name(instance.id))

    def forget(self, instance: StepInstance) -> None:
        """Delete the recipe of an instance that has ended."""
        self._computed.pop((instance.step, instance.key), None)
        self._results_within.pop(instance.id, None)

    def forget_all(self) -> None:
        """Delete all recipes: results that they use may be others now."""
        self._computed.clear()

    def recipe(self, instance: StepInstance, upstream: InstanceOutcome | None) -> Recipe | None:
        """Return an instance's recipe without the files its templates read; computed once."""
        place = (instance.step, instance.key)
        if place in self._computed:
            return self._computed[place]
        made = self._computed[place] = self._make_recipe(instance, upstream)
        return made

    def _make_recipe(
        self, instance: StepInstance, upstream: InstanceOutcome | None, *, is_old: bool = False
    ) -> Recipe | None:
        of = lock_entries.old_digest_of if is_old else lock_entries.digest_of

        def digest(step: str, attribute: str | None) -> str | None:
            if upstream is not None and step == self._plan.chains.get(instance.step):
                found = None if upstream.entry is None else of(upstream.entry, attribute)
                return None if found is None else in_hexadecimal(found)
            state = self._outcomes.get(step)
            return None if state is None else state.digest(attribute, is_old=is_old)

        return self.recipes.recipe(instance, digest, is_late=self.is_late(instance.step))

    @functools.cached_property
    def late_items(self) -> frozenset[str]:
        """The loops over what a step gives whose items a text reads in their results."""
        return self._plan.checked.itemized - self._plan.instances.keys()

    def is_late(self, step: str) -> bool:
        """Whether the items of a step come from another step."""
        return step not in self._plan.instances and step not in self._plan.chains

    def current_proof(
        self,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        *,
        takes_sides: bool = False,
    ) -> LockProof | None:
        """Return the proof that an instance is current by its recipe, files included, else None.

        An edited file stays as it is, unless the run replaces such files. If it `takes_sides`, a
        file may have conflict marks. An instance that the caller refreshes is never current, nor
        one that uses a flow of which the results are not known: its recipe does not decide these.
        """
        name = self._name(instance.id)
        if self._context.selection.refreshes(name):
            return None
        if self._accepting is None and not self.lock_update.knows(name):
            return None
        recipe = self.recipe(instance, upstream)
        if recipe is None:
            return None
        accepted = None if self._accepting is None else self._accepted_entry(instance, recipe)
        if accepted is not None:
            return LockProof(accepted)
        if instance.step in self._unproven and instance.id not in self._results_within:
            return None
        seen = 0
        for candidates in (self.lock_update.near_candidates, self.lock_update.candidates):
            entries = candidates(name)
            made = (self._entry_if_same(instance, upstream, one, recipe) for one in entries[seen:])
            same, seen = [one for one in made if one is not None], len(entries)
            found = lock_entries.best_proof(
                self._plan, self._context, instance, same, takes_sides=takes_sides
            )
            if found is not None:
                return found
        return None

    def side_proof(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockProof | None:
        """Return the proof of an instance by the files of one of several entries.

        None if the lock has not several, or its files are edited or not there.
        """
        if len(self.lock_update.candidates(self.name(instance))) < 2:
            return None
        proof = self.current_proof(instance, upstream)
        is_chosen = proof is not None and bool(proof.entry.outputs) and not proof.edited
        return proof if is_chosen else None

    def text_proof(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockProof | None:
        """Return the proof of a command, or of a text that functions, or models, judge.

        None is run or asked again.
        """
        if instance.step not in self._called:
            return None
        proof = self.current_proof(instance, upstream, takes_sides=True)
        kind = self._steps[instance.step].kind
        return None if proof is None or (proof.edited and kind != "command") else proof

    def may_be_answered(
        self, instance: StepInstance, upstream: InstanceOutcome | None, *, has_samples: bool
    ) -> bool:
        """Whether a request that the last run sent is not sent again, though no answer is stored.

        The lock has the request of one sample only: if it `has_samples`, its recipe is compared.
        """
        if self._context.selection.refreshes(self.name(instance)):
            return False
        if not has_samples:
            return True
        return self.current_proof(instance, upstream, takes_sides=True) is not None

    def _accepted_entry(self, instance: StepInstance, recipe: Recipe) -> LockEntry | None:
        """Return the new entry if `poeflow accept` accepts the instance's files, else None."""
        step = instance.step
        if self._accepting is None:
            return None
        old = self.entry(instance)
        whole = recipe.joined(self.reread(instance))
        output, schema = self._steps[step].output, self._schemas.compiled(step)
        is_judged = step in self._plan.checked.judged
        return self._accepting.entry(output, schema, instance, old, whole, is_judged=is_judged)

    def accepted_proof(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockProof | None:
        """Return the proof of an instance whose accepted file stays although its request changed.

        None if there is no such file, or the run replaces it, or tries another model for it.
        """
        entry = self.entry(instance)
        if entry is None or entry.accepted is None or self._context.force:
            return None
        recipe = self.recipe(instance, upstream)
        if recipe is None:
            return None
        is_trial = self._context.trial_tree is not None
        if is_trial and entry.parts.get("model") != recipe.short.get("model"):
            return None
        if self._context.files.look(entry.accepted.path) == "missing":
            return None
        edited = {path: look for path, look in self.looks(entry).items() if look in EDITED}
        return LockProof(entry, edited=edited, stale=self.reasons(instance, upstream))

    def moved_proof(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockProof | None:
        """Return the proof of an instance whose text is at its old path, or was only moved."""
        name = self._name(instance.id)
        recipe = self.recipe(instance, upstream)
        if recipe is None or self._context.selection.refreshes(name):
            return None
        for entry in self.lock_update.candidates(name):
            then, now = lock_entries.moved_text(entry, instance), instance.save
            misfits = lock_entries.misfits(self._plan, self._context, instance, entry)
            if then is None or now is None or len(misfits) > 1:
                continue
            written = str(self._steps[instance.step].output.save)
            paths = older_paths(written, self._plan.file.path, now=now, then=then)
            before = self.recipes.saving_to(instance.step, recipe, paths)
            if any(self._entry_if_same(instance, upstream, entry, one) for one in before):
                found = self._proof_of_moved(instance, upstream, entry)
                if found is not None:
                    return found
        return None

    def _proof_of_moved(
        self, instance: StepInstance, upstream: InstanceOutcome | None, entry: LockEntry
    ) -> LockProof | None:
        """Return the proof of an instance by its text at its old path, or moved to the new one."""
        whole = self.with_current_recipe(instance, upstream, entry)
        found = lock_entries.proof_of_moved(self._context, instance, entry, whole)
        if found is None:
            return None
        return msgspec.structs.replace(found, stale=self.reasons(instance, upstream))

    def answered_proof(
        self,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        *,
        reads: Reads,
        judge: Callable[[], StepResult | None],
    ) -> LockProof | None:
        """Return the proof of an instance whose request, which reads `reads`, the last run sent.

        None if a file of it is missing, or the run replaces one. If more than the request has
        changed, `judge` judges its text again, and returns None if that needs more than a file.
        """
        entry = self.matching_entry(instance, upstream)
        if entry is None or self.recipe(instance, upstream) is None:
            return None
        is_moved = lock_entries.moved_text(entry, instance) is not None
        misfits = lock_entries.misfits(self._plan, self._context, instance, entry)
        if len(misfits) > int(is_moved) or (is_moved and self._context.trial_tree is not None):
            return None
        changed = self._changed_parts(instance, upstream, entry, reads)
        spec = self._steps[instance.step]
        if changed:
            result = None if changed & BEYOND_JUDGING or spec.kind == "flow" else judge()
            if result is None:
                return None
            entry = self._entry_judged_again(instance, upstream, entry, result)
        if is_moved:
            return self._proof_of_moved(instance, upstream, entry)
        proof = lock_entries.proof_of_files(self._context, instance, entry, takes_sides=True)
        if proof is None or spec.kind != "flow" or spec.repeat is None:
            return proof
        return self.with_turns(instance, proof)

    def with_turns(self, instance: StepInstance, proof: LockProof) -> LockProof | None:
        """Return a proof with those for all in later turns; None if a file is another now.

        What they are given is the outputs of turns that are not stored here. The recipe of the
        instance that repeats the flow holds the rest of what decides them.
        """
        known = self.lock_update.names_beginning(f"{self.name(instance)}#")
        pairs = ((name, self.lock_update.entry(name)) for name in known)
        entries = {name: entry for name, entry in pairs if entry is not None}
        turns = proofs_of_turns(self._context, instance, entries, self.recipes.reread)
        return None if turns is None else msgspec.structs.replace(proof, turns=turns)

    def matching_entry(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockEntry | None:
        """Return the last run's entry of an instance; of several, the one that its files prove.

        Of those that still fit, else of all. None if there is none.
        """
        own = self.entry(instance)
        found = self.lock_update.candidates(self.name(instance))
        is_open = len(found) > 1 or own not in found
        recipe = self.recipe(instance, upstream) if found and is_open else None
        if recipe is None:
            return own
        made = (self._entry_if_same(instance, upstream, entry, recipe) for entry in found)
        same = [entry for entry in made if entry is not None]
        if not same and own is not None and own.accepted is not None:
            return own
        proven = lock_entries.entry_of_files(self._plan, self._context, instance, found, same=same)
        return proven or next(iter(same), own)

    def answer_entries(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> tuple[LockEntry, ...]:
        """Return the entries, one per side of a merge, with the same `output:` settings.

        In a repeated step the whole recipe decides which turn counts.
        """
        found = self.lock_update.candidates(self.name(instance))
        recipe = self.recipe(instance, upstream) if found else None
        if recipe is None:
            return ()
        if self._steps[instance.step].repeat is not None:
            return tuple(e for e in found if self._entry_if_same(instance, upstream, e, recipe))
        read = recipe.short.get("output")
        return tuple(entry for entry in found if entry.parts.get("output") == read)

    def _entry_if_same(
        self,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        entry: LockEntry,
        recipe: Recipe,
    ) -> LockEntry | None:
        """Return an entry with this recipe, if the files its templates read are unchanged.

        An older entry is compared by its old recipe, and gets the current one.
        """
        read = self._read_by(instance, entry)
        whole = recipe.joined(read).as_in(entry.parts)
        if entry.before is None and recipe.older and whole.hash == entry.recipe:
            return lock_entries.with_recipe(entry, recipe.joined(read).now.as_in(entry.parts))
        if entry.before is None:
            return entry if whole.hash == entry.recipe else None
        then = self._make_recipe(instance, upstream, is_old=True)
        hashes = (whole.hash, "" if then is None else then.joined(read).as_in(entry.parts).hash)
        return lock_entries.with_recipe(entry, whole) if entry.recipe in hashes else None

    def with_current_recipe(
        self, instance: StepInstance, upstream: InstanceOutcome | None, entry: LockEntry
    ) -> LockEntry:
        """Return the entry of an instance whose request is the same but written differently."""
        recipe = self.recipe(instance, upstream)
        if recipe is None:
            return entry
        return lock_entries.with_recipe(entry, recipe.joined(self._read_by(instance, entry)))

    def _entry_judged_again(
        self,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        entry: LockEntry,
        result: StepResult,
    ) -> LockEntry:
        """Return the entry of an instance whose text was judged again; `result` has that text."""
        recipe = self.recipe(instance, upstream)
        if recipe is None:
            return entry
        renewed = lock_entries.with_recipe(entry, recipe.joined(result.reads))
        return msgspec.structs.replace(renewed, warnings=lock_entries.warnings_of(result))

    def _changed_parts(
        self,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        entry: LockEntry,
        reads: Reads,
    ) -> frozenset[str]:
        """Return the parts changed since an entry was made that decide more than its request.

        That request, which reads `reads`, is the same. It is only the first of a step that sends
        several: then any change counts.
        """
        spec = self._steps[instance.step]
        then, now = entry.parts, self._current_parts(instance, upstream, entry)
        changed = frozenset(part for part in {*then, *now} if then.get(part) != now.get(part))
        if spec.repeat is not None or samples_of(spec).count > 1:
            return changed
        if spec.kind == "flow":
            child = self._plan.checked.children[instance.step]
            return changed if shows_more(child) else changed & {OUTPUTS, RESULTS}
        asked = {f"file {path}" for path in reads.texts} | {f"glob {one}" for one in reads.globs}
        expected = self.recipes.expected(instance.step) if spec.expect else ""
        return frozenset(
            part for part in changed if decides_more(part, expected, is_asked=part in asked)
        )

    def _current_parts(
        self, instance: StepInstance, upstream: InstanceOutcome | None, entry: LockEntry
    ) -> dict[str, str]:
        """Return the parts that an entry would have now; its own if its recipe is not known."""
        recipe = self._comparable_recipe(instance, upstream, entry)
        if recipe is None:
            return dict(entry.parts)
        return recipe.joined(self._read_by(instance, entry)).as_in(entry.parts).short

    def _read_by(self, instance: StepInstance, entry: LockEntry) -> dict[str, str]:
        """Return the parts for the files that an entry's templates read, as they are now.

        Also for the results within, of which an entry has the beginning of the hash.
        """
        read = self.recipes.reread(reads_in(entry))
        within = self._results_within.get(instance.id, entry.parts.get(RESULTS))
        return read if within is None else {**read, RESULTS: within}

    def reread(self, instance: StepInstance) -> dict[str, str]:
        """Return the parts for the files that the templates of an instance read last, as now."""
        entry = self.entry(instance)
        return {} if entry is None else self.recipes.reread(reads_in(entry))

    def note_results(self, instance: StepInstance, within: str | None) -> None:
        """Note the hash of the results that the flow of an instance has now, None if not known."""
        self._results_within.pop(instance.id, None)
        if within is not None:
            self._results_within[instance.id] = within

    def _comparable_recipe(
        self, instance: StepInstance, upstream: InstanceOutcome | None, entry: LockEntry
    ) -> Recipe | None:
        """Return an instance's recipe as one of an entry's version, None if it is not known."""
        recipe = self.recipe(instance, upstream)
        if entry.before is not None:
            return self._make_recipe(instance, upstream, is_old=True)
        return recipe

    def looks(self, entry: LockEntry) -> dict[str, Look]:
        """Return the states of an entry's files; those that git ignores may be missing."""
        return lock_entries.looks_of(self._context, entry)

    def entry_of(
        self, instance: StepInstance, upstream: InstanceOutcome | None, result: StepResult
    ) -> LockEntry | None:
        """Return the next lock's entry of an instance that has a result.

        None if its recipe is not known: it uses a result without an entry.
        """
        recipe = self.recipe(instance, upstream)
        if recipe is None:
            return None
        is_tracked = self._steps[instance.step].output.tracked
        within = self._results_within.get(instance.id)
        read = result.reads if within is None else {**result.reads, RESULTS: within}
        whole, old = recipe.joined(read).now, self.entry(instance)
        before = whole if old is None else whole.as_in(old.parts)
        if old is not None and before.hash == old.recipe and old.is_of(result.fingerprint or ""):
            whole = before
        item = own_items(instance.names) if instance.step in self.late_items else None
        entry = lock_entries.entry_of(result, whole, is_tracked=is_tracked, old=old, item=item)
        if not self._context.simulated:
            return entry
        return msgspec.structs.replace(entry, served="")

    def skipped(
        self, instance: StepInstance, upstream: InstanceOutcome | None, reads: Reads
    ) -> LockEntry | None:
        """Return the entry of an instance that was skipped by what it `reads`; None if unknown."""
        recipe = self.recipe(instance, upstream)
        if recipe is None:
            return None
        return lock_entries.skipped_entry(recipe.joined(read_parts(reads)))

    def reasons(self, instance: StepInstance, upstream: InstanceOutcome | None) -> tuple[str, ...]:
        """Return all changes since the last run."""
        entry = self.entry(instance)
        recipe = None if entry is None else self._comparable_recipe(instance, upstream, entry)
        if entry is None or recipe is None:
            return ()
        whole = recipe.joined(self._read_by(instance, entry)).as_in(entry.parts)
        changed = lock_entries.differences(whole, entry)
        return (*changed, *lock_entries.misfits(self._plan, self._context, instance, entry))
