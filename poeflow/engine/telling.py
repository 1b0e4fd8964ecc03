"""What the client tells of an answer under way becomes events."""

from poeflow.client.progress import Delta, Progress
from poeflow.events import Event, RetryPlanned, TextArrived


def told(progress: Progress, step: str, at: float) -> tuple[Event, ...]:
    """Return the events of one piece of progress of `step`, `at` seconds into the run."""
    if isinstance(progress, Delta):
        pieces = [
            TextArrived(at=at, step=step, text=progress.reasoning, kind="reasoning"),
            TextArrived(at=at, step=step, text=progress.text),
        ]
        return tuple(piece for piece in pieces if piece.text)
    return (
        RetryPlanned(
            at=at,
            step=step,
            attempt=progress.attempt,
            wait=progress.wait,
            reason=progress.error.message,
        ),
    )
