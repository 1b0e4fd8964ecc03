"""What pages are made from: the history, and what of the project is shown with it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo

from poeflow.costs import Prices
from poeflow.records import InstanceRecord, Records
from poeflow.report.pages.pictures import Pictures


def _as_it_is(record: InstanceRecord) -> InstanceRecord:
    return record


@dataclass(frozen=True, slots=True)
class Shown:
    """The history, pictures of the project, prices of models.

    `completed` gives an instance that was current the result an earlier run had of it. `zone` is
    whose clock times are told by, None for the user's own.
    """

    records: Records
    pictures: Pictures
    prices: Prices
    completed: Callable[[InstanceRecord], InstanceRecord] = _as_it_is
    zone: tzinfo | None = None


def paths_of(record: InstanceRecord, digest: str) -> tuple[str, ...]:
    """Return where an instance wrote a file with these bytes."""
    return tuple(path for path, known in record.files.items() if known == digest)
