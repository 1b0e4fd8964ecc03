"""Events without the key in them: what stands between a run and whatever shows or writes it."""

from typing import cast

import msgspec

from poeflow.events import Event, Listener, RunFinished, TextArrived
from poeflow.redact import Scrubber, masked


def scrubbed(listen: Listener, scrubber: Scrubber) -> Listener:
    """Return a listener that masks the secrets in every text of an event, then hands it on.

    The end of a piece of a streaming answer that may be the beginning of a key is held back until
    the step goes on: so a key is also masked where a model spells it out over several pieces.
    """
    held: dict[tuple[str, str], TextArrived] = {}

    def hear(event: Event) -> None:
        if isinstance(event, TextArrived):
            told, rest = _parted(held.pop((event.step, event.kind), None), event, scrubber)
            if rest is not None:
                held[event.step, event.kind] = rest
            if told is not None:
                hand_on(told)
            return
        step = getattr(event, "step", None)
        for key in [key for key in held if step == key[0] or isinstance(event, RunFinished)]:
            hand_on(held.pop(key))
        hand_on(event)

    def hand_on(event: Event) -> None:
        listen(cast("Event", masked(event, scrubber)))

    return hear


def _parted(
    before: TextArrived | None, event: TextArrived, scrubber: Scrubber
) -> tuple[TextArrived | None, TextArrived | None]:
    """Return what to tell of a piece now, and what to hold back of it, each None for nothing."""
    whole = event
    if before is not None:
        whole = msgspec.structs.replace(event, text=before.text + event.text)
    whole = cast("TextArrived", masked(whole, scrubber))
    count = scrubber.begun(whole.text)
    if not count:
        return whole, None
    rest = msgspec.structs.replace(whole, text=whole.text[-count:])
    told = msgspec.structs.replace(whole, text=whole.text[:-count])
    return (told if told.text else None), rest
