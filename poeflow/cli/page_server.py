"""Serves the pages of a project, and collects their data."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from poeflow.cli.run_arguments import history_of, with_result
from poeflow.errors import UsageError
from poeflow.operations.budgets import prices_of
from poeflow.project.project import Project
from poeflow.records import InstanceRecord
from poeflow.redact import Scrubber, masked
from poeflow.report.pages.source import PageData, Pictures, ScrubbedRecords
from poeflow.settings import known_keys
from poeflow.store.history import History
from poeflow.store.workspace import Workspace

if TYPE_CHECKING:
    from poeflow.report.pages.site import PageServer

_EXTRA: Final = ("starlette", "uvicorn")


@contextlib.asynccontextmanager
async def served_pages(project: Project, *, port: int = 0) -> AsyncIterator["PageServer"]:
    """Serve the pages of a project on this machine alone.

    Raises `UsageError` if the port cannot be used or the extra `ui` is not installed.
    """
    try:
        from poeflow.report.pages.site import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        hint = "pip install 'poeflow[ui]'"
        raise UsageError("the pages need starlette and uvicorn", hint=hint) from None
    with history_of(project) as history:
        async with serve(page_source(project, history), port=port) as server:
            yield server


def page_source(project: Project, history: History) -> PageData:
    """Return the data of a project for pages, with the secrets of the environment masked."""
    scrubber = Scrubber(*known_keys(os.environ))

    def completed(record: InstanceRecord) -> InstanceRecord:
        return masked(with_result(history, record), scrubber)

    return PageData(
        records=ScrubbedRecords(history, scrubber),
        pictures=Pictures(project, Workspace(project, os.environ, offline=True).output_tree()),
        prices=prices_of(project, os.environ),
        completed=completed,
        scrubber=scrubber,
    )
