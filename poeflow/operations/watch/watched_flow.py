"""A flow in a watch session: the files it was read from, and the texts of its last run."""

from collections.abc import Collection
from pathlib import Path

import msgspec

from poeflow.engine.results import Outcome
from poeflow.operations.check import Checkup, checkup
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.operations.watch.watched_files import (
    FileChange,
    WatchedFiles,
    merged_log,
    note_outside_file,
)
from poeflow.project.project import Project
from poeflow.project.read_log import ReadLog


class RewrittenText(msgspec.Struct, frozen=True):
    """The new text of an instance, and the old one, None for a new instance."""

    instance: str
    old: str | None
    new: str


class WatchedFlow:
    """The flow at `path` in a project, called `shown` in messages; `steps` are those to run.

    `outside` are further input files, which may lie outside of the project.
    """

    def __init__(
        self,
        project: Project,
        path: str,
        *,
        shown: str,
        steps: tuple[str, ...] = (),
        outside: Collection[Path] = (),
    ) -> None:
        self.root = project.root
        self._project = project
        self.shown = shown
        self._path = path
        self._steps = steps
        self._outside = outside
        self._log = ReadLog()
        self._earlier = ReadLog()
        self._inputs = WatchedFiles(self._log, self.root)
        self._is_running = False
        self._texts: dict[str, str] = {}

    @property
    def inputs(self) -> WatchedFiles:
        """The files the flow is read from, as far as known."""
        if self._is_running:
            return WatchedFiles(merged_log(self._log, self._earlier), self.root)
        return self._inputs

    def changes(self, touched: Collection[Path] = (), *, sweeps: bool = True) -> list[FileChange]:
        """Return the files that changed since the last run read them."""
        return self.inputs.changes(touched, sweeps=sweeps)

    def begin(self) -> Checkup:
        """Read and check the flow. The files that are read are watched from now on."""
        self._inputs.mark_as_read()
        self._earlier, self._log, self._is_running = self._inputs.log, ReadLog(), True
        for path in self._outside:
            note_outside_file(self._log, path)
        project = msgspec.structs.replace(self._project, log=self._log)
        try:
            return checkup(project, self._path, self.shown)
        except BaseException:
            self.end(is_whole=False)
            raise

    async def run(self, found: Checkup, options: RunOptions) -> Outcome:
        """Run the checked flow. Raises what `run_checked` raises."""
        self._is_running, is_whole = True, False
        try:
            outcome = await run_checked(found, msgspec.structs.replace(options, steps=self._steps))
            is_whole = outcome.exit_code == 0 and not options.stop()
        finally:
            self.end(is_whole=is_whole)
        return outcome

    def end(self, *, is_whole: bool) -> None:
        """Decide which files to watch; after an unfinished run, those of earlier runs, too."""
        self._inputs = WatchedFiles(
            merged_log(self._log, None if is_whole else self._earlier), self.root
        )
        self._is_running = False

    def rewritten_texts(self, outcome: Outcome) -> list[RewrittenText]:
        """Return the instances whose text changed, and remember the new texts."""
        found = []
        for name, result in outcome.results.items():
            old = self._texts.get(name)
            if result.text and result.text != old:
                found.append(RewrittenText(name, old, result.text))
            self._texts[name] = result.text
        return found
