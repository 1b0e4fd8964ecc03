"""What is noted of each instance for whoever asks how it stands: its state, and all reasons."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from poeflow.digest import Json
from poeflow.engine.ask import NotStoredError
from poeflow.engine.forecast import Forecast
from poeflow.engine.freshness import Current, Freshness
from poeflow.engine.output_files import EditedError, Look
from poeflow.engine.results import StepResult
from poeflow.engine.run_state import Course
from poeflow.engine.send import Asked
from poeflow.engine.states import State
from poeflow.errors import PoeflowError
from poeflow.facts import Calls, Fact, Standing
from poeflow.planning.plan import Plan
from poeflow.planning.prepare import Prepared
from poeflow.store.lockfile import Block


class Facts:
    """Notes the facts of one flow's instances in the course of the run."""

    def __init__(self, plan: Plan, course: Course, freshness: Freshness) -> None:
        self._course = course
        self._freshness = freshness
        self._forecast = Forecast(plan.file.flow, course.memory, course.means.catalogue)

    def ok(
        self,
        name: str,
        prepared: Prepared,
        upstream: State | None,
        result: StepResult,
        block: Block | None,
    ) -> None:
        """Note an instance whose result is at hand."""
        locked = self._freshness.block(prepared.instance)
        looks = [self._course.saver.looks.get(path) for path in result.files]
        state: Standing = "fresh"
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

    def skipped(self, name: str, prepared: Prepared, block: Block | None) -> None:
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
        state: Standing = "stale"
        if locked is None:
            state, reasons = "new", ("the lock does not have it",)
        elif not reasons and locked.request == error.identity:
            state, reasons = "missing", self._without(locked)
        elif not reasons:
            reasons = ("its request is another",)
        asked = error.asked
        request = self._course.asker.whole(asked)
        kinds = self._forecast.sure(name, prepared.instance.step, asked.settings, request)
        self._note(name, state, reasons, model=asked.request.model, request=request, kinds=kinds)

    def needed(self, name: str, step: str, asked: Asked | None, *, reader: str) -> None:
        """Note a current instance that is asked again, because `reader` builds on its answer.

        `asked` is None where the request builds on an answer that is not here either.
        """
        settings = None if asked is None else asked.settings
        request = None if asked is None else self._course.asker.whole(asked)
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

    def _without(self, block: Block) -> tuple[str, ...]:
        """Say which files of an instance are gone, when its answer is not here either."""
        words: dict[Look, str] = {"missing": "is missing", "old": "is an older one"}
        looks = self._freshness.looks(block).items()
        gone = tuple(f"{path[2:]} {words[look]}" for path, look in looks if look in words)
        return (*gone, "its answer is not here")

    def _note(
        self,
        name: str,
        state: Standing,
        reasons: tuple[str, ...],
        *,
        model: str | None = None,
        request: dict[str, Json] | None = None,
        kinds: tuple[Calls, ...] = (),
    ) -> None:
        self._course.facts[name] = Fact(
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
