"""`poeflow report`: write a run as one HTML file."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Final

import click

from poeflow.cli.completing import RUNS
from poeflow.cli.page_server import page_source
from poeflow.cli.private_files_options import trust_state_option
from poeflow.cli.run_arguments import history_here, run_argument
from poeflow.errors import UsageError
from poeflow.opener import read_packaged
from poeflow.project.project import Project, atomic_write
from poeflow.records import RequestRow, RunRow, whole_instance
from poeflow.report.pages.groups import NumberedInstance, StepGroup
from poeflow.report.pages.instance_page import InstanceView, SentRequest, instance_view
from poeflow.report.pages.pages import ASSETS, page_environment
from poeflow.report.pages.run_page import run_view
from poeflow.report.pages.source import PageData, paths_of

EPILOG: Final = """\b
Examples:
  poeflow report last --html run.html
  poeflow report 12 --html reports/12.html
"""


@click.command(epilog=EPILOG)
@click.argument("run", shell_complete=RUNS)
@click.option(
    "--html",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where to write the page.",
)
@trust_state_option
def report(run: str, target: Path) -> None:
    """Write a run as one page: prompts, answers, pictures, timings, costs.

    RUN is a number of `poeflow history`, or last. The file needs no server and no network, and has
    no script. It shows all prompts and answers: share it only if these may be shared.
    """
    with history_here() as history:
        place = run_argument(history, run)
        if place.name is not None:
            raise UsageError(f"{run} names an instance", hint=f"report all of run {place.run.id}")
        shown = page_source(Project.find(Path.cwd()), history)
        pages = html_report(shown.records.run(place.run.id) or place.run, shown)
        atomic_write(target.absolute(), pages)


_MOST_PICTURES: Final = 20 * 1024 * 1024
_BUFFERED: Final = 256
"""Values of a page that are written together."""
_MOST_RAW: Final = 4 * 1024 * 1024
"""Bytes of pictures, and characters of raw requests and answers, that a report includes."""


def html_report(row: RunRow, shown: PageData) -> Iterator[bytes]:
    """Yield a page with all of a run, in UTF-8, with times in UTC. Raises `DiskError`.

    Pictures and raw JSON are included until the file would be too large to open.
    """
    style = read_packaged(ASSETS / "style.css").decode()
    records = shown.records.instances(row.id)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = page_environment(FileLinks(), UTC).get_template("report.html")
    pieces = page.stream(
        view=run_view(row, records, few=len(records)),
        report=_Report(row, shown),
        style=style,
        digest=digest,
    )
    pieces.enable_buffering(_BUFFERED)
    return (shown.scrubber.scrub(piece).encode() for piece in pieces)


class _Report:
    """The instances of a report, one by one, and the room left for pictures and JSON."""

    def __init__(self, row: RunRow, shown: PageData) -> None:
        self._shown = shown
        self._picture_room = _MOST_PICTURES
        self._missing: set[str] = set()
        self._raw_room = _MOST_RAW
        self._requests: dict[str, list[RequestRow]] = {}
        for request in shown.records.requests(row.id):
            name = whole_instance(request.record.instance)
            self._requests.setdefault(name, []).append(request)

    def views(self, group: StepGroup) -> Iterator[InstanceView]:
        """Yield the views of the instances of a step."""
        for one in group.instances:
            view = instance_view(
                NumberedInstance(one.number, self._shown.completed(one.record)),
                self._requests.get(one.record.id, ()),
                address_of=self._address,
                prices=self._shown.prices,
            )
            yield replace(view, sent=tuple(map(self._fitting, view.sent)))

    def _address(self, one: NumberedInstance, digest: str) -> str | None:
        if digest in self._missing:
            return None
        found = self._shown.pictures.find(digest, paths_of(one.record, digest))
        if found is None:
            self._missing.add(digest)
        if found is None or len(found.data) > self._picture_room:
            return None
        self._picture_room -= len(found.data)
        return f"data:{found.media_type};base64,{base64.b64encode(found.data).decode()}"

    def _fitting(self, sent: SentRequest) -> SentRequest:
        self._raw_room -= len(sent.request) + len(sent.answer)
        return sent if self._raw_room > 0 else replace(sent, request="", answer="")


class FileLinks:
    """The anchors in a file that holds one run; empty for pages that it does not hold."""

    def runs(self) -> str:
        return ""

    def run(self, run: int) -> str:
        return "#run"

    def step(self, run: int, step: int) -> str:
        return f"#step-{step}"

    def instance(self, run: int, number: int) -> str:
        return f"#instance-{number}"

    def text(self, run: int, number: int) -> str:
        return ""

    def comparison(self, old: int, new: int) -> str:
        return ""
