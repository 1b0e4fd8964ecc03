"""One flow under watch: what it was read from last, and what its instances answered."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec

from poeflow.engine.run import Outcome
from poeflow.operations.check import Checkup, checkup
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.operations.watch.watched_files import Change, Inputs, joined, note
from poeflow.project.project import Project
from poeflow.project.read_log import ReadLog


class Rewritten(msgspec.Struct, frozen=True):
    """The text of an instance, and the one it had before; that is None for a new instance."""

    instance: str
    old: str | None
    new: str


class WatchedFlow:
    """A flow at the path `path` of a project, called `shown`; `steps` are those it is named with.

    `outside` are files it is given that the project need not hold.
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
        self._inputs = Inputs(self._log, self.root)
        self._is_running = False
        self._texts: dict[str, str] = {}

    @property
    def inputs(self) -> Inputs:
        """What the flow is read from, as far as it is known by now."""
        if self._is_running:
            return Inputs(joined(self._log, self._earlier), self.root)
        return self._inputs

    def changes(self, touched: Collection[Path] = (), *, sweeps: bool = True) -> list[Change]:
        """Return what is not as the last run read it."""
        return self.inputs.changes(touched, sweeps=sweeps)

    def begin(self) -> Checkup:
        """Read and check the flow. What is read counts as its inputs from now on."""
        self._inputs.accept()
        self._earlier, self._log, self._is_running = self._inputs.log, ReadLog(), True
        for path in self._outside:
            note(self._log, path)
        return checkup(
            msgspec.structs.replace(self._project, log=self._log), self._path, self.shown
        )

    async def run(self, found: Checkup, options: RunOptions) -> Outcome:
        """Run the flow as it was found. Raises as `run_checked` does."""
        self._is_running, is_whole = True, False
        try:
            outcome = await run_checked(found, replace(options, steps=self._steps))
            is_whole = outcome.exit_code == 0 and not options.stop()
        finally:
            self.end(is_whole=is_whole)
        return outcome

    def end(self, *, is_whole: bool) -> None:
        """Settle what the flow is read from. Of one that did not run as a whole, all before too."""
        self._inputs = Inputs(joined(self._log, None if is_whole else self._earlier), self.root)
        self._is_running = False

    def rewritten(self, outcome: Outcome) -> list[Rewritten]:
        """Return the instances whose text is another than it was, and remember the new ones."""
        found = []
        for name, result in outcome.results.items():
            old = self._texts.get(name)
            if result.text and result.text != old:
                found.append(Rewritten(name, old, result.text))
            self._texts[name] = result.text
        return found
