"""Whether an instance is what the last run made of it, told by hashes alone."""

from collections.abc import Callable, Mapping

from poeflow.digest import sha256_of_json
from poeflow.engine.course import Course
from poeflow.engine.instances import Instance
from poeflow.engine.locking import block_of, differences, digest_of, reads_in, skipped_block
from poeflow.engine.plan import Plan, prepare
from poeflow.engine.prepare import Prepared
from poeflow.engine.recipe import Recipe, Recipes
from poeflow.engine.result import StepResult
from poeflow.engine.states import State, StepState
from poeflow.spec.model import Step
from poeflow.store.lockfile import Block


class Freshness:
    """Compares the instances of one flow with the lock. `name` makes ids what the lock has."""

    def __init__(
        self,
        plan: Plan,
        course: Course,
        states: Mapping[str, StepState],
        *,
        name: Callable[[str], str],
    ) -> None:
        self._plan = plan
        self._course = course
        self._states = states
        self._name = name
        given = {key: sha256_of_json(value) for key, value in plan.inputs.items()}
        origins = {key: one.origin for key, one in course.means.providers.items()}
        self._recipes = Recipes(plan, course.means.project, given=given, origins=origins)

    def step(self, prepared: Prepared) -> Step:
        """Return the step an instance is of."""
        return self.spec(prepared.instance.step)

    def spec(self, step: str) -> Step:
        return self._plan.file.flow.steps[step]

    def name(self, instance: Instance) -> str:
        """Return what an instance is called in the lock."""
        return self._name(instance.id)

    def block(self, instance: Instance) -> Block | None:
        """Return what the last run made of an instance."""
        return self._course.memory.block(self._name(instance.id))

    def recipe(self, prepared: Prepared, upstream: State | None) -> Recipe | None:
        """Return an instance's recipe short of what its templates read."""

        def digest(step: str, attribute: str | None) -> str | None:
            if upstream is not None and step == self._plan.checked.chains.get(
                prepared.instance.step
            ):
                return None if upstream.block is None else digest_of(upstream.block, attribute)
            state = self._states.get(step)
            return None if state is None else state.digest(attribute)

        is_late = self.is_late(prepared.instance.step)
        return self._recipes.recipe(prepared, digest, is_late=is_late)

    def is_late(self, step: str) -> bool:
        """Whether what a step runs over comes from another step."""
        return step not in self._plan.prepared and step not in self._plan.checked.chains

    def current(self, prepared: Prepared, upstream: State | None) -> Block | None:
        """Return the block of an instance that is current by its recipe, files included.

        None if the caller has it asked again whatever the lock says.
        """
        if self._course.means.selection.asks_again(self.name(prepared.instance)):
            return None
        block = self.block(prepared.instance)
        recipe = self.recipe(prepared, upstream)
        if block is None or recipe is None:
            return None
        whole = recipe.joined(self._recipes.reread(reads_in(block)))
        return block if whole.hash == block.recipe and self.has_files(block) else None

    def has_files(self, block: Block) -> bool:
        """Whether the files of a block are what was written there; ignored ones may be gone."""
        looks = {
            self._course.means.files.look(path, digest) for path, digest in block.outputs.items()
        }
        return looks <= ({"same", "missing"} if block.untracked else {"same"})

    def blocks_of(self, result: StepResult, recipe: Recipe, step: str) -> Block:
        """Return the block for the next lock of an instance that has a result."""
        is_tracked = self._plan.file.flow.steps[step].output.tracked
        return block_of(result, recipe.joined(result.reads), is_tracked=is_tracked)

    def skipped(self, prepared: Prepared, upstream: State | None) -> Block | None:
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
        for key in self._course.memory.keys(self._name(step)):
            instance = Instance(step=step, key=key, names={"key": key})
            prepared, problems = prepare(self._plan, instance, {**values, "key": key})
            if problems:
                return None
            found.append(prepared)
        return tuple(found)
