"""The pages of the server as HTML: each looks up what it shows and fills a template."""

from collections.abc import Mapping

from poeflow.records import InstanceRecord, RequestRow, RunRow
from poeflow.report.pages.compare_page import comparison_view
from poeflow.report.pages.conversation import digests_of
from poeflow.report.pages.environment import environment
from poeflow.report.pages.groups import Numbered, grouped, numbered
from poeflow.report.pages.instance_page import instance_view
from poeflow.report.pages.links import SiteLinks
from poeflow.report.pages.pictures import Picture
from poeflow.report.pages.run_page import run_view, step_view
from poeflow.report.pages.runs_view import before, runs_view
from poeflow.report.pages.source import Shown, paths_of
from poeflow.report.pages.standing import RUN_STATES, result_of, run_state
from poeflow.report.pages.words import moment


class Pages:
    """The pages of a server below `root`; None where there is nothing at an address.

    All of it only reads, and may be called from any thread. Raises `DiskError`.
    """

    def __init__(self, shown: Shown, root: str) -> None:
        self._shown = shown
        self._records = shown.records
        self._pictures = shown.pictures
        self._links = SiteLinks(root)
        self._environment = environment()
        self._environment.globals |= {
            "links": self._links,
            "moment": lambda seconds: moment(seconds, shown.zone),
            "result_of": result_of,
            "run_state": run_state,
            "states": RUN_STATES,
        }

    def runs(self, asked: Mapping[str, str]) -> str:
        """Return the list of runs that `asked` describes."""
        seen = self._records.changes()
        return self._filled("runs.html", view=runs_view(self._records, asked), seen=seen)

    def run(self, number: int) -> str | None:
        seen = self._records.changes()
        row = self._records.run(number)
        if row is None:
            return None
        waiting: tuple[RequestRow, ...] = ()
        if row.end is None:
            waiting = tuple(one for one in self._records.requests(number) if one.answer is None)
        view = run_view(row, self._records.instances(number), open_requests=waiting)
        earlier = before(self._records, row)
        return self._filled("run.html", view=view, earlier=earlier, seen=seen)

    def step(self, run: int, number: int, asked: Mapping[str, str]) -> str | None:
        """Return one step of a run with all its instances."""
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
            Numbered(one.number, self._shown.completed(one.record)),
            self._records.requests(run, one.record.id),
            place=lambda numbered, digest: self._place(run, numbered, digest),
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
        """Return an answer whole."""
        record = self._instance(run, number)
        return None if record is None else record.text

    def picture(self, run: int, number: int, digest: str) -> Picture | None:
        """Return a picture that an instance names, and no other file."""
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
        """Return a page that says only this."""
        return self._filled("message.html", title=title, text=text)

    def changes(self) -> int:
        return self._records.changes()

    def _asked_run(self, text: str) -> RunRow | None:
        is_number = text.isascii() and text.isdecimal() and len(text) < 16
        return self._records.run(int(text)) if is_number else None

    def _instance(self, run: int, number: int) -> InstanceRecord | None:
        found = self._records.instances(run)
        return found[number - 1] if 1 <= number <= len(found) else None

    def _place(self, run: int, one: Numbered, digest: str) -> str | None:
        found = self._pictures.find(digest, paths_of(one.record, digest))
        return None if found is None else self._links.picture(run, one.number, digest)

    def _filled(self, template: str, **values: object) -> str:
        return self._environment.get_template(template).render(**values)
