"""Events without the key in them: what stands between a run and whatever shows or writes it."""

from typing import cast

from poeflow.events import Event, Listener
from poeflow.redact import Scrubber, masked


def scrubbed(listen: Listener, scrubber: Scrubber) -> Listener:
    """Return a listener that masks the secrets in every text of an event, then hands it on.

    Each event is looked at by itself: a key that a model spells out over several pieces of a
    streaming answer is not seen.
    """

    def hear(event: Event) -> None:
        safe = masked(event, scrubber)
        listen(cast("Event", safe))

    return hear
