"""One request, answered: from the store, else by the model, else by those that stand in for it."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.messages import ChatRequest
from poeflow.client.progress import Progress
from poeflow.digest import Json, sha256_of_json
from poeflow.engine.fingerprint import identity
from poeflow.engine.means import Means, no_key
from poeflow.engine.result import Source
from poeflow.engine.telling import told
from poeflow.events import FellBack, RequestSent
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

    `step` is the instance it is for, `sample` counts the answers to one request from 0. `known` is
    the fingerprint of a request that the lock has as answered: it is not asked again. One that is
    not to be asked has a stored answer or none.
    """

    step: str
    request: ChatRequest
    settings: Settings
    output: Output = Output()
    sample: int = 0
    known: str | None = None
    is_asked: bool = True


class UnaskedError(errors.PoeflowError):
    """Nothing was sent, and that is no failure."""


class NotStoredError(UnaskedError):
    """A request would have to be sent, and nothing is sent now."""

    def __init__(self, asked: Asked, identity: str) -> None:
        super().__init__(f"{asked.step} must be asked")
        self.asked = asked
        self.identity = identity


class KnownError(UnaskedError):
    """A request was answered by the last run, as the lock says, and the answer is not here."""

    def __init__(self, identity: str) -> None:
        super().__init__("the answer is not here")
        self.identity = identity


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
        fingerprint = self._identity(asked)
        under_way = self._asking.get(fingerprint)
        if under_way is not None:
            answer = await asyncio.shield(under_way)
            return msgspec.structs.replace(answer, source="cached")
        stored = self._stored(asked, fingerprint)
        if stored is not None:
            return stored
        if fingerprint == asked.known:
            raise KnownError(fingerprint)
        if not (self._means.asks and asked.is_asked):
            raise NotStoredError(asked, fingerprint)
        future = self._asking[fingerprint] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._ask(asked, fingerprint, others)
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
            del self._asking[fingerprint]

    def ended(self, asked: Asked) -> Answer | None:
        """Return the last answer of the conversation a request began before, None where it did not.

        Then neither tools nor repairs are needed again.
        """
        if self._means.selection.asks_again(asked.step) or not asked.settings.cache:
            return None
        first = self._identity(asked)
        entry = self._means.answers.end(first)
        if entry is None:
            return None
        completion = Completion(entry.answer)
        if not is_accepted(completion, asked.output):
            return None
        return Answer(
            completion=completion,
            source="cached",
            fingerprint=first,
            answered_by=entry.answered_by,
        )

    async def keep_end(self, first: Answer, last: Answer) -> None:
        """Keep how a conversation ended that took more than one request."""
        if first.fingerprint != last.fingerprint:
            link = self._means.answers.link
            await asyncio.to_thread(link, first.fingerprint, last.fingerprint)

    def takes_schemas(self, provider: str) -> bool:
        """Whether a provider heeds `response_format`."""
        return self._means.provider(provider).takes_schemas

    def _identity(self, asked: Asked) -> str:
        return sha256_of_json(self.whole(asked))

    def whole(self, asked: Asked) -> dict[str, Json]:
        """Return what makes a request the one it is, attachments as hashes."""
        provider = self._means.provider(asked.settings.provider)
        return identity(asked.request, provider=provider.origin, sample=asked.sample)

    def _stored(self, asked: Asked, fingerprint: str) -> Answer | None:
        """Return a stored answer that is complete, or flagged in a way the step accepts."""
        if self._means.selection.asks_again(asked.step) or not asked.settings.cache:
            return None
        stored = self._means.answers.entry(fingerprint)
        if stored is None:
            return None
        completion = Completion(stored.answer)
        if not is_accepted(completion, asked.output):
            return None
        return Answer(
            completion=completion,
            source="cached",
            fingerprint=fingerprint,
            answered_by=stored.answered_by,
        )

    async def _ask(self, asked: Asked, fingerprint: str, others: Iterable[Asked]) -> Answer:
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
        whole = self.whole(asked)
        storing = asyncio.to_thread(
            self._means.answers.put,
            fingerprint,
            completion.raw,
            answered_by=answered_by,
            request=whole,
        )
        await asyncio.shield(asyncio.ensure_future(storing))
        return Answer(
            completion=completion,
            source="asked",
            fingerprint=fingerprint,
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
        sent = RequestSent(at=self._elapsed(), step=asked.step, model=asked.request.model)
        self._means.listen(sent)
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
