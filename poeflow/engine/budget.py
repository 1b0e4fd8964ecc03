"""What a run may send and spend: the smallest of all limits, reserved before each send.

What an answer uses is known only once it is there. Until then its request holds a guess, and where
those under way may come to a limit the next one waits for them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from poeflow.bots import USD_PER_POINT
from poeflow.costs import Prices, cost_of
from poeflow.errors import BudgetError, UsageError
from poeflow.flowfile.model import Limits

CI_REQUESTS: Final = 200
"""How many requests a run in CI may send where nobody said how many."""
_NOTHING: Final = Decimal(0)
USUAL: Final = 1000
"""How many tokens an answer is taken to have until one of its model is there."""


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

    `unpriced` are the models without a price, or with no usage reported. `unknown` counts sends of
    which nobody knows what became of them: they may have been billed.
    """

    requests: int = 0
    tokens: int = 0
    cost_usd: Decimal | None = None
    unpriced: tuple[str, ...] = ()
    unknown: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of one answer."""

    prompt: int
    completion: int

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion


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


class Tally:
    """What was sent and spent within the limits of one owner, and what is held for requests."""

    def __init__(self, within: Bounds, prices: Prices, *, allow_unpriced: bool) -> None:
        self._bounds = within
        self._prices = prices
        self._allows_unpriced = allow_unpriced
        self._requests = 0
        self._tokens = 0
        self._untold = 0
        self._cost = Decimal(0)
        self._is_priced = False
        self._unpriced: dict[str, None] = {}
        self._unknown = 0
        self._held: dict[object, tuple[str, Usage]] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def check(self) -> None:
        """Raise `BudgetError` where a limit is reached."""
        for limit, used, unit, key in self._used():
            if limit is not None and used >= limit.value:
                message = (
                    f"the run may use {limit.value:,g} {unit} ({limit.owner})"
                    f" and has used {used:,.6g}"
                )
                raise BudgetError(message, hint=f"raise limits.{key} or --{key.replace('_', '-')}")

    def check_priced(self, models: Collection[str]) -> None:
        """Raise `UsageError` where a limit on cost cannot be kept: a model has no price."""
        if self._allows_unpriced or not (self._bounds.cost_usd or self._bounds.points):
            return
        unpriced = sorted({model for model in models if self._prices(model) is None})
        if unpriced:
            raise UsageError(
                f"the cost is limited, and the price of {', '.join(unpriced)} is not known",
                hint="run `poeflow models` to fetch prices, or add --allow-unpriced",
            )

    @property
    def is_full(self) -> bool:
        """Whether the requests under way may use all that is left."""
        if not self._held:
            return False
        tokens = sum(usage.tokens for _, usage in self._held.values())
        costs = (self.cost(model, usage) or _NOTHING for model, usage in self._held.values())
        used = self._used(tokens, sum(costs, start=_NOTHING))
        return any(limit is not None and so_far >= limit.value for limit, so_far, _, _ in used)

    async def change(self) -> None:
        """Wait until a request that is under way has come to its end."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def hold(self, request: object, model: str, guess: Usage) -> None:
        """Keep room for what a request may use."""
        self._held[request] = (model, guess)

    def release(self, request: object) -> None:
        """Give the room of a request back, and wake those who wait for it."""
        del self._held[request]
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def count_sends(self, change: int) -> None:
        self._requests += change

    def count_unknown(self) -> None:
        self._unknown += 1

    def spend(self, model: str, usage: Usage, *, is_told: bool) -> None:
        """Add what an answer used: as reported, or a guess that counts for the limits alone."""
        cost = self.cost(model, usage)
        self._cost += cost or 0
        if is_told:
            self._tokens += usage.tokens
        else:
            self._untold += usage.tokens
        if is_told and cost is not None:
            self._is_priced = True
        else:
            self._unpriced[model] = None

    def cost(self, model: str, usage: Usage) -> Decimal | None:
        """Return what an answer costs, None where the price is not known."""
        return cost_of(self._prices, model, usage.prompt, usage.completion)

    def summary(self) -> Spent:
        return Spent(
            requests=self._requests,
            tokens=self._tokens,
            cost_usd=self._cost if self._is_priced and not self._unpriced else None,
            unpriced=tuple(self._unpriced),
            unknown=self._unknown,
        )

    def _used(
        self, tokens: int = 0, cost: Decimal = _NOTHING
    ) -> Iterator[tuple[Limit | None, int | Decimal, str, str]]:
        """Yield each limit with what is used of it, were `tokens` and `cost` used, too."""
        tokens, cost = tokens + self._tokens + self._untold, cost + self._cost
        yield self._bounds.requests, self._requests, "requests", "max_requests"
        yield self._bounds.tokens, tokens, "tokens", "max_tokens"
        yield self._bounds.cost_usd, cost, "USD (estimated)", "max_cost_usd"
        yield self._bounds.points, cost / USD_PER_POINT, "points (estimated)", "max_points"


