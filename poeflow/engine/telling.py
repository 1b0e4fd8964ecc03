"""What happens to an instance becomes events: what the client tells, and what the engine does."""

from collections.abc import Callable, Iterable

from poeflow.answers.expect import Verdict
from poeflow.client.progress import Delta, Progress
from poeflow.errors import APIStatusError
from poeflow.events import (
    Event,
    Expected,
    Listener,
    RetryPlanned,
    StepStarted,
    TextArrived,
    ToolCalled,
    Warned,
)


def told(progress: Progress, step: str, at: float) -> tuple[Event, ...]:
    """Return the events of one piece of progress of `step`, `at` seconds into the run."""
    if isinstance(progress, Delta):
        pieces = [
            TextArrived(at=at, step=step, text=progress.reasoning, kind="reasoning"),
            TextArrived(at=at, step=step, text=progress.text),
        ]
        return tuple(piece for piece in pieces if piece.text)
    error = progress.error
    return (
        RetryPlanned(
            at=at,
            step=step,
            attempt=progress.attempt,
            wait=progress.wait,
            reason=error.message,
            status=error.status_code if isinstance(error, APIStatusError) else None,
        ),
    )


class Teller:
    """Tells `listen` of one instance, called `name`. `elapsed` gives the run's seconds."""

    def __init__(self, listen: Listener, elapsed: Callable[[], float], name: str) -> None:
        self._listen = listen
        self._elapsed = elapsed
        self._name = name

    def started(self, model: str | None) -> None:
        self._listen(StepStarted(at=self._elapsed(), step=self._name, model=model))

    def warned(self, messages: Iterable[str]) -> None:
        for message in messages:
            self._listen(Warned(at=self._elapsed(), step=self._name, message=message))

    def tool_called(self, tool: str, *, is_error: bool) -> None:
        self._listen(ToolCalled(at=self._elapsed(), step=self._name, tool=tool, is_error=is_error))

    def judged(self, verdicts: Iterable[Verdict]) -> None:
        """Tell of what is not as expected."""
        for verdict in verdicts:
            if not verdict.passed:
                self._listen(
                    Expected(
                        at=self._elapsed(),
                        step=self._name,
                        kind=verdict.kind,
                        level=verdict.level,
                        message=verdict.message,
                    )
                )
