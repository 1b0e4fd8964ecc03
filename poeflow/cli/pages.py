"""The pages of a project's history, for the commands that serve or write them."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, cast

from poeflow.cli.private_files_options import say
from poeflow.cli.run_arguments import trusted_workspace, with_result
from poeflow.errors import UsageError
from poeflow.operations.budgets import prices_of
from poeflow.project.project import Project
from poeflow.records import InstanceRecord
from poeflow.redact import Scrubber, masked
from poeflow.report.pages.pictures import Pictures
from poeflow.report.pages.scrubbed import ScrubbedRecords
from poeflow.report.pages.source import Shown
from poeflow.store.history import History
from poeflow.store.workspace import Workspace
from poeflow.user_config import known_keys

if TYPE_CHECKING:
    from poeflow.report.pages.server import Serving

_EXTRA: Final = ("starlette", "uvicorn")


@contextlib.asynccontextmanager
async def served(project: Project, *, port: int = 0) -> AsyncIterator["Serving"]:
    """Serve the pages of a project while the block lasts, on this machine alone.

    Raises `UsageError` where the port cannot be taken or the extra `ui` is not installed.
    """
    try:
        from poeflow.report.pages.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        hint = "pip install 'poeflow[ui]'"
        raise UsageError("the pages need starlette and uvicorn", hint=hint) from None
    with History(trusted_workspace(project).history_path, told=_warn) as history:
        async with serve(shown_of(project, history), port=port) as serving:
            yield serving


def shown_of(project: Project, history: History) -> Shown:
    """Return what pages show of a project, with the secrets of the environment masked."""
    scrubber = Scrubber(*known_keys(os.environ))

    def completed(record: InstanceRecord) -> InstanceRecord:
        return cast("InstanceRecord", masked(with_result(history, record), scrubber))

    return Shown(
        records=ScrubbedRecords(history, scrubber),
        pictures=Pictures(project, Workspace(project, offline=True).outputs()),
        prices=prices_of(project, os.environ),
        completed=completed,
    )


def _warn(message: str) -> None:
    say(f"warning: {message}")
