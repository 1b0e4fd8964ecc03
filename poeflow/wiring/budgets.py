"""The user's configuration, and the budget that follows from all limits there are."""

from poeflow.bots import Pricing
from poeflow.catalogue import kept
from poeflow.engine.budget import Budget, Prices, bounds
from poeflow.events import Warned
from poeflow.files import Project
from poeflow.spec.model import Limits
from poeflow.spec.shared import read_shared
from poeflow.user_config import UserConfig, find_config
from poeflow.wiring.options import RunOptions


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
    return Budget(bounds(limits, is_ci=is_ci), prices_of(project))


def budget_of(project: Project, limits: Limits, shared: Budget) -> Budget:
    """Return the budget of one flow with these limits, within the command's."""
    own = read_shared(project)
    within = bounds({"limits of the flow": limits, own.shown: own.limits}, is_ci=False)
    return Budget(within, prices_of(project), shared=shared)


def prices_of(project: Project) -> Prices:
    """Return the prices in the project's settings, else those its kept catalogue knows."""
    catalogue, own = kept(project)[0], read_shared(project).prices

    def price(model: str) -> Pricing | None:
        if model.casefold() in own:
            return own[model.casefold()]
        bot = catalogue.find(model) if catalogue is not None else None
        return bot.pricing if bot is not None else None

    return price
