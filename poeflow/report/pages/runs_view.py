"""The list of runs as its page shows it: filtered, searched, a page at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from poeflow.records import Records, RunFilter, RunRow
from poeflow.report.pages.run_page import page_number
from poeflow.report.pages.standing import RUN_STATES

A_PAGE: Final = 50
_MOST_PAGES: Final = 200
_RECENT: Final = 300
_SIMULATED: Final = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class RunsView:
    """Runs that fit, and what was asked for. `flows` are those that were run lately."""

    rows: tuple[RunRow, ...]
    asked: Mapping[str, str]
    flows: tuple[str, ...]
    page: int
    has_more: bool

    @property
    def is_filtered(self) -> bool:
        return any(self.asked.values())


def runs_view(records: Records, given: Mapping[str, str]) -> RunsView:
    """Return the runs that fit `flow`, `state`, `simulated` and `text`, on page `page`."""
    asked = {name: given.get(name, "").strip() for name in ("flow", "state", "simulated", "text")}
    page = min(page_number(given), _MOST_PAGES)
    wanted = RunFilter(
        flow=asked["flow"] or None,
        state=next((state for state in RUN_STATES if state == asked["state"]), None),
        simulated=_SIMULATED.get(asked["simulated"]),
        text=asked["text"] or None,
        limit=page * A_PAGE + 1,
    )
    found = records.runs(wanted)
    recent = records.runs(RunFilter(limit=_RECENT))
    flows = sorted({row.record.flow for row in recent} | ({asked["flow"]} - {""}))
    rows = found[(page - 1) * A_PAGE : page * A_PAGE]
    return RunsView(rows, asked, tuple(flows), page, has_more=len(found) > page * A_PAGE)


def before(records: Records, row: RunRow) -> RunRow | None:
    """Return the run of the same flow before this one, real or simulated as this one is."""
    alike = RunFilter(flow=row.record.flow, simulated=row.record.simulated, limit=_RECENT)
    return next((one for one in records.runs(alike) if one.id < row.id), None)
