"""What hears the events of a run: JSON Lines, without keys, and without failing the run."""

import json
from typing import TextIO, cast

import msgspec

from poeflow.events import Event, Listener, RunFinished, TextArrived
from poeflow.redact import Scrubber, masked
from poeflow.report.github_commands import inert_json


class JsonLines:
    """Writes every event as a line to `stream`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        record = msgspec.to_builtins(event)
        line = json.dumps(record, ensure_ascii=True, allow_nan=False)
        self._stream.write(inert_json(line) + "\n")
        self._stream.flush()


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
