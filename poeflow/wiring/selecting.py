"""Which instances a run is about, from what a caller said."""

from poeflow.engine.plan import Plan
from poeflow.engine.selection import Selection, check_steps, up_to
from poeflow.wiring.options import RunOptions


def selection_of(plan: Plan, options: RunOptions) -> Selection:
    """Return which instances a run is about. Raises `UsageError` where one is not in the flow."""
    check_steps(plan, options.steps)
    steps = frozenset(options.steps)
    named = up_to(plan, steps) if options.until else steps if options.only else frozenset()
    return Selection(
        named=named,
        first=options.first,
        key=options.key,
        again=steps if options.refresh else frozenset(),
        is_all_again=options.refresh and not steps,
    )
