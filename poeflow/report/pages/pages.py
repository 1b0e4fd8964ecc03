"""Renders the pages of the server as HTML.

Every text in a template is escaped, control characters included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from poeflow.records import InstanceRecord, Records, RequestRow, RunFilter, RunRow, how_to_go_on
from poeflow.report.history import graded, run_before, scored, unmet_in
from poeflow.report.pages import words
from poeflow.report.pages.compare_page import comparison_view
from poeflow.report.pages.groups import NumberedInstance, grouped, numbered
from poeflow.report.pages.instance_page import digests_of, instance_view
from poeflow.report.pages.run_page import page_number, run_view, step_view
from poeflow.report.pages.source import PageData, Picture, paths_of
from poeflow.report.pages.words import RUN_STATES, moment, run_state

_A_PAGE: Final = 50
_MOST_PAGES: Final = 200
_RECENT: Final = 300
_SIMULATED: Final = {"yes": True, "no": False}
_FOLDER: Final = Path(__file__).parent
ASSETS: Final = _FOLDER / "assets"
_FILTERS: Final = (
    words.beginning,
    words.count,
    words.iso,
    words.pretty,
    words.query,
    words.size,
    words.took,
    words.usd,
    graded,
    scored,
    unmet_in,
)


class Pages:
    """The pages of a server below `root`; None if there is nothing at an address.

    Its methods only read, and may be called from any thread. They raise `DiskError`.
    """

    def __init__(self, shown: PageData, root: str) -> None:
        self._shown = shown
        self._records = shown.records
        self._pictures = shown.pictures
        self._links = SiteLinks(root)
        self._environment = page_environment(self._links, shown.zone)

    def runs(self, asked: Mapping[str, str]) -> str:
        """Return the list of runs that match the filters in `asked`."""
        seen = self._records.changes()
        return self._filled("runs.html", view=_runs_view(self._records, asked), seen=seen)

    def run(self, number: int) -> str | None:
        seen = self._records.changes()
        row = self._records.run(number)
        if row is None:
            return None
        waiting: tuple[RequestRow, ...] = ()
        if row.end is None:
            waiting = tuple(one for one in self._records.requests(number) if one.answer is None)
        view = run_view(row, self._records.instances(number), unanswered=waiting)
        earlier = run_before(self._records, row, within=_RECENT)
        return self._filled("run.html", view=view, earlier=earlier, seen=seen)

    def step(self, run: int, number: int, asked: Mapping[str, str]) -> str | None:
        """Return the page of a step with all its instances."""
        seen = self._records.changes()
        row = self._records.run(run)
        if row is None:
            return None
        groups = grouped(row, numbered(self._records.instances(run)))
        if not 1 <= number <= len(groups):
            return None
        view = step_view(row, groups[number - 1], asked)
        return self._filled("step.html", view=view, row=row, seen=seen)

    def instance(self, run: int, number: int) -> str | None:
        row, instances = self._records.run(run), numbered(self._records.instances(run))
        if row is None or not 1 <= number <= len(instances):
            return None
        one = instances[number - 1]
        group = next(each for each in grouped(row, instances) if each.step == one.record.step)
        at = group.instances.index(one)
        view = instance_view(
            NumberedInstance(one.number, self._shown.completed(one.record)),
            self._records.requests(run, one.record.id),
            address_of=lambda one, digest: self._address(run, one, digest),
            prices=self._shown.prices,
        )
        return self._filled(
            "instance.html",
            row=row,
            view=view,
            group=group,
            previous=group.instances[at - 1] if at else None,
            following=group.instances[at + 1] if at + 1 < len(group.instances) else None,
        )

    def text(self, run: int, number: int) -> str | None:
        """Return the whole text of an answer."""
        record = self._instance(run, number)
        return None if record is None else record.text

    def picture(self, run: int, number: int, digest: str) -> Picture | None:
        """Return a picture that an instance names; other files are not served."""
        record = self._instance(run, number)
        if record is None or digest not in digests_of(record):
            return None
        return self._pictures.find(digest, paths_of(record, digest))

    def comparison(self, asked: Mapping[str, str]) -> str | None:
        """Return the runs `a` and `b` of `asked` side by side."""
        old, new = self._asked_run(asked.get("a", "")), self._asked_run(asked.get("b", ""))
        if old is None or new is None:
            return None
        view = comparison_view(
            (old, self._records.instances(old.id)), (new, self._records.instances(new.id)), asked
        )
        return self._filled("compare.html", view=view)

    def message(self, title: str, text: str) -> str:
        """Return a page with only this message."""
        return self._filled("message.html", title=title, text=text)

    def changes(self) -> int:
        return self._records.changes()

    def _asked_run(self, text: str) -> RunRow | None:
        is_number = text.isascii() and text.isdecimal() and len(text) < 16
        return self._records.run(int(text)) if is_number else None

    def _instance(self, run: int, number: int) -> InstanceRecord | None:
        found = self._records.instances(run)
        return found[number - 1] if 1 <= number <= len(found) else None

    def _address(self, run: int, one: NumberedInstance, digest: str) -> str | None:
        found = self._pictures.find(digest, paths_of(one.record, digest))
        return None if found is None else self._links.picture(run, one.number, digest)

    def _filled(self, template: str, **values: object) -> str:
        page = self._environment.get_template(template).render(**values)
        return self._shown.scrubber.scrub(page)


@dataclass(frozen=True, slots=True)
class RunsView:
    """The runs that match the filters in `asked`. `flows` are those that were run lately."""

    rows: tuple[RunRow, ...]
    asked: Mapping[str, str]
    flows: tuple[str, ...]
    page: int
    has_more: bool

    @property
    def is_filtered(self) -> bool:
        return any(self.asked.values())


def _runs_view(records: Records, given: Mapping[str, str]) -> RunsView:
    """Return the runs that match `flow`, `state`, `simulated` and `text`, on page `page`."""
    asked = {name: given.get(name, "").strip() for name in ("flow", "state", "simulated", "text")}
    page = min(page_number(given), _MOST_PAGES)
    wanted = RunFilter(
        flow=asked["flow"] or None,
        state=next((state for state in RUN_STATES if state == asked["state"]), None),
        simulated=_SIMULATED.get(asked["simulated"]),
        text=asked["text"] or None,
        limit=page * _A_PAGE + 1,
    )
    found = records.runs(wanted)
    recent = records.runs(RunFilter(limit=_RECENT))
    flows = sorted({row.record.flow for row in recent} | ({asked["flow"]} - {""}))
    rows = found[(page - 1) * _A_PAGE : page * _A_PAGE]
    return RunsView(rows, asked, tuple(flows), page, has_more=len(found) > page * _A_PAGE)


def page_environment(links: object, zone: tzinfo | None) -> Environment:
    """Return the Jinja environment; times are in `zone`. Templates are trusted, values are not."""
    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    made.globals |= {
        "how_to_go_on": how_to_go_on,
        "links": links,
        "moment": lambda seconds: moment(seconds, zone),
        "run_state": run_state,
        "states": RUN_STATES,
    }
    made.filters |= {one.__name__: one for one in _FILTERS}
    return made


class SiteLinks:
    """The addresses of a server whose pages are all below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root

    def runs(self) -> str:
        return f"{self.root}/"

    def run(self, run: int) -> str:
        return f"{self.root}/runs/{run}"

    def step(self, run: int, step: int) -> str:
        return f"{self.root}/runs/{run}/steps/{step}"

    def instance(self, run: int, number: int) -> str:
        return f"{self.root}/runs/{run}/{number}"

    def text(self, run: int, number: int) -> str:
        """Return the address of an instance's answer, whole and as plain text."""
        return f"{self.instance(run, number)}/text"

    def picture(self, run: int, number: int, digest: str) -> str:
        return f"{self.instance(run, number)}/pictures/{digest}"

    def comparison(self, old: int, new: int) -> str:
        return f"{self.root}/compare?a={old}&b={new}"


def _harmless(value: object) -> object:
    """Return a value with control characters escaped; markup was made from escaped text."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return words.harmless(value)
    return value
