"""The user's configuration, and the budget that follows from all limits there are."""

from collections.abc import Mapping

from poeflow.bots import Pricing
from poeflow.catalogue import kept
from poeflow.engine.budget import Budget, Prices, bounds
from poeflow.files import Project
from poeflow.settings import server_of
from poeflow.spec.model import Limits
from poeflow.user_config import UserConfig, config_path, read_config
from poeflow.wiring.options import RunOptions


def user_config(project: Project, options: RunOptions) -> UserConfig:
    """Return the user's configuration: as given, else as their own file has it."""
    if options.config is not None:
        return options.config
    return read_config(config_path(options.environ), project_root=project.root)


def shared_budget(project: Project, options: RunOptions) -> Budget:
    """Return the budget of a command: the caller's limits, the user's own, and CI's default."""
    config = user_config(project, options)
    own = Limits(
        max_requests=config.max_requests,
        max_tokens=config.max_tokens,
        max_cost_usd=config.max_cost_usd,
        max_points=config.max_points,
    )
    is_ci = bool(options.environ.get("CI")) and not options.offline
    limits = {"the command line": options.limits, "your configuration": own}
    within, is_free = bounds(limits, is_ci=is_ci), _needs_no_price(options, config)
    return Budget(within, prices_of(project, options.environ), allow_unpriced=is_free)


def budget_of(project: Project, limits: Limits, options: RunOptions) -> Budget:
    """Return the budget of one flow with these limits, within the command's."""
    shared = options.budget or shared_budget(project, options)
    within = bounds({"limits of the flow": limits}, is_ci=False)
    is_free = _needs_no_price(options, user_config(project, options))
    prices = prices_of(project, options.environ)
    return Budget(within, prices, shared=shared, allow_unpriced=is_free)


def _needs_no_price(options: RunOptions, config: UserConfig) -> bool:
    """Whether models whose price is not known may be asked although the cost is limited."""
    return options.offline or options.allow_unpriced or config.allow_unpriced


def prices_of(project: Project, environ: Mapping[str, str]) -> Prices:
    """Return the prices that the kept catalogue of the server in use knows."""
    catalogue = kept(project, server_of(environ))[0]

    def price(model: str) -> Pricing | None:
        bot = catalogue.find(model) if catalogue is not None else None
        return bot.pricing if bot is not None else None

    return price
