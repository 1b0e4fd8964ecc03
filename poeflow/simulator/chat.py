"""Chat completions: from a body to a reply, by way of the script, the bots and the faults."""

from collections.abc import Mapping

import msgspec

from poeflow.clock import Clock
from poeflow.digest import Json
from poeflow.simulator.account import Account
from poeflow.simulator.bot_list import PRIVATE, Bot, Catalogue
from poeflow.simulator.chat_request import Asked, read_asked
from poeflow.simulator.completions import Envelope, delivered
from poeflow.simulator.faults import Faults, Recipe, spoiled
from poeflow.simulator.http_messages import Reply
from poeflow.simulator.made_up_answers import Answer, simulated
from poeflow.simulator.quota import Quota
from poeflow.simulator.refusals import Profile, RefusedError, refusal
from poeflow.simulator.script_player import Stage
from poeflow.simulator.settings import Settings


class Chat:
    """Answers chat requests; `quota` counts them, what they cost is booked to `account`."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, stage: Stage, clock: Clock
    ) -> None:
        self.account = Account()
        self.quota = Quota(settings.rpm, clock)
        self._settings = settings
        self._catalogue = catalogue
        self._stage = stage
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
        asked = read_asked(body, bot, profile)
        cue = self._stage.cue(asked, origin)
        recipe = cue.recipe or self._faults.next(asked.seed)
        if cue.error is not None:
            reply = refusal(cue.error, profile)
        else:
            answer = cue.answer or simulated(asked, origin)
            reply = self._answered(asked, _emptied(answer, recipe), profile)
        reply = msgspec.structs.replace(reply, wait=self._settings.latency + cue.delay)
        return spoiled(reply, recipe, profile) if recipe is not None else reply

    def _bot(self, body: Mapping[str, Json]) -> Bot:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise RefusedError(400, "'model' is missing", code="missing_parameter", param="model")
        bot = self._catalogue.bot(model)
        if bot is None and self._settings.answers_unknown and model.casefold() not in PRIVATE:
            bot = Bot(id=model.lower(), supported_features=("tools",), partly_told=True)
        if bot is None:
            raise no_model(model)
        return bot

    def _answered(self, asked: Asked, answer: Answer, profile: Profile) -> Reply:
        """Charge for an answer and return it, streamed if so asked."""
        now = self._clock.now()
        self.account.charge(asked.bot, asked.prompt_tokens, answer.tokens, now)
        return delivered(Envelope(asked=asked, answer=answer, profile=profile, created=int(now)))


def no_model(name: str) -> RefusedError:
    """Return the refusal of a bot that is not there, or is private."""
    why = "is not available" if name.casefold() in PRIVATE else "does not exist"
    return RefusedError(404, f"The model `{name[:200]}` {why}")


def _emptied(answer: Answer, recipe: Recipe | None) -> Answer:
    """Return the answer; for the recipe `empty` as some bots gave it, all of it as reasoning."""
    if recipe is None or recipe.kind != "empty":
        return answer
    return msgspec.structs.replace(answer, text="", reasoning=answer.reasoning + answer.text)
