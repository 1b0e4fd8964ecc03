"""JSON Schemas (2020-12) that answers must fit, checked in bounded time and told in sentences.

A schema comes from a file, an answer from a model: nothing is fetched, patterns run in linear
time, and the work of one check is limited.
"""

import functools
import threading
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from poeflow.answers.display import path_text
from poeflow.answers.schema_dialects import foreign_faults
from poeflow.answers.schema_errors import sentence
from poeflow.answers.schema_faults import Fault, Inspection, registry_of
from poeflow.answers.schema_keywords import Effort, TooMuchWorkError, keywords
from poeflow.digest import Json, canonical
from poeflow.errors import StepError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MAX_FAULTS: Final = 10
_MAX_KEPT: Final = 64


class Schema:
    """A compiled JSON Schema."""

    def __init__(self, written: dict[str, Json]) -> None:
        self._effort = Effort()
        self._lock = threading.Lock()
        self._validator = _validator(written, self._effort)

    def faults(self, data: Json) -> tuple[str, ...]:
        """Return what keeps `data` from fitting, at most ten sentences; none where it fits.

        Each names its place as a path: `bullets[2]: 7 is not text`.
        """
        with self._lock:
            self._effort.refill()
            try:
                errors = islice(self._validator.iter_errors(data), MAX_FAULTS)
                return tuple(dict.fromkeys(map(sentence, errors)))
            except TooMuchWorkError:
                return ("checking it against its schema takes too long; make it shorter",)
            except RecursionError:
                return ("it is nested too deep to check it against its schema",)


def compile_schema(written: Mapping[str, Json]) -> Schema:
    """Return a schema ready to check answers; equal ones are compiled once.

    Raises `StepError` where it is no valid schema.
    """
    return _compiled(canonical(written))


def schema_faults(
    written: Mapping[str, Json], inspection: Inspection | None = None
) -> tuple[Fault, ...]:
    """Return what is wrong with a schema itself: (path of keys inside it, sentence) pairs.

    Wrong is also what is valid and says something else than its writer means, or nothing. The
    schemas of one flow are given one `inspection`, whose limit is theirs together.
    """
    foreign = tuple(islice(foreign_faults(dict(written)), MAX_FAULTS))
    told = [path for path, _ in foreign]
    others = (
        (path, message)
        for path, message in (inspection or Inspection()).schema(written)
        if not any(path[: len(place)] == place for place in told)
    )
    return (*foreign, *others)


@functools.lru_cache(_MAX_KEPT)
def _compiled(encoded: bytes) -> Schema:
    written: dict[str, Json] = msgspec.json.decode(encoded)
    for path, message in Inspection().schema(written):
        place = f"{path_text(path)}: " if path else ""
        raise StepError(f"the schema is not valid: {place}{message}", hint="mend the schema")
    return Schema(written)


def _validator(written: dict[str, Json], effort: Effort) -> "Validator":
    from jsonschema import Draft202012Validator, validators

    extended: Any = validators.extend
    strict = extended(Draft202012Validator, keywords(Draft202012Validator.VALIDATORS, effort))
    plain = {key: value for key, value in written.items() if key != "$schema"}
    validator: Validator = strict(plain, registry=registry_of(plain))
    return validator
