"""A listener that goes on when what it writes to is gone: a run does not fail for its log."""

from poeflow.events import Event, Listener


class Lasting:
    """Hears events for `listen` until that cannot write any more. `error` is why, if it cannot."""

    def __init__(self, listen: Listener) -> None:
        self._listen = listen
        self.error: OSError | None = None

    def __call__(self, event: Event) -> None:
        if self.error is not None:
            return
        try:
            self._listen(event)
        except OSError as error:
            self.error = error

    def reason_to_stop(self) -> str:
        """Return why nothing new is worth starting where the events are all that is wanted."""
        return "" if self.error is None else "nobody reads the events any more"
