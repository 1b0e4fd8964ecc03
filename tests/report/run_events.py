"""Events of every kind, made up."""

from typing import get_args, get_type_hints

from hypothesis import strategies as st

from poeflow import events
from poeflow.digest import Json

KINDS = get_args(events.Event)
TEXTS = st.text(st.characters(), max_size=30)
JSON: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SHARES = st.none() | st.floats(0, 1)
FIELDS = {
    "at": st.floats(0, 1e6),
    "seconds": st.floats(0, 1e6),
    "wait": st.floats(0, 1e6),
    "cost_usd": st.none() | st.floats(0, 1e6),
    "outputs": st.dictionaries(TEXTS, JSON, max_size=3),
    "score": SHARES,
    "verdicts": st.lists(
        st.builds(
            events.Verdict,
            kind=TEXTS,
            passed=st.booleans(),
            level=st.sampled_from(["error", "warn", "score"]),
            message=TEXTS,
            score=SHARES,
            weight=st.floats(0, 1e6),
            reason=TEXTS,
            rubric=TEXTS,
        ),
        max_size=2,
    ).map(tuple),
}
"""Values of fields that are not simply anything of their type."""
OUTSIDE = {
    events.Expected: "message",
    events.FellBack: "reason",
    events.FileWritten: "path",
    events.RetryPlanned: "reason",
    events.StepFailed: "message",
    events.StepSkipped: "reason",
    events.TextArrived: "text",
    events.Warned: "message",
}
"""The kinds that tell something from outside, and the field in which they do."""

ENDED = events.StepFinished(at=2, step="draft", source="asked", simulated=False, seconds=1)
INTERRUPTED = events.RunFinished(
    at=3, exit_code=143, asked=1, cached=2, rendered=0, failed=0, skipped=0, seconds=3.5,
    simulated=False, outputs={}, requests=3, tokens=1234, cost_usd=0.01, unknown=2, done=3,
    instances=7,
)  # fmt: skip
"""The end of a run that was cut short."""


def every_event() -> st.SearchStrategy[events.Event]:
    return st.one_of([st.builds(kind, **_fields(kind)) for kind in KINDS])


def telling(kind: type, text: str) -> events.Event:
    """Return an event of `kind` about the step `draft` that tells `text`."""
    rest = {
        events.Expected: {"kind": "contains", "level": "error"},
        events.FellBack: {"model": "Grok-4"},
        events.FileWritten: {"size": 1},
        events.RetryPlanned: {"attempt": 1, "wait": 2.0},
        events.StepFailed: {"error_class": "failed", "seconds": 1.0},
    }
    return kind(at=1.0, step="draft", **{OUTSIDE[kind]: text}, **rest.get(kind, {}))


def _fields(kind: type) -> dict[str, st.SearchStrategy[object]]:
    hints = get_type_hints(kind)
    return {name: FIELDS.get(name, st.from_type(hints[name])) for name in kind.__struct_fields__}


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        raise AssertionError

    async def asleep(self, seconds: float) -> None:
        raise AssertionError
