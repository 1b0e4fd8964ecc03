"""The runs of a session: one errand after the other, within the session's budget."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from poeflow.clock import Clock
from poeflow.engine.budget import Budget
from poeflow.engine.run import Outcome
from poeflow.errors import AccountError, BudgetError, BusyError, PoeflowError
from poeflow.operations.check import Checkup
from poeflow.operations.run_options import RunOptions
from poeflow.operations.watch.errand import Errand, Screen, spending
from poeflow.operations.watch.flow import WatchedFlow
from poeflow.problems import errors_only

BETWEEN: Final = 0.5
"""Seconds between two tries to hold a project that another run holds."""


class Work:
    """Runs flows. `options` are asked for anew for every run; `budget` is the session's.

    While there is a `reason` to stop nothing new is started; flows that it kept from running as a
    whole are `cut_short`.
    """

    def __init__(
        self, options: Callable[[], RunOptions], *, budget: Budget, screen: Screen, clock: Clock
    ) -> None:
        self.reason = ""
        self.cut_short: set[WatchedFlow] = set()
        self._options = options
        self._budget = budget
        self._screen = screen
        self._clock = clock
        self._is_spent = False

    async def run(self, errand: Errand, *, on_read: Callable[[], None]) -> None:
        """Run the flows of an errand. `on_read` is called when one was read.

        What keeps a flow from running is shown. Raises `AccountError` where that is a missing key
        at the start, for it cannot come any more.
        """
        before = self._budget.summary().requests
        for flow in errand.flows:
            if not self.reason:
                await self._flow(errand, flow, on_read)
            if self.reason:
                self.cut_short.add(flow)
        spent = self._budget.summary()
        if not errand.is_first and spent.requests != before:
            self._screen.say(spending(spent))
        self._tell_spent()

    async def _flow(self, errand: Errand, flow: WatchedFlow, on_read: Callable[[], None]) -> None:
        try:
            found = flow.begin()
            on_read()
            self._screen.problems(found)
            if errors_only(found.problems):
                flow.end(is_whole=False)
                return
            outcome = await self._outcome(flow, found, is_refresh=errand.wish == "refresh")
        except PoeflowError as error:
            if errand.is_first and isinstance(error, AccountError):
                raise
            if not isinstance(error, BusyError):
                self._screen.failed(flow.shown, error)
        else:
            texts = flow.rewritten(outcome)
            self._screen.result(flow.shown, outcome, None if errand.is_first else texts)

    async def _outcome(self, flow: WatchedFlow, found: Checkup, *, is_refresh: bool) -> Outcome:
        """Run a flow, as soon as no other run holds the project."""
        is_told = False
        while True:
            try:
                with self._screen.listening() as listen:
                    options = replace(
                        self._options(),
                        refresh=is_refresh,
                        budget=self._budget,
                        listen=listen,
                        stop=lambda: self.reason,
                        wait=0.0,
                    )
                    return await flow.run(found, options)
            except BusyError as error:
                if self.reason:
                    raise
                if not is_told:
                    self._screen.say(f"waiting: {error.message}")
                is_told = True
                await self._clock.asleep(BETWEEN)

    def _tell_spent(self) -> None:
        try:
            self._budget.check()
        except BudgetError as error:
            if not self._is_spent:
                self._screen.say(f"{error.message}: watching and checking go on, nothing is sent")
            self._is_spent = True
