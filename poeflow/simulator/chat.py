"""The simulator's chat completions: makes a reply from a body, by script, bots, account, quota."""

import math
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Final

import msgspec

from poeflow.bots import USD_PER_POINT
from poeflow.clock import Clock
from poeflow.digest import Json, sha256_of
from poeflow.simulator.bot_list import PRIVATE, BotList, SimulatedBot
from poeflow.simulator.chat_request import CompletionRequest, invalid, read_completion_request
from poeflow.simulator.completions import Envelope, completion_reply
from poeflow.simulator.faults import (
    Fault,
    FaultRecipe,
    Faults,
    Profile,
    RefusedError,
    refusal,
    spoiled,
)
from poeflow.simulator.http_messages import Headers, Reply
from poeflow.simulator.made_up_answers import MadeUpAnswer, made_up_answer
from poeflow.simulator.script_player import ScriptPlayer

DEFAULT_POINTS: Final = 1_000_000
MAX_PAGE: Final = 100
_USUAL_PAGE: Final = 20
_MAX_KEPT: Final = 10_000


class Account:
    """The points and their history, newest first."""

    def __init__(self, points: int = DEFAULT_POINTS) -> None:
        self._points = points
        self._history: deque[dict[str, Json]] = deque(maxlen=_MAX_KEPT)
        self._charged = 0

    @property
    def is_empty(self) -> bool:
        return self._points <= 0

    def charge(
        self, bot: SimulatedBot, prompt_tokens: int, completion_tokens: int, now: float
    ) -> None:
        """Charge one answer at the bot's price, rounded up to whole points."""
        usd = bot.cost(prompt_tokens, completion_tokens)
        points = math.ceil(usd / USD_PER_POINT)
        self._points -= points
        self._charged += 1
        self._history.appendleft(
            {
                "creation_time": int(now * 1_000_000),
                "bot_name": bot.name,
                "query_id": f"q{sha256_of(str(self._charged).encode())[:15]}",
                "usage_type": "API",
                "cost_points": points,
                "cost_usd": f"{usd:.6f}",
            }
        )

    def balance(self) -> dict[str, Json]:
        return {"current_point_balance": max(self._points, 0)}

    def page(self, query: Mapping[str, str]) -> dict[str, Json]:
        """Return one page of the history. Raises `RefusedError` for wrong arguments."""
        limit = query.get("limit", str(_USUAL_PAGE))
        if not limit.isdecimal() or len(limit) > 3 or not 1 <= int(limit) <= MAX_PAGE:
            raise invalid("limit", f"'limit' must be between 1 and {MAX_PAGE}")
        first = self._position(query.get("starting_after"))
        rows = list(islice(self._history, first, first + int(limit)))
        has_more = first + len(rows) < len(self._history)
        return {"has_more": has_more, "length": len(rows), "data": [*rows]}

    def _position(self, after: str | None) -> int:
        if after is None:
            return 0
        for index, row in enumerate(self._history):
            if row["query_id"] == after:
                return index + 1
        raise invalid("starting_after", "'starting_after' is not a known query_id")


WINDOW_SECONDS: Final = 60.0


