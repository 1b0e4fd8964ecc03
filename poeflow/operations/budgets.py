"""The user's configuration, and the budget that follows from all limits there are."""

from collections.abc import Mapping

from poeflow.bots import Pricing
from poeflow.client.catalogue import kept
from poeflow.engine.budget import Budget, Prices, bounds
from poeflow.events import Warned
from poeflow.flowfile.model import Limits
from poeflow.flowfile.project_settings import read_shared
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project
from poeflow.settings import server_of
from poeflow.user_config import UserConfig, find_config


def user_config(project: Project, options: RunOptions) -> UserConfig:
    """Return the user's configuration: as given, else as their own file has it.

    Listeners are told, once, of one that is there and not used. Raises `UsageError`.
    """
    if options.config is not None:
        return options.config
    found = find_config(options.environ, project_root=project.root)
    if found.warning:
        warn_once(options, found.warning)
    return found.config


def warn_once(options: RunOptions, message: str) -> None:
    """Tell listeners of what is amiss and stops nothing, if none of them was told before."""
    if options.listen is not None and message not in options.told:
        options.told.add(message)
        options.listen(Warned(at=0.0, step=None, message=message))


def shared_budget(project: Project, options: RunOptions) -> Budget:
    """Return the budget of a command: the limits of caller, user and project, and CI's default."""
    config = user_config(project, options)
    own = Limits(
        max_requests=config.max_requests,
        max_tokens=config.max_tokens,
        max_cost_usd=config.max_cost_usd,
        max_points=config.max_points,
    )
    is_ci = bool(options.environ.get("CI")) and not options.offline
    shared = read_shared(project)
    limits = {
        "the command line": options.limits,
        "your configuration": own,
        shared.shown: shared.limits,
    }
    within, is_free = bounds(limits, is_ci=is_ci), _needs_no_price(options, config)
    return Budget(within, prices_of(project, options.environ), allow_unpriced=is_free)


def budget_of(project: Project, limits: Limits, options: RunOptions) -> Budget:
    """Return the budget of one flow with these limits, within the command's."""
    shared, own = options.budget or shared_budget(project, options), read_shared(project)
    within = bounds({"limits of the flow": limits, own.shown: own.limits}, is_ci=False)
    is_free = _needs_no_price(options, user_config(project, options))
    prices = prices_of(project, options.environ)
    return Budget(within, prices, shared=shared, allow_unpriced=is_free)


def _needs_no_price(options: RunOptions, config: UserConfig) -> bool:
    """Whether models whose price is not known may be asked although the cost is limited."""
    return options.offline or options.allow_unpriced or config.allow_unpriced


def prices_of(project: Project, environ: Mapping[str, str]) -> Prices:
    """Return the prices in the project's settings, else those of the server's kept catalogue."""
    catalogue, own = kept(project, server_of(environ))[0], read_shared(project).prices

    def price(model: str) -> Pricing | None:
        if model.casefold() in own:
            return own[model.casefold()]
        bot = catalogue.find(model) if catalogue is not None else None
        return bot.pricing if bot is not None else None

    return price
