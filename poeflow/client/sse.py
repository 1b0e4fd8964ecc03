"""Server-sent events, decoded byte by byte to the standard, without I/O.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from dataclasses import dataclass
from typing import Final

from poeflow.client.bounds import MAX_LINES, Count
from poeflow.errors import AnswerTooLargeError

MAX_LINE: Final = 16 * 1024 * 1024
_BREAK: Final = re.compile(rb"\r\n|\n|\r")
BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `data` keeps its bytes, so that a character split across reads is whole again."""

    data: bytes
    event: str = "message"


class Decoder:
    """Feed it bytes as they come; it gives back the events they complete.

    Lines end with LF, CRLF or CR and hold at most `max_line` bytes. An event at the end of the
    stream without its blank line, which the standard drops, is what `end` gives back.
    """

    def __init__(self, *, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._is_first_line = True
        self._lines = Count(MAX_LINES, "the stream has too many lines")
        self._ended_with_cr = False

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Return the events that `data` completes. Raises `AnswerTooLargeError` over the limit."""
        if self._ended_with_cr and data:
            self._ended_with_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._ended_with_cr = data.endswith(b"\r")
            lines = _BREAK.split(data)
        else:
            lines = data.split(b"\n")
        if len(lines) == 1:
            self._keep(lines[0])
            return []
        if self._rest:
            self._keep(lines[0])
            lines[0] = bytes(self._rest)
            self._rest.clear()
        if len(data) > self._max_line:
            self._limit(max(map(len, lines)))
        last = lines.pop()
        events = self._events(lines)
        self._keep(last)
        return events

    def end(self) -> list[ServerEvent]:
        """Return the event that the end of the stream leaves without its blank line."""
        rest = bytes(self._rest)
        self._rest.clear()
        return self._events([rest, b""])

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        self._limit(len(self._rest))

    def _limit(self, size: int) -> None:
        if size > self._max_line:
            raise AnswerTooLargeError(f"a line of the stream is longer than {self._max_line} bytes")

    def _events(self, lines: list[bytes]) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        self._lines.add(len(lines))
        if self._is_first_line:
            self._is_first_line = False
            lines[0] = lines[0].removeprefix(BOM)
        for line in lines:
            if not line:
                self._dispatch(events)
            elif line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                self._event = line[6:].decode("utf-8", "replace").removeprefix(" ")
            elif line == b"data":
                self._add(b"")
            elif line == b"event":
                self._event = ""
        return events

    def _add(self, value: bytes) -> None:
        self._size += len(value)
        self._limit(self._size)
        self._data.append(value)

    def _dispatch(self, events: list[ServerEvent]) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(ServerEvent(data, self._event or "message"))
            self._data = []
            self._size = 0
        self._event = ""
