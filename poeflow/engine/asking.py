"""One request, answered: from the store, else by the model, else by those that stand in for it."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.messages import ChatRequest
from poeflow.client.progress import Progress
from poeflow.engine.fingerprint import fingerprint
from poeflow.engine.means import Means, no_key
from poeflow.engine.result import Source
from poeflow.engine.telling import told
from poeflow.events import FellBack
from poeflow.spec.model import Output
from poeflow.spec.resolve import Settings

FALLS_BACK: Final = (
    errors.APIConnectionError,
    errors.APIResponseError,
    errors.NotFoundError,
    errors.PermissionDeniedError,
    errors.RequestTooLargeError,
    errors.RequestTimeoutError,
    errors.ConflictError,
    errors.RateLimitError,
    errors.InternalServerError,
)
"""What another model may do better: this one is away, unknown, not allowed, busy or too small."""
STAYS: Final = (errors.ModerationError,)
"""Kinds of these that no other model is asked about: what one refused is not tried elsewhere."""

FLAGS: Final = {
    "length": ("the answer was cut at the token limit", "raise max_tokens, or accept: [length]"),
    "empty": ("the answer is empty", "ask again, or accept: [empty]"),
    "no_finish": ("the answer has no finish reason", "ask again, or accept: [no_finish]"),
    "content_filter": ("the answer was stopped by a content filter", "change the prompt"),
}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request with what decides how it is answered.

    `step` is the instance it is for, `sample` counts the answers to one request from 0. `accept`
    are the flags an answer may have.
    """

    step: str
    request: ChatRequest
    settings: Settings
    output: Output = Output()
    sample: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`answered_by` names the model that stood in for the one asked, None where none did."""

    completion: Completion
    source: Source
    fingerprint: str
    answered_by: str | None = None


class Asker:
    """Answers the requests of one run. `elapsed` gives the seconds since it began."""

    def __init__(self, means: Means, *, elapsed: Callable[[], float]) -> None:
        self._means = means
        self._elapsed = elapsed
        self._asking: dict[str, asyncio.Future[Answer]] = {}

    async def answer(self, asked: Asked, others: Iterable[Asked] = ()) -> Answer:
        """Return the answer, on disk before anyone sees it. Raises any `PoeflowError`.

        `others` are asked in turn where the first fails in a way another model may not. The same
        request twice at the same time is asked once.
        """
        identity = self._identity(asked)
        under_way = self._asking.get(identity)
        if under_way is not None:
            answer = await asyncio.shield(under_way)
            return msgspec.structs.replace(answer, source="cached")
        stored = self._stored(asked, identity)
        if stored is not None:
            return stored
        future = self._asking[identity] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._ask(asked, identity, others)
        except BaseException as error:
            if future.cancelled() or isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()  # whoever waits hears of it; where nobody does, nobody needs to
            raise
        else:
            future.set_result(answer)
            return answer
        finally:
            del self._asking[identity]

    def takes_schemas(self, provider: str) -> bool:
        """Whether a provider heeds `response_format`."""
        return self._means.provider(provider).takes_schemas

    def _identity(self, asked: Asked) -> str:
        provider = self._means.provider(asked.settings.provider)
        return fingerprint(asked.request, provider=provider.origin, sample=asked.sample)

    def _stored(self, asked: Asked, identity: str) -> Answer | None:
        """Return a stored answer that is complete, or flagged in a way the step accepts."""
        if self._means.refresh or not asked.settings.cache:
            return None
        stored = self._means.answers.entry(identity)
        if stored is None:
            return None
        completion = Completion(stored.answer)
        if not is_accepted(completion, asked.output):
            return None
        return Answer(
            completion=completion,
            source="cached",
            fingerprint=identity,
            answered_by=stored.answered_by,
        )

    async def _ask(self, asked: Asked, identity: str, others: Iterable[Asked]) -> Answer:
        answered_by: str | None = None
        try:
            completion = await self._send(asked)
        except FALLS_BACK as error:
            if isinstance(error, STAYS):
                raise
            standing_in = await self._fall_back(error, asked, others)
            if standing_in is None:
                raise
            completion, answered_by = standing_in
        storing = asyncio.to_thread(
            self._means.answers.put, identity, completion.raw, answered_by=answered_by
        )
        await asyncio.shield(asyncio.ensure_future(storing))
        return Answer(
            completion=completion,
            source="asked",
            fingerprint=identity,
            answered_by=answered_by,
        )

    async def _fall_back(
        self, error: errors.PoeflowError, asked: Asked, others: Iterable[Asked]
    ) -> tuple[Completion, str] | None:
        """Ask the others in turn; None where there is none, or none of them answers."""
        for other in others:
            named = other.settings.named
            self._means.listen(
                FellBack(at=self._elapsed(), step=asked.step, model=named, reason=error.message)
            )
            try:
                return await self._send(other), named
            except FALLS_BACK as again:
                error = again
        return None

    async def _send(self, asked: Asked) -> Completion:
        settings = asked.settings
        provider = self._means.provider(settings.provider)
        if provider.client is None:
            raise no_key("this step was never answered before", settings.provider, provider)
        completion = await provider.client.ask(
            asked.request,
            on_progress=lambda progress: self._tell(asked.step, progress),
            attempts=settings.attempts,
            timeout=settings.timeout,
            media=asked.output.media is not None,
            permit=self._means.budget.permit,
        )
        usage = completion.usage
        self._means.budget.spent(
            asked.request.model,
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
        )
        return completion

    def _tell(self, step: str, progress: Progress) -> None:
        for event in told(progress, step, self._elapsed()):
            self._means.listen(event)


def is_accepted(completion: Completion, output: Output) -> bool:
    """Whether an answer is complete, or flagged in a way the step accepts."""
    return completion.flag is None or completion.flag in output.accept


def refuse_flagged(completion: Completion, output: Output) -> None:
    """Raise `StepError` where an answer is not to be used as it is."""
    if not is_accepted(completion, output):
        message, hint = FLAGS[completion.flag or "empty"]
        raise errors.StepError(message, hint=hint)
