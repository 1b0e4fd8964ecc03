"""What a run may send and spend: the smallest of all limits, reserved before each send.

The usage of an answer is known only when it arrives. Until then an estimate is reserved for its
request, and if running requests may reach a limit, the next one waits for them.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from operator import attrgetter
from typing import Final, TypedDict

import msgspec

from poeflow import errors
from poeflow.bots import USD_PER_POINT
from poeflow.client.answers import Completion
from poeflow.costs import CHARACTERS, PeriodSpending, Prices, cost_of
from poeflow.records import AnswerRecord

USUAL: Final = 1000
"""Tokens assumed for an answer until the model has answered once."""
_NOTHING: Final = Decimal(0)
_PROMPT: Final = attrgetter("prompt")
_COMPLETION: Final = attrgetter("completion")


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit, and its source: the flow, the command line, or your configuration."""

    value: float
    owner: str


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a run, each the smallest of all sources."""

    requests: Limit | None = None
    tokens: Limit | None = None
    cost_usd: Limit | None = None
    points: Limit | None = None


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent. `cost_usd` is estimated, None if the price of a model is not known.

    `unpriced` are the models without a price, or with no usage reported. `unknown` counts sends
    whose outcome is unknown: they may have been billed.
    """

    requests: int = 0
    tokens: int = 0
    cost_usd: Decimal | None = None
    unpriced: tuple[str, ...] = ()
    unknown: int = 0


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of one answer. `cost_usd` is None if the price of its model is not known."""

    prompt: int
    completion: int
    cost_usd: Decimal | None = None

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion


class Guess(TokenUsage, frozen=True, kw_only=True):
    """What a request may use, and what it costs at least, whatever its answer: for its prompt."""

    least_usd: Decimal | None = None


class TokenCounts(TypedDict):
    """The tokens of prompts and of answers, None if they are not known."""

    prompt_tokens: int | None
    completion_tokens: int | None


def token_counts(used: Sequence[TokenUsage] | None) -> TokenCounts:
    """Return all that answers used, as records and events have it."""
    return {
        "prompt_tokens": sum(map(_PROMPT, used)) if used else None,
        "completion_tokens": sum(map(_COMPLETION, used)) if used else None,
    }


def cost_in(used: Sequence[TokenUsage] | None) -> float | None:
    """Return what answers cost, None without any, or if the price of one is not known."""
    known = [usage.cost_usd for usage in used or () if usage.cost_usd is not None]
    return float(sum(known)) if known and len(known) == len(used or ()) else None


class Budget:
    """The limits of one flow, within `shared`, those of all flows of a command.

    Every request goes through `sending`: nothing else permits a send.
    """

    def __init__(
        self,
        within: Bounds,
        prices: Prices,
        *,
        shared: "Budget | None" = None,
        allow_unpriced: bool = False,
    ) -> None:
        own = Tally(within, allow_unpriced=allow_unpriced)
        self.tallies: tuple[Tally, ...] = (own, *(shared.tallies if shared is not None else ()))
        self.limited = tuple(tally for tally in self.tallies if tally.is_bounded)
        """Those that may refuse a request: only what these hold and check is of use."""
        self.prices = prices
        self._longest: dict[str, int] = {}
        """The longest answer of each model so far, in tokens."""

    async def room(self, model: str, *, prompt_tokens: int, most: int | None) -> Guess:
        """Wait while running requests may use what is left; return a guess of what one will use.

        `prompt_tokens` is right within a factor of two, `most` the maximum length of the answer, if
        it has one. Raises `BudgetError` if a limit is reached, `UsageError` if the cost is limited
        and the model has no price.
        """
        self.check_priced(lambda: (model,))
        usual = USUAL if most is None else min(most, USUAL)
        while True:
            longest = self._longest.get(model, usual)
            if not self.limited:
                return Guess(prompt=prompt_tokens, completion=longest)
            guess = Guess(
                prompt=prompt_tokens,
                completion=longest,
                cost_usd=cost_of(self.prices, model, prompt_tokens, longest),
                least_usd=cost_of(self.prices, model, prompt_tokens // 2, 0),
            )
            full = next((one for one in self.limited if one.is_full(guess)), None)
            if full is None:
                return guess
            await full.change()

    def sending(self, model: str, guess: Guess) -> "Sending":
        """Permit a request, with its retries, until the block ends that this begins.

        There must be `room` for it, with nothing awaited since. Raises `BudgetError`.
        """
        for tally in self.limited:
            tally.check_room(guess)
        sending = Sending(self, model, guess)
        for tally in self.limited:
            tally.hold(sending, guess)
        return sending

    def ended(self, sending: "Sending") -> None:
        """Release what was reserved for a request, and learn from its answers."""
        for usage in sending.used:
            longest = self._longest.get(sending.model, 0)
            self._longest[sending.model] = max(longest, usage.completion)
        for tally in self.limited:
            tally.release(sending)

    def limit_period(self, limit: Limit, spending: PeriodSpending) -> None:
        """Limit the cost of a period, of which other runs have spent a part."""
        own = Bounds(cost_usd=limit)
        free = self.tallies[0].allows_unpriced
        period = Tally(own, allow_unpriced=free, spending=spending)
        self.tallies, self.limited = (*self.tallies, period), (*self.limited, period)

    def check(self) -> None:
        """Raise `BudgetError` if a limit of its own is reached."""
        self.tallies[0].check()

    def check_priced(self, models: Callable[[], Collection[str]]) -> None:
        """Raise `UsageError` if a limit on cost cannot be applied: a model has no price."""
        if not any(tally.needs_prices for tally in self.limited):
            return
        unpriced = sorted({model for model in models() if self.prices(model) is None})
        if unpriced:
            raise errors.UsageError(
                f"the cost is limited, and the price of {', '.join(unpriced)} is not known",
                hint="run `poeflow models` to fetch prices, or add --allow-unpriced",
            )

    def priced(self, model: str, used: TokenUsage) -> TokenUsage:
        """Return the usage of an answer with its cost, None if the price is not known."""
        cost = cost_of(self.prices, model, used.prompt, used.completion)
        return TokenUsage(prompt=used.prompt, completion=used.completion, cost_usd=cost)

    def cost_usd(self, model: str, completion: Completion) -> float | None:
        """Return what an answer costs by the price of a model, None if that is not known."""
        used = _reported(completion)
        cost = None if used is None else self.priced(model, used).cost_usd
        return None if cost is None else float(cost)

    def summary(self) -> Spent:
        return self.tallies[0].summary()


class Sending(AbstractContextManager["Sending"]):
    """One running request, counted by the tallies of `budget`; making it reserves its first send.

    Call `unsent`, `refused`, `answered` or `lost` after each send; without a call, it counts as
    lost at the end of the block.
    """

    def __init__(self, budget: Budget, model: str, guess: Guess) -> None:
        self._budget = budget
        self.model = model
        self.guess = guess
        self._is_open = False
        self._spare = 0
        self._reserve()
        self.sends = 0
        self.answers = 0
        self.used: list[TokenUsage] = []
        """The reported usage of all its answers."""

    def permit(self) -> None:
        """Reserve one send. Raises `BudgetError` if a limit is reached."""
        if not self._spare:
            self._reserve()
        self._spare -= 1
        self._is_open = True
        self.sends += 1

    def unsent(self) -> None:
        """Note that nothing was sent: the reservation is used for the next send."""
        if self._is_open:
            self._is_open = False
            self._spare += 1
            self.sends -= 1

    def refused(self) -> None:
        """Note that the server refused the request and billed nothing."""
        self._is_open = False

    def answered(self, usage: TokenUsage | None, *, completion_tokens: int = 0) -> None:
        """Note an answer. `usage` is as reported; without it, limits use an estimate."""
        self._is_open = False
        self.answers += 1
        spent = usage or msgspec.structs.replace(self.guess, completion=completion_tokens)
        spent = self._budget.priced(self.model, spent)
        for tally in self._budget.tallies:
            tally.spend(self.model, spent, is_reported=usage is not None)
        if usage is not None:
            self.used.append(spent)

    def lost(self) -> None:
        """Note that the outcome of the send is unknown: it may have been billed."""
        if self._is_open:
            self._is_open = False
            for tally in self._budget.tallies:
                tally.unknown += 1

    def __exit__(self, *_error: object) -> None:
        """Release reservations that were not sent. A send without an outcome is lost."""
        self.lost()
        if self._spare:
            self._count(-self._spare)
        self._budget.ended(self)

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost of the answers by the model's price, None if that is not known."""
        priced = [usage.cost_usd for usage in self.used if usage.cost_usd is not None]
        is_known = bool(priced) and len(priced) == len(self.used)
        return sum(priced, start=_NOTHING) if is_known else None

    def _reserve(self) -> None:
        for tally in self._budget.limited:
            tally.check()
        self._count(1)
        self._spare += 1

    def _count(self, change: int) -> None:
        for tally in self._budget.tallies:
            tally.requests += change


