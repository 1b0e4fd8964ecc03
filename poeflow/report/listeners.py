"""Listeners for the events of a run: JSON Lines, and wrappers that mask keys or keep errors."""

import json
from typing import Final, TextIO, cast

import msgspec

from poeflow.events import Event, Listener, RunFinished, TextArrived
from poeflow.redact import Scrubber, masked
from poeflow.report.github_commands import inert_json

_SHORT: Final = 1000
_MANY: Final = 5000
_NUMBERS: Final = frozenset({int, float, bool, type(None)})


class JsonLines:
    """Writes every event to `stream`, one a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        record = msgspec.to_builtins(event)
        line = json.dumps(record, ensure_ascii=True, allow_nan=False)
        self._stream.write(inert_json(line) + "\n")
        self._stream.flush()


class TolerantListener:
    """Passes events to `listen` until it cannot write any more; `error` is then the reason.

    `hears_text` is whether it uses the pieces of answers as they arrive, and that an instance
    begins which ends at once.
    """

    def __init__(self, listen: Listener, *, hears_text: bool = True) -> None:
        self._listen = listen
        self.hears_text = hears_text
        self.error: OSError | None = None

    def __call__(self, event: Event) -> None:
        if self.error is not None:
            return
        try:
            self._listen(event)
        except OSError as error:
            self.error = error

    def reason_to_stop(self) -> str:
        """Return why to stop a run whose only output are its events, empty for no reason."""
        return "" if self.error is None else "nobody reads the events any more"


def scrubbed(listen: Listener, scrubber: Scrubber) -> Listener:
    """Return a listener that masks the secrets in every event, then passes it to `listen`.

    If the end of a piece of a streaming answer may be the beginning of a key, it is held back until
    the next piece, so that a key spread over several pieces is masked too.
    """
    held: dict[tuple[str, str], TextArrived] = {}
    clean: set[str] = set()
    """Texts of lately, such as names of instances, in which there is no key."""

    def hear(event: Event) -> None:
        if isinstance(event, TextArrived):
            ready, rest = _split_at_key(held.pop((event.step, event.kind), None), event, scrubber)
            if rest is not None:
                held[event.step, event.kind] = rest
            if ready is not None:
                pass_on(ready)
            return
        step = getattr(event, "step", None) if held else None
        for key in [key for key in held if step == key[0] or isinstance(event, RunFinished)]:
            pass_on(held.pop(key))
        pass_on(event)

    def pass_on(event: Event) -> None:
        texts = _only_texts(event)
        if texts is not None and clean.issuperset(texts):
            listen(event)
            return
        safe = cast("Event", masked(event, scrubber))
        if texts is not None and safe is event and max(map(len, texts), default=0) <= _SHORT:
            if len(clean) > _MANY:
                clean.clear()
            clean.update(texts)
        listen(safe)

    return hear


def _only_texts(event: Event) -> list[str] | None:
    """Return the texts of an event with nothing else but numbers; None for any other."""
    if isinstance(event, TextArrived):
        return None
    texts: list[str] = []
    for field in msgspec.structs.astuple(event):
        kind = field.__class__
        if kind is str:
            texts.append(field)
        elif kind not in _NUMBERS:
            return None
    return texts


def _split_at_key(
    before: TextArrived | None, event: TextArrived, scrubber: Scrubber
) -> tuple[TextArrived | None, TextArrived | None]:
    """Return the part of a piece to pass on now, and the part to hold back; None for neither."""
    whole = event
    if before is not None:
        whole = msgspec.structs.replace(event, text=before.text + event.text)
    whole = cast("TextArrived", masked(whole, scrubber))
    count = scrubber.begun(whole.text)
    if not count:
        return whole, None
    rest = msgspec.structs.replace(whole, text=whole.text[-count:])
    ready = msgspec.structs.replace(whole, text=whole.text[:-count])
    return (ready if ready.text else None), rest
