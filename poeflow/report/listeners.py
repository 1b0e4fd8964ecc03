"""A run as JSON Lines: each event one strict, ASCII-only JSON object."""

import json
from typing import TextIO

import msgspec

from poeflow.events import Event
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