class Quota:
    """Counts requests against `limit` per minute; None means no limit and no headers."""

    def __init__(self, limit: int | None, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._taken: deque[float] = deque()

    def take(self) -> Fault | None:
        """Count one request, or return the fault if it is refused, which does not count."""
        if self._limit is None:
            return None
        self._forget()
        if len(self._taken) < self._limit:
            self._taken.append(self._clock.monotonic())
            return None
        return Fault(status=429, retry_after=self._reset())

    def headers(self) -> Headers:
        """Return the rate limit headers."""
        if self._limit is None:
            return ()
        self._forget()
        return (
            ("x-ratelimit-limit-requests", str(self._limit)),
            ("x-ratelimit-remaining-requests", str(self._limit - len(self._taken))),
            ("x-ratelimit-reset-requests", str(self._reset())),
        )

    def _reset(self) -> int:
        """Return the whole seconds until the oldest request stops counting."""
        if not self._taken:
            return 0
        return max(1, math.ceil(self._taken[0] + WINDOW_SECONDS - self._clock.monotonic()))

    def _forget(self) -> None:
        now = self._clock.monotonic()
        while self._taken and self._taken[0] + WINDOW_SECONDS <= now:
            self._taken.popleft()


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is the only accepted one; with None and `key_required` any key is accepted.

    `latency` is in seconds before every answer, `rpm` limits chat requests per minute. With
    `answers_unknown` bots that are not in the catalogue answer as text bots instead of a 404.
    `recipes` are faults to simulate.
    """

    profile: Profile = "strict"
    key: str | None = None
    key_required: bool = False
    latency: float = 0.0
    rpm: int | None = None
    answers_unknown: bool = False
    recipes: tuple[FaultRecipe, ...] = ()


class ChatService:
    """Answers chat requests; `quota` counts them, `account` is charged for them."""

    def __init__(
        self, settings: SimulatorSettings, catalogue: BotList, player: ScriptPlayer, clock: Clock
    ) -> None:
        self.account = Account()
        self.quota = Quota(settings.rpm, clock)
        self._settings = settings
        self._catalogue = catalogue
        self._player = player
        self._clock = clock
        self._faults = Faults(settings.recipes)

    def reply(self, body: Json, profile: Profile, origin: str) -> Reply:
        """Return the reply to a decoded body. Raises `RefusedError`."""
        fault = self.quota.take()
        if fault is not None:
            return refusal(fault, profile)
        if not isinstance(body, dict):
            raise RefusedError(400, "The body is not a JSON object")
        bot = self._bot(body)
        if self.account.is_empty:
            raise RefusedError(402, "")
        request = read_completion_request(body, bot, profile)
        scripted = self._player.reply_to(request, origin)
        recipe = scripted.recipe or self._faults.next(request.seed)
        if scripted.error is not None:
            reply = refusal(scripted.error, profile)
        else:
            answer = scripted.answer or made_up_answer(request, origin)
            reply = self._answer_reply(request, _as_reasoning(answer, recipe), profile)
        reply = msgspec.structs.replace(reply, wait=self._settings.latency + scripted.delay)
        return spoiled(reply, recipe, profile) if recipe is not None else reply

    def _bot(self, body: Mapping[str, Json]) -> SimulatedBot:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise RefusedError(400, "'model' is missing", code="missing_parameter", param="model")
        bot = self._catalogue.bot(model)
        if bot is None and self._settings.answers_unknown and model.casefold() not in PRIVATE:
            bot = SimulatedBot(id=model.lower(), supported_features=("tools",), partly_known=True)
        if bot is None:
            raise model_not_found(model)
        return bot

    def _answer_reply(
        self, request: CompletionRequest, answer: MadeUpAnswer, profile: Profile
    ) -> Reply:
        """Charge for an answer and return its reply, streamed if requested."""
        now = self._clock.now()
        self.account.charge(request.bot, request.prompt_tokens, answer.tokens, now)
        return completion_reply(
            Envelope(request=request, answer=answer, profile=profile, created=int(now))
        )


def model_not_found(name: str) -> RefusedError:
    """Return the refusal for a bot that does not exist or is private."""
    why = "is not available" if name.casefold() in PRIVATE else "does not exist"
    return RefusedError(404, f"The model `{name[:200]}` {why}")


def _as_reasoning(answer: MadeUpAnswer, recipe: FaultRecipe | None) -> MadeUpAnswer:
    """Return the answer; for the recipe `empty` all of it as reasoning, as some bots sent it."""
    if recipe is None or recipe.kind != "empty":
        return answer
    return msgspec.structs.replace(answer, text="", reasoning=answer.reasoning + answer.text)
