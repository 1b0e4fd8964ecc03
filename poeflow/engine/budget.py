"""What a run may send and spend: the smallest of all limits, reserved before each send.

Tokens and cost are known only once an answer is there: answers under way may go beyond them.
"""

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from poeflow.catalogue import USD_PER_POINT
from poeflow.errors import BudgetError, UsageError
from poeflow.spec.model import Limits

CI_REQUESTS: Final = 200
"""How many requests a run in CI may send where nobody said how many."""


class Price(Protocol):
    """What a model costs."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """Return the cost of an answer in USD, None where it is not known."""


Prices = Callable[[str], Price | None]


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A bound and who set it: the flow, the command line, your configuration."""

    value: float
    owner: str


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What is bounded, each by the smallest limit anyone set."""

    requests: Limit | None = None
    tokens: Limit | None = None
    cost_usd: Limit | None = None
    points: Limit | None = None


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent. `cost_usd` is estimated, None where the price of a model is not known.

    `unpriced` are the models without a price, or with no usage reported.
    """

    requests: int = 0
    tokens: int = 0
    cost_usd: Decimal | None = None
    unpriced: tuple[str, ...] = ()


def bounds(limits: Mapping[str, Limits], *, is_ci: bool) -> Bounds:
    """Return the smallest of limits, which are given by who set them."""
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


class Budget:
    """Counts what is sent and spent: by one flow, within `shared`, by all flows of a command."""

    def __init__(self, within: Bounds, prices: Prices, *, shared: "Budget | None" = None) -> None:
        self._shared = shared
        self._bounds = within
        self._prices = prices
        self._requests = 0
        self._tokens = 0
        self._cost = Decimal(0)
        self._is_priced = False
        self._unpriced: dict[str, None] = {}

    def permit(self) -> None:
        """Reserve one send. Raises `BudgetError` where a limit is reached."""
        self.check()
        if self._shared is not None:
            self._shared.permit()
        self._requests += 1

    def check(self) -> None:
        """Raise `BudgetError` where a limit of its own is reached."""
        points = self._cost / USD_PER_POINT
        self._check(self._bounds.requests, self._requests, "requests", "max_requests")
        self._check(self._bounds.tokens, self._tokens, "tokens", "max_tokens")
        self._check(self._bounds.cost_usd, self._cost, "USD (estimated)", "max_cost_usd")
        self._check(self._bounds.points, points, "points (estimated)", "max_points")

    def spent(self, model: str, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Add what an answer used, as reported."""
        if self._shared is not None:
            self._shared.spent(model, prompt_tokens, completion_tokens)
        if prompt_tokens is None or completion_tokens is None:
            self._unpriced[model] = None
            return
        self._tokens += prompt_tokens + completion_tokens
        price = self._prices(model)
        cost = price.cost(prompt_tokens, completion_tokens) if price is not None else None
        if cost is None:
            self._unpriced[model] = None
        else:
            self._is_priced = True
            self._cost += cost

    def check_priced(self, models: Collection[str], *, allow_unpriced: bool) -> None:
        """Raise `UsageError` where a limit on cost cannot be kept: a model has no price."""
        if self._shared is not None:
            self._shared.check_priced(models, allow_unpriced=allow_unpriced)
        limit = self._bounds.cost_usd or self._bounds.points
        if limit is None or allow_unpriced:
            return
        unpriced = sorted({model for model in models if self._prices(model) is None})
        if unpriced:
            raise UsageError(
                f"the cost is limited, and the price of {', '.join(unpriced)} is not known",
                hint="run `poeflow models` to fetch prices, or add --allow-unpriced",
            )

    def summary(self) -> Spent:
        return Spent(
            requests=self._requests,
            tokens=self._tokens,
            cost_usd=self._cost if self._is_priced and not self._unpriced else None,
            unpriced=tuple(self._unpriced),
        )

    def _check(self, limit: Limit | None, used: float | Decimal, unit: str, key: str) -> None:
        if limit is None or used < limit.value:
            return
        message = (
            f"the run may use {limit.value:,g} {unit} ({limit.owner}) and has used {used:,.6g}"
        )
        raise BudgetError(message, hint=f"raise limits.{key} or --{key.replace('_', '-')}")