class Attempts:
    """The attempts at one request: counts how each ended, and stores why it failed."""

    def __init__(self, sending: Sending) -> None:
        self.sending = sending
        self.reasons: list[str] = []

    def failed(self, error: errors.APIError) -> None:
        """Note an attempt after which another follows."""
        self.reasons.append(error.message)
        self._settle(error)

    def end(self, outcome: Completion | errors.PoeflowError) -> None:
        """Note how the last one ended."""
        if isinstance(outcome, Completion):
            used, length = _reported(outcome), 0
            if used is None:
                length = len(outcome.text) + len(outcome.reasoning)
            self.sending.answered(used, completion_tokens=length // CHARACTERS)
        else:
            self._settle(outcome)

    def record(
        self, outcome: Completion | errors.PoeflowError, *, ended: float, is_free: bool
    ) -> AnswerRecord:
        """Return the record of how the request ended, with the usage of all attempts.

        If it `is_free`, it costs nothing, whatever the model's price.
        """
        cost = None if is_free else self.sending.cost_usd
        record = AnswerRecord(
            ended=ended,
            answer=dict(outcome.raw) if isinstance(outcome, Completion) else None,
            retries=tuple(self.reasons),
            sends=self.sending.sends,
            cost_usd=None if cost is None else float(cost),
            **token_counts(self.sending.used),
        )
        if isinstance(outcome, Completion):
            return record
        kind = errors.EXIT_CLASSES[outcome.exit_code]
        return msgspec.structs.replace(record, error=str(outcome), error_class=kind)

    def _settle(self, error: errors.PoeflowError) -> None:
        """Count an attempt that failed: it may have been billed all the same."""
        usage = _usage_in(error)
        match error:
            case _ if usage is not None:
                self.sending.answered(usage)
            case errors.APIStatusError():
                self.sending.refused()
            case errors.APIConnectionError(was_sent=False):
                self.sending.unsent()
            case errors.APIConnectionError() | errors.APIResponseError():
                self.sending.lost()
            case _:
                self.sending.unsent()


def _reported(completion: Completion) -> TokenUsage | None:
    """Return the usage of an answer, None if it reports none."""
    usage = completion.usage
    if usage is None:
        return None
    return TokenUsage(prompt=usage.prompt_tokens, completion=usage.completion_tokens)


def _usage_in(error: errors.PoeflowError) -> TokenUsage | None:
    """Return the usage of a failed attempt, from the arrived part or the error."""
    if isinstance(error, errors.TruncatedStreamError):
        found = error.completion
        return _reported(found) if isinstance(found, Completion) else None
    body = error.body if isinstance(error, errors.APIStatusError) else None
    if not isinstance(body, dict):
        return None
    inner = body.get("error")
    return _reported(Completion(body)) or (
        _reported(Completion(inner)) if isinstance(inner, dict) else None
    )


class Tally:
    """What was sent and spent within the limits of one owner, and what is reserved.

    With `spending` it limits the cost of a period, and no request is sent that may exceed it.
    """

    def __init__(
        self,
        within: Bounds,
        *,
        allow_unpriced: bool,
        spending: PeriodSpending | None = None,
    ) -> None:
        self._spending = spending
        self.bounds = within
        self.is_bounded = any(limit is not None for limit in msgspec.structs.astuple(within))
        self.allows_unpriced = allow_unpriced
        self.needs_prices = not allow_unpriced and bool(within.cost_usd or within.points)
        self.requests = 0
        self._tokens = 0
        self._estimated_tokens = 0
        self._cost = _NOTHING if spending is None else spending.cost_usd
        self._is_priced = False
        self._unpriced: dict[str, None] = {}
        self.unknown = 0
        self._held: dict[object, tuple[int, Decimal]] = {}
        self._held_tokens = 0
        self._held_cost = _NOTHING
        self._waiting: list[asyncio.Future[None]] = []

    def check(self) -> None:
        """Raise `BudgetError` if a limit is reached."""
        if self._spending is not None:
            self._check_period(_NOTHING)
            return
        for limit, used, unit, key in self._used():
            if limit is not None and used >= limit.value:
                raise _spent_error(limit, unit, key, f"has used {used:,.6g}")

    def check_room(self, guess: Guess) -> None:
        """Raise `BudgetError` if a request may exceed the limit of a period, or surely another."""
        if self._spending is not None:
            self._check_period(guess.cost_usd or _NOTHING)
            return
        more = self._used(cost=guess.least_usd or _NOTHING)
        for (limit, after, unit, key), (_, used, _, _) in zip(more, self._used(), strict=True):
            if limit is not None and after > limit.value:
                words = f"has used {used:,.6g}, and the next request takes at least about"
                raise _spent_error(limit, unit, key, f"{words} {after - used:,.3g}")

    def _check_period(self, more: Decimal) -> None:
        limit, spending = self.bounds.cost_usd, self._spending
        if limit is None or spending is None:
            raise AssertionError("a period has a limit on cost")
        if spending.has_ended():
            self._cost = _NOTHING
        if self._cost + more > limit.value or self._cost >= limit.value:
            period = spending.period
            next_one = f", and the next request may use {more:,.3g}" if more else ""
            raise errors.BudgetError(
                f"all runs of {period.name} may use {limit.value:,g} USD (estimated,"
                f" {limit.owner}) and have used {self._cost:,.6g}{next_one}",
                hint=f"raise --{period.key.replace('_', '-')}, or run later",
            )

    def is_full(self, guess: TokenUsage) -> bool:
        """Whether the running requests may use all that is left; of a period with one more."""
        if not self._held:
            return False
        if self._spending is not None and self.bounds.cost_usd is not None:
            more = self._held_cost + (guess.cost_usd or _NOTHING)
            return self._cost + more > self.bounds.cost_usd.value
        used = self._used(self._held_tokens, self._held_cost)
        return any(limit is not None and so_far >= limit.value for limit, so_far, _, _ in used)

    async def change(self) -> None:
        """Wait until a running request has ended."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def hold(self, request: object, guess: TokenUsage) -> None:
        """Reserve what a request may use."""
        cost = guess.cost_usd or _NOTHING
        self._held[request] = guess.tokens, cost
        self._held_tokens += guess.tokens
        self._held_cost += cost

    def release(self, request: object) -> None:
        """Release what was reserved for a request, and wake waiting ones."""
        tokens, cost = self._held.pop(request)
        self._held_tokens -= tokens
        self._held_cost -= cost
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def spend(self, model: str, usage: TokenUsage, *, is_reported: bool) -> None:
        """Add the usage of an answer: as reported, or an estimate that counts only for limits."""
        self._cost += usage.cost_usd or 0
        if is_reported:
            self._tokens += usage.tokens
        else:
            self._estimated_tokens += usage.tokens
        if is_reported and usage.cost_usd is not None:
            self._is_priced = True
        else:
            self._unpriced[model] = None

    def summary(self) -> Spent:
        return Spent(
            requests=self.requests,
            tokens=self._tokens,
            cost_usd=self._cost if self._is_priced and not self._unpriced else None,
            unpriced=tuple(self._unpriced),
            unknown=self.unknown,
        )

    def _used(
        self, tokens: int = 0, cost: Decimal = _NOTHING
    ) -> Iterator[tuple[Limit | None, float, str, str]]:
        """Yield each limit with its use, if `tokens` and `cost` were used, too."""
        tokens, cost = tokens + self._tokens + self._estimated_tokens, cost + self._cost
        yield self.bounds.requests, self.requests, "requests", "max_requests"
        yield self.bounds.tokens, tokens, "tokens", "max_tokens"
        yield self.bounds.cost_usd, float(cost), "USD (estimated)", "max_cost_usd"
        points = float(cost / USD_PER_POINT)  # a zero as decimal has an exponent
        yield self.bounds.points, points, "points (estimated)", "max_points"


def _spent_error(limit: Limit, unit: str, key: str, use: str) -> errors.BudgetError:
    hint = f"raise limits.{key} or --{key.replace('_', '-')}"
    return errors.BudgetError(
        f"the run may use {limit.value:,g} {unit} ({limit.owner}) and {use}", hint=hint
    )