class Sending:
    """One request on its way, counted by `tallies`; making it reserves its first send.

    What became of each send is told: nothing went out, it was `refused`, it was `answered`. Where
    nothing is told, nobody knows.
    """

    def __init__(self, tallies: tuple[Tally, ...], model: str, guess: Usage) -> None:
        self._tallies = tallies
        self._model = model
        self._guess = guess
        self._is_open = False
        self._spare = 0
        self._reserve()
        self.sends = 0
        self.answers = 0
        self.used: list[Usage] = []
        """What the answers to it used, as reported: of all sends."""

    def permit(self) -> None:
        """Reserve one send. Raises `BudgetError` where a limit is reached."""
        if not self._spare:
            self._reserve()
        self._spare -= 1
        self._is_open = True
        self.sends += 1

    def unsent(self) -> None:
        """Say that nothing went out: what was reserved is there for the next send."""
        if self._is_open:
            self._is_open = False
            self._spare += 1
            self.sends -= 1

    def refused(self) -> None:
        """Say that the server said no, and of nothing it billed."""
        self._is_open = False

    def answered(self, usage: Usage | None, *, completion_tokens: int = 0) -> None:
        """Say that an answer came. `usage` is as reported; without it, it is guessed for limits."""
        self._is_open = False
        self.answers += 1
        guess = msgspec.structs.replace(self._guess, completion=completion_tokens)
        for tally in self._tallies:
            tally.spend(self._model, usage or guess, is_told=usage is not None)
        if usage is not None:
            self.used.append(usage)

    def lost(self) -> None:
        """Say that nobody knows what became of the send: it may have been billed."""
        if self._is_open:
            self._is_open = False
            for tally in self._tallies:
                tally.count_unknown()

    def close(self) -> None:
        """Give back what was reserved and not sent. A send without an end is lost."""
        self.lost()
        self._count(-self._spare)
        self._spare = 0

    @property
    def cost_usd(self) -> Decimal | None:
        """What the answers cost by the price of the model, None where that is not known."""
        costs = [self._tallies[0].cost(self._model, usage) for usage in self.used]
        known = [cost for cost in costs if cost is not None]
        return sum(known, start=Decimal(0)) if known and len(known) == len(costs) else None

    def _reserve(self) -> None:
        for tally in self._tallies:
            tally.check()
        self._count(1)
        self._spare += 1

    def _count(self, change: int) -> None:
        for tally in self._tallies:
            tally.count_sends(change)


class Budget:
    """What one flow may use, within `shared`, what all flows of a command may.

    Every request goes through `sending`: there is no other way to be permitted a send.
    """

    def __init__(
        self,
        within: Bounds,
        prices: Prices,
        *,
        shared: "Budget | None" = None,
        allow_unpriced: bool = False,
    ) -> None:
        own = Tally(within, prices, allow_unpriced=allow_unpriced)
        self.tallies: tuple[Tally, ...] = (own, *(shared.tallies if shared is not None else ()))
        self.prices = prices
        self._longest: dict[str, int] = {}
        """The longest answer of each model by now, in tokens."""

    @contextlib.asynccontextmanager
    async def sending(
        self, model: str, *, prompt_tokens: int, most: int | None
    ) -> AsyncIterator[Sending]:
        """Let a request be sent while the block lasts, retries included.

        It waits while those under way may use what is left. `prompt_tokens` is a guess, `most` how
        long the answer may be, None where nothing bounds it. Raises `BudgetError` where a limit is
        reached, and `UsageError` where the cost is limited and the model has no price.
        """
        self.check_priced((model,))
        while (full := next((tally for tally in self.tallies if tally.is_full), None)) is not None:
            await full.change()
        longest = self._longest.get(model, USUAL if most is None else min(most, USUAL))
        guess = Usage(prompt=prompt_tokens, completion=longest)
        sending = Sending(self.tallies, model, guess)
        for tally in self.tallies:
            tally.hold(sending, model, guess)
        try:
            yield sending
        finally:
            sending.close()
            for usage in sending.used:
                self._longest[model] = max(self._longest.get(model, 0), usage.completion)
            for tally in self.tallies:
                tally.release(sending)

    def check(self) -> None:
        """Raise `BudgetError` where a limit of its own is reached."""
        self.tallies[0].check()

    def check_priced(self, models: Collection[str]) -> None:
        """Raise `UsageError` where a limit on cost cannot be kept: a model has no price."""
        for tally in self.tallies:
            tally.check_priced(models)

    def summary(self) -> Spent:
        return self.tallies[0].summary()
