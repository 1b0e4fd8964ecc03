"""Listeners for the events of a run: JSON Lines, and wrappers that mask keys or keep errors."""

import json
import posixpath
from typing import TextIO

import msgspec

from poeflow.events import Event, Listener, RunFinished, TextArrived
from poeflow.redact import SHOWN_BEFORE, Scrubber, masked
from poeflow.report.github_commands import inert_json


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
    ends: dict[tuple[str, str], str] = {}
    """The last characters that were passed on: too few to hold back, but a key may begin there."""

    def hear(event: Event) -> None:
        if isinstance(event, TextArrived):
            of = event.step, event.kind
            end = ends.get(of, "")
            ready, rest = _split_at_key(held.pop(of, None), event, scrubber, end=end)
            if rest is not None:
                held[of] = rest
            if ready is not None:
                ends[of] = (end + ready.text)[-SHOWN_BEFORE:]
                listen(ready)
            return
        if held:
            step = getattr(event, "step", None)
            for key in [key for key in held if step == key[0] or isinstance(event, RunFinished)]:
                listen(masked(held.pop(key), scrubber))
        listen(masked(event, scrubber))

    return hear


def _split_at_key(
    before: TextArrived | None, event: TextArrived, scrubber: Scrubber, *, end: str
) -> tuple[TextArrived | None, TextArrived | None]:
    """Return the part of a piece to pass on now, and the part to hold back; None for neither.

    `end` was passed on before it; it is only looked at.
    """
    held = before.text if before is not None else ""
    text = end + held + event.text
    shown = masked(text, scrubber)
    start = len(end) if shown is text else len(posixpath.commonprefix((end, shown)))
    stop = max(start, len(shown) - scrubber.begun(shown))
    if shown is text and not held and stop == len(shown):
        return event, None
    rest = msgspec.structs.replace(event, text=shown[stop:]) if stop < len(shown) else None
    ready = msgspec.structs.replace(event, text=shown[start:stop]) if start < stop else None
    return ready, rest
