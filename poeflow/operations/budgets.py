"""The budgets of a command and of its flows, and the prices they count with."""

import functools
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from poeflow.bots import Pricing
from poeflow.client.catalogue import stored_catalogue
from poeflow.costs import PERIODS, Period, PeriodSpending, Prices
from poeflow.engine.asking.spending import Bounds, Budget, Limit
from poeflow.flowfile.model import Limits
from poeflow.flowfile.project_settings import read_project_settings
from poeflow.operations.run_options import RunOptions, user_config
from poeflow.project.project import Project
from poeflow.settings import UserConfig
from poeflow.store.history_rows import cost_since
from poeflow.store.workspace import Workspace

CI_REQUESTS: Final = 200
"""The default limit on the requests of a run in CI."""


def bounds(limits: Mapping[str, Limits], *, is_ci: bool) -> Bounds:
    """Return the smallest of the limits, given by their sources."""
    found: dict[str, Limit | None] = {}
    for field in Bounds.__struct_fields__:
        set_ones = [
            Limit(value=value, owner=owner)
            for owner, one in limits.items()
            if (value := getattr(one, f"max_{field}")) is not None
        ]
        found[field] = min(set_ones, key=lambda limit: limit.value, default=None)
    if is_ci and found["requests"] is None:
        found["requests"] = Limit(value=CI_REQUESTS, owner="the default in CI")
    return Bounds(**found)


def shared_budget(project: Project, options: RunOptions) -> Budget:
    """Return the budget of a command: limits of caller, user and project, and the default of CI."""
    config = user_config(project, options)
    own = Limits(
        max_requests=config.max_requests,
        max_tokens=config.max_tokens,
        max_cost_usd=config.max_cost_usd,
        max_points=config.max_points,
    )
    is_ci = bool(options.environ.get("CI")) and not options.offline
    shared = read_project_settings(project)
    limits = {
        "the command line": options.limits,
        "your configuration": own,
        shared.shown: shared.limits,
    }
    within, is_free = bounds(limits, is_ci=is_ci), _needs_no_price(options, config)
    return Budget(within, prices_of(project, options.environ), allow_unpriced=is_free)


def budget_of(project: Project, limits: Limits, options: RunOptions) -> Budget:
    """Return the budget of one flow: its own limits, within the budget of the command."""
    shared, own = options.budget or shared_budget(project, options), read_project_settings(project)
    within = bounds({"limits of the flow": limits, own.shown: own.limits}, is_ci=False)
    is_free = _needs_no_price(options, user_config(project, options))
    prices = prices_of(project, options.environ)
    return Budget(within, prices, shared=shared, allow_unpriced=is_free)


class PeriodCost(msgspec.Struct, frozen=True, kw_only=True):
    """The limit on the cost of a period, and what the history has of it.

    `unknown` counts requests whose cost is not known: they count as nothing.
    """

    period: Period
    limit: Limit
    cost_usd: Decimal
    unknown: int


def period_costs(
    project: Project, workspace: Workspace, options: RunOptions
) -> tuple[PeriodCost, ...]:
    """Return the limits on a day and a month that are set. Raises `DiskError`.

    Nothing limits an offline run, which costs nothing.
    """
    if options.offline:
        return ()
    config, found = user_config(project, options), []
    for period in PERIODS:
        given = {"the command line": options, "your configuration": config}
        limits = [
            Limit(value=value, owner=owner)
            for owner, one in given.items()
            if (value := getattr(one, period.key)) is not None
        ]
        if limits:
            begin, _ = period.span(options.clock.now())
            cost, unknown = cost_since(workspace.history_path, begin)
            least = min(limits, key=lambda limit: limit.value)
            found.append(PeriodCost(period=period, limit=least, cost_usd=cost, unknown=unknown))
    return tuple(found)


def limit_periods(budget: Budget, costs: Iterable[PeriodCost], options: RunOptions) -> None:
    """Limit a run by what all runs of its day and month may cost.

    Its workspace is held, so that no other run adds to what the history has.
    """
    for one in costs:
        spending = PeriodSpending(one.period, one.cost_usd, options.clock)
        budget.limit_period(one.limit, spending)


def _needs_no_price(options: RunOptions, config: UserConfig) -> bool:
    """Whether models without a known price may be asked while the cost is limited."""
    return options.offline or options.allow_unpriced or config.allow_unpriced


def prices_of(project: Project, environ: Mapping[str, str]) -> Prices:
    """Return the prices in the project's settings, else those of the stored catalogue."""
    catalogue, own = (
        stored_catalogue(project, environ)[0],
        read_project_settings(project).prices,
    )

    @functools.lru_cache(maxsize=256)
    def price(model: str) -> Pricing | None:
        if model.casefold() in own:
            return own[model.casefold()]
        bot = catalogue.find(model) if catalogue is not None else None
        return bot.pricing if bot is not None else None

    return price
