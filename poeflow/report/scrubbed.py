"""Events without the key in them: what stands between a run and whatever shows or writes it."""

from collections.abc import Mapping

import msgspec

from poeflow.events import Event, Listener
from poeflow.redact import Scrubber


def scrubbed(listen: Listener, scrubber: Scrubber) -> Listener:
    """Return a listener that masks the secrets in every text of an event, then hands it on.

    Each event is looked at by itself: a key that a model spells out over several pieces of a
    streaming answer is not seen.
    """

    def hear(event: Event) -> None:
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        masked = {name: _masked(value, scrubber) for name, value in fields.items()}
        listen(msgspec.structs.replace(event, **masked) if masked != fields else event)

    return hear


def _masked(value: object, scrubber: Scrubber) -> object:
    if isinstance(value, str):
        return scrubber.scrub(value)
    if isinstance(value, Mapping):
        return {_masked(key, scrubber): _masked(inner, scrubber) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_masked(inner, scrubber) for inner in value)
    return value
