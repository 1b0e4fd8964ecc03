"""The schema of the events of a run, written from their types."""

import inspect
from typing import Any, get_args

import msgspec

from poeflow.events import Event, Verdict

EVENTS_SCHEMA = "events.schema.json"
ABOUT = (
    "One line of `poeflow run --output jsonl`. A run begins with `run_started` and ends with "
    "`run_finished`; `at` is in seconds since it began. Later versions may add keys and events: "
    "ignore what you do not know."
)


def events_schema() -> dict[str, Any]:
    """Return the schema of one event, each kind described as its type is."""
    (whole,), defined = msgspec.json.schema_components([Event], ref_template="#/$defs/{name}")
    for kind in (*get_args(Event), Verdict):
        told = inspect.cleandoc(kind.__doc__ or "").replace("\n", " ").replace("  ", "\n\n")
        defined[kind.__name__] |= {"description": told} if told else {}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://poeflow.dev/schemas/{EVENTS_SCHEMA}",
        "title": "An event of a poeflow run",
        "description": ABOUT,
        "oneOf": whole["anyOf"],
        "$defs": defined,
    }
