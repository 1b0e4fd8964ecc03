"""One request, answered: from the store, else by the model, else by those that stand in for it."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.failures import wants_other_model
from poeflow.client.finish_reasons import doubt_in, plain_name
from poeflow.client.messages import ChatRequest
from poeflow.digest import Json
from poeflow.engine.budget import Usage
from poeflow.engine.context import RunContext
from poeflow.engine.results import Source
from poeflow.engine.send import Asked, Identified, Sender
from poeflow.events import FellBack
from poeflow.flowfile.model import Output
from poeflow.redact import visible
from poeflow.store.cache import CacheEntry

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
    "refusal": ("the model refused", "change the prompt"),
    "only_calls": (
        "the model called tools, and the step has none",
        "ask again, or tell the model to answer in words",
    ),
}
_SHOWN: Final = 300


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
    request: dict[str, Json]
    answered_by: str | None = None


class Asker:
    """Answers the requests of one run. `elapsed` gives the seconds since it began."""

    def __init__(self, context: RunContext, *, elapsed: Callable[[], float]) -> None:
        self._context = context
        self._elapsed = elapsed
        self._sender = Sender(context, elapsed=elapsed)
        self._asking: dict[str, asyncio.Future[Answer]] = {}
        self._distrusted: set[str] = set()

    async def answer(self, asked: Asked, others: Iterable[Asked] = ()) -> Answer:
        """Return the answer, on disk before anyone sees it. Raises any `PoeflowError`.

        `others` are asked in turn where the first fails in a way another model may not. The same
        request twice at the same time is asked once.
        """
        whole, fingerprint = self._sender.identified(asked)
        under_way = self._asking.get(fingerprint)
        if under_way is not None:
            answer = await asyncio.shield(under_way)
            return msgspec.structs.replace(answer, source="cached")
        stored = self._accepted(asked, self._context.answers.entry, fingerprint, whole)
        if stored is not None:
            return stored
        if fingerprint == asked.known:
            raise KnownError(fingerprint)
        if asked.target is not None and not self._context.force:
            self._context.files.refuse_edited(asked.target)
        if not (self._context.asks and asked.is_asked):
            raise NotStoredError(asked, fingerprint)
        future = self._asking[fingerprint] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._ask(asked, fingerprint, whole, others)
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
        whole, first = self._sender.identified(asked)
        return self._accepted(asked, self._context.answers.end, first, whole)

    async def keep_end(self, first: Answer, last: Answer) -> None:
        """Keep how a conversation ended that took more than one request."""
        if first.fingerprint != last.fingerprint:
            link = self._context.answers.link
            await asyncio.to_thread(link, first.fingerprint, last.fingerprint)

    def distrust(self, *answers: Answer) -> None:
        """Take what is stored for these requests as not there: the lock says another answer."""
        self._distrusted |= {answer.fingerprint for answer in answers}

    def whole(self, asked: Asked) -> dict[str, Json]:
        """Return what makes a request the one it is, attachments as hashes."""
        return self._sender.whole(asked)

    def used(self, instance: str) -> list[Usage] | None:
        """Return what all answers to an instance used, as reported; None where none came."""
        return self._sender.used(instance)

    def takes_schemas(self, provider: str) -> bool:
        """Whether a provider heeds `response_format`."""
        return self._context.provider(provider).takes_schemas

    def _accepted(
        self,
        asked: Asked,
        stored: Callable[[str], CacheEntry | None],
        fingerprint: str,
        whole: dict[str, Json],
    ) -> Answer | None:
        """Return a stored answer that is complete, or flagged in a way the step accepts."""
        if self._context.selection.asks_again(asked.step) or not asked.settings.cache:
            return None
        entry = None if fingerprint in self._distrusted else stored(fingerprint)
        if entry is None:
            return None
        completion = Completion(entry.answer)
        if not is_accepted(completion, asked.output, has_tools=has_tools(asked.request)):
            return None
        return Answer(
            completion=completion,
            source="cached",
            fingerprint=fingerprint,
            request=whole,
            answered_by=entry.answered_by,
        )

    async def _ask(
        self,
        asked: Asked,
        fingerprint: str,
        whole: dict[str, Json],
        others: Iterable[Asked],
    ) -> Answer:
        answered_by: str | None = None
        try:
            completion = await self._sender.send(asked, Identified(whole, fingerprint))
        except errors.APIError as error:
            if not falls_back(error):
                raise
            standing_in = await self._fall_back(error, asked, others)
            if standing_in is None:
                raise
            completion, answered_by = standing_in
        storing = asyncio.to_thread(
            self._context.answers.put,
            fingerprint,
            completion.raw,
            answered_by=answered_by,
            request=whole,
        )
        await asyncio.shield(asyncio.ensure_future(storing))
        if fingerprint in self._distrusted:
            await asyncio.to_thread(self._context.answers.link, fingerprint, fingerprint)
            self._distrusted.discard(fingerprint)
        return Answer(
            completion=completion,
            source="asked",
            fingerprint=fingerprint,
            request=whole,
            answered_by=answered_by,
        )

    async def _fall_back(
        self, error: errors.PoeflowError, asked: Asked, others: Iterable[Asked]
    ) -> tuple[Completion, str] | None:
        """Ask the others in turn; None where there is none, or none of them answers."""
        for other in others:
            named = other.settings.named
            self._context.listen(
                FellBack(at=self._elapsed(), step=asked.step, model=named, reason=error.message)
            )
            try:
                return await self._sender.send(other), named
            except errors.APIError as again:
                if not falls_back(again):
                    raise
                error = again
        return None


def falls_back(error: errors.APIError) -> bool:
    """Whether another model may do better than the one that failed so."""
    if isinstance(error, STAYS):
        return False
    is_refused = isinstance(error, errors.APIStatusError) and wants_other_model(error)
    return is_refused or isinstance(error, FALLS_BACK)


def has_tools(request: ChatRequest) -> bool:
    """Whether a request tells of tools, so that calls may be its answer."""
    return bool(request.params.get("tools"))


def is_accepted(completion: Completion, output: Output, *, has_tools: bool) -> bool:
    """Whether an answer is complete, or flagged only in ways the step accepts."""
    return _unaccepted(completion, output, has_tools=has_tools) is None


def refuse_flagged(completion: Completion, output: Output, *, has_tools: bool) -> None:
    """Raise `StepError` where an answer is not to be used as it is."""
    flag = _unaccepted(completion, output, has_tools=has_tools)
    if flag is None:
        return
    reason = visible(" ".join((completion.finish_reason or "").split())[:_SHOWN])
    unknown = (
        f'the answer ended with "{reason}", which is not known to be a good end',
        f"ask again, or accept: [{reason}]",
    )
    message, hint = FLAGS.get(flag, unknown)
    if flag == "refusal":
        words = " ".join((completion.message.refusal or "").split())
        message += f": {words[:_SHOWN]}" + ("…" if len(words) > _SHOWN else "")
    raise errors.StepError(message, hint=hint)


def _unaccepted(completion: Completion, output: Output, *, has_tools: bool) -> str | None:
    """Return the first flag a step does not accept, by the flag's name or a finish reason's."""
    accepted = {name for one in output.accept for name in (doubt_in(one), plain_name(one))}
    is_mute = not has_tools and completion.tool_calls and not completion.text.strip()
    flags = (*completion.flags, "only_calls") if is_mute else completion.flags
    return next((flag for flag in flags if flag not in accepted), None)
