"""Writes a run as one HTML file that needs nothing else: no script, server or network."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from typing import Final

from jinja2 import Environment

from poeflow.opener import read_packaged
from poeflow.records import RequestRow, RunRow, whole_instance
from poeflow.report.pages.groups import NumberedInstance, StepGroup
from poeflow.report.pages.instance_page import InstanceView, SentRequest, instance_view
from poeflow.report.pages.pages import ASSETS, FileLinks, page_environment
from poeflow.report.pages.run_page import run_view
from poeflow.report.pages.source import PageData, paths_of
from poeflow.report.pages.words import moment, run_state

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
    page = _environment().get_template("report.html")
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


def _environment() -> Environment:
    made = page_environment()
    made.globals |= {
        "links": FileLinks(),
        "moment": lambda seconds: moment(seconds, UTC),
        "run_state": run_state,
    }
    return made
