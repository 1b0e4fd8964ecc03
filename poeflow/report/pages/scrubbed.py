"""The history with secrets masked in all that is read of it, whenever it was kept."""

from typing import TypeVar, cast

from poeflow.records import InstanceRecord, Records, RequestRow, RunFilter, RunRow
from poeflow.redact import Scrubber, masked

T = TypeVar("T")


class ScrubbedRecords:
    """A `Records` that masks what `scrubber` knows in what `records` tells."""

    def __init__(self, records: Records, scrubber: Scrubber) -> None:
        self._records = records
        self._scrubber = scrubber

    def runs(self, wanted: RunFilter) -> tuple[RunRow, ...]:
        return self._safe(self._records.runs(wanted))

    def run(self, number: int) -> RunRow | None:
        return self._safe(self._records.run(number))

    def instances(self, run: int) -> tuple[InstanceRecord, ...]:
        return self._safe(self._records.instances(run))

    def requests(self, run: int, instance: str | None = None) -> tuple[RequestRow, ...]:
        return self._safe(self._records.requests(run, instance))

    def changes(self) -> int:
        return self._records.changes()

    def _safe(self, found: T) -> T:
        return cast("T", masked(found, self._scrubber))
