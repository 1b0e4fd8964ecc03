"""One request, answered: from the store, else by the model, else by a fallback model."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from types import TracebackType
from typing import Final, TypeVar

import msgspec

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.failures import wants_other_model
from poeflow.client.finish_reasons import doubt_in, plain_name
from poeflow.digest import short_hash
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.request import (
    Answer,
    ModelRequest,
    NotHere,
    OlderAnswer,
    Requests,
    TakenAnswers,
    ToBeAsked,
)
from poeflow.engine.asking.sender import FreshAnswer, Pause, Sender
from poeflow.events import FellBack
from poeflow.flowfile.model import Output
from poeflow.redact import visible
from poeflow.store.answer_lines import CacheEntry

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
"""Errors after which a fallback model is asked: the model is unavailable, unknown, not allowed,
busy or too small."""
STAYS: Final = (errors.ModerationError,)
"""Kinds of these without a fallback: a refused request is not sent to another model."""
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
_Found = TypeVar("_Found")


class Announced(AbstractContextManager[asyncio.Future[Answer | None]]):
    """Makes equal requests wait for an answer until the block ends: a class, as each is announced.

    They get None if this one is cancelled, or runs out of time: then one of them is sent.
    """

    def __init__(self, asking: dict[str, asyncio.Future[Answer | None]], fingerprint: str) -> None:
        self._asking = asking
        self._fingerprint = fingerprint
        self._future = asyncio.get_running_loop().create_future()

    def __enter__(self) -> asyncio.Future[Answer | None]:
        self._asking[self._fingerprint] = self._future
        return self._future

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        del self._asking[self._fingerprint]
        if isinstance(error, asyncio.CancelledError):
            self._future.set_result(None)
        elif error is not None:
            self._future.set_exception(error)
            self._future.exception()  # waiting requests get it; without any, it is not needed


class Asker:
    """Answers the requests of one run. `elapsed` gives the seconds since it began.

    `pause` stops the time limit of a step until what it returns is called.
    """

    def __init__(self, context: RunContext, *, elapsed: Callable[[], float], pause: Pause) -> None:
        self.requests = Requests(context)
        self._context = context
        self._elapsed = elapsed
        self._sender = Sender(context, elapsed=elapsed, pause=pause)
        self.take_used = self._sender.take_used
        self._asking: dict[str, asyncio.Future[Answer | None]] = {}
        self._replaced: set[bytes] = set()
        """The fingerprints of requests whose stored answer this run has replaced."""
        self._renewed: set[bytes] = set()
        """The fingerprints of requests that are sent again, as their stored answer fails."""

    async def answer(
        self, request: ModelRequest, others: Iterable[ModelRequest] = ()
    ) -> Answer | NotHere | ToBeAsked:
        """Return the answer, stored before it is used. Raises any `PoeflowError`.

        `others` are the same request to fallback models, sent in turn if the first fails in a way
        that another model may not. Equal requests at the same time are sent once; if that fails,
        each goes on with its own `others`.
        """
        first = last = None
        while (under_way := self._asking.get(request.fingerprint)) is not None:
            try:
                shared = await asyncio.shield(under_way)
            except errors.APIError as error:
                if not _may_fall_back(error):
                    raise
                first, last = first or error, error
                continue
            if shared is not None and _may_take(request, shared.answered_by):
                return self._noted(request, msgspec.structs.replace(shared, source="cached"))
        found = self.without_asking(request)
        if found is not None:
            return self._noted(request, found)
        with Announced(self._asking, request.fingerprint) as future:
            for candidate in chain(() if last else (request,), others):
                if last is not None:
                    self._report_fallback(candidate, last)
                try:
                    sent = await self._sender.send(candidate)
                    break
                except errors.APIError as error:
                    if not _may_fall_back(error):
                        raise
                    first, last = first or error, error
            else:
                raise first or AssertionError("the request itself is the first candidate")
            answered_by = None if candidate is request else candidate.settings.named
            answer = await self._stored(request, sent, answered_by)
            future.set_result(answer)
        return self._noted(request, answer)

    def mends(self, instance: str) -> bool:
        """Whether this run asks again what fails in an instance."""
        return self._context.selection.mends(instance)

    async def answer_twice(
        self,
        attempt: Callable[[TakenAnswers], Awaitable[_Found]],
        *,
        is_failing: Callable[[_Found], bool],
        is_repeated: bool = False,
    ) -> _Found:
        """Return what an attempt finds; if stored answers make it fail, those are asked again.

        That is done once. If it `is_repeated`, it is in turns. Raises what `attempt` raises.
        """
        taken = TakenAnswers()
        try:
            found = await attempt(taken)
            if not is_failing(found) or not self._renew(taken.blamed(is_repeat=is_repeated)):
                return found
        except errors.StepError:
            if not self._renew(taken.blamed(is_repeat=False)):
                raise
        return await attempt(TakenAnswers(is_second=True))

    def _renew(self, fingerprints: Iterable[str]) -> bool:
        """Have requests sent again though their answers are stored, but for what this run asked.

        Return whether there are any.
        """
        found = {bytes.fromhex(one) for one in fingerprints} - self._replaced
        self._renewed |= found
        return bool(found)

    def without_asking(self, request: ModelRequest) -> Answer | NotHere | ToBeAsked | None:
        """Return a stored answer, or why there is none; None if the request is to be sent now."""
        stored = self._accepted(request, self._entry)
        if stored is not None:
            return stored
        policy = request.policy
        answered = policy.answered
        is_proven = policy.is_proven or (answered and answered == short_hash(request.fingerprint))
        if is_proven and not (policy.may_send and self._context.asks_again(request.settings)):
            return NotHere(fingerprint=request.fingerprint)
        is_replaced = self._context.force or self._context.trial_tree is not None
        if policy.target is not None and not is_replaced:
            self._context.files.refuse_edited(policy.target)
        may_send = self._context.asks and policy.may_send
        return None if may_send else ToBeAsked(request=request)

    def to_be_asked(
        self, request: ModelRequest, *, has_answers: bool, may_go_on: bool
    ) -> ToBeAsked | None:
        """Return that a run which sends nothing would have to send a request.

        None if an answer to it may be stored, as the store `has_answers`; or one to what followed
        it, if a conversation `may_go_on`.
        """
        if not has_answers:
            return ToBeAsked(request=request)
        if may_go_on and self.stored_end(request) is not None:
            return None
        found = self.without_asking(request)
        return found if isinstance(found, ToBeAsked) else None

    def stored_end(self, request: ModelRequest) -> Answer | None:
        """Return the last answer of the conversation that a request began, None if none is stored.

        With it, no tools or repairs are needed.
        """
        return self._accepted(request, self._end)

    def last_stored(self, request: ModelRequest) -> Answer | None:
        """Return the end of the conversation that a request began, else the answer to itself."""
        return self.stored_end(request) or self._accepted(request, self._entry)

    def older_answers(self, request: ModelRequest) -> Iterator[tuple[OlderAnswer, Answer]]:
        """Yield the answers that earlier runs got to a request, the newest first.

        They are the ends of conversations, as `stored_end`. If this run has asked again, none is.
        """
        if bytes.fromhex(request.fingerprint) in self._replaced:
            return
        for entry in self._context.answers.older(request.fingerprint):
            older = OlderAnswer(first=request.fingerprint, entry=entry)
            policy = msgspec.structs.replace(request.policy, older=older)
            answer = self._accepted(msgspec.structs.replace(request, policy=policy), self._end)
            if answer is not None:
                yield older, answer

    def last_request(self, request: ModelRequest) -> ModelRequest | None:
        """Return the last request of the conversation that a request began, with all messages.

        None if its answer is not stored, or is that of another conversation.
        """
        entry = self._end(request)
        return None if entry is None else self.requests.last(request, entry)

    async def store_end(self, first: Answer, last: Answer) -> None:
        """Store the end of a conversation of more than one request."""
        if first.fingerprint != last.fingerprint:
            await self._context.answers.store_end(first.fingerprint, last.fingerprint)

    def cost_usd(self, request: ModelRequest, answer: Answer) -> float | None:
        """Return what an answer cost, by the price its model has now; None if that is not known."""
        if self._context.simulated:
            return 0.0
        completion = answer.completion
        other = completion.model or answer.answered_by
        model = request.chat.model if answer.answered_by is None else other
        return self._context.budget.cost_usd(model or "", completion)

    @property
    def may_run(self) -> bool:
        """Whether this run may send requests and call functions."""
        return self._context.asks

    def takes_schemas(self, provider: str) -> bool:
        """Whether a provider supports `response_format`."""
        return self._context.providers[provider].takes_schemas

    def _entry(self, request: ModelRequest) -> CacheEntry | None:
        """Return the stored answer to a request, or the older one that the lock proves."""
        older, fingerprint = request.policy.older, request.fingerprint
        if older is not None and older.first == older.entry.fingerprint == fingerprint:
            return older.entry
        return self._context.answers.entry(fingerprint)

    def _end(self, request: ModelRequest) -> CacheEntry | None:
        """Return the same for the last answer of the conversation that a request began."""
        older = request.policy.older
        if older is not None and older.first == request.fingerprint:
            return older.entry
        return self._context.answers.end(request.fingerprint)

    def _accepted(
        self, request: ModelRequest, stored: Callable[[ModelRequest], CacheEntry | None]
    ) -> Answer | None:
        """Return a stored answer that is complete, or flagged in a way the step accepts."""
        fingerprint, is_asked = request.fingerprint, not request.settings.cache
        if self._replaces(request):
            is_asked |= bytes.fromhex(fingerprint) not in self._replaced
        entry = None if is_asked else stored(request)
        if entry is None or not _may_take(request, entry.answered_by):
            return None
        completion = Completion(entry.answer)
        if not is_accepted(completion, request.output, has_tools=request.has_tools):
            return None
        return Answer(
            completion=completion,
            source="cached",
            fingerprint=fingerprint,
            request=request.identity,
            answered_by=entry.answered_by,
        )

    def _noted(
        self, request: ModelRequest, found: Answer | NotHere | ToBeAsked
    ) -> Answer | NotHere | ToBeAsked:
        """Return what was found for a request, noted if what fails is asked again."""
        if isinstance(found, Answer) and request.policy.taken is not None:
            is_judge, is_asked = request.purpose == "judge", found.source == "asked"
            request.policy.taken.take(request.fingerprint, is_judge=is_judge, is_asked=is_asked)
        return found

    def _replaces(self, request: ModelRequest) -> bool:
        """Whether a request is sent though an answer is stored; an equal one then gets its answer.

        Two answers to one request would replace each other: one of them would be asked for again.
        """
        is_refreshed = self._context.selection.refreshes(request.instance)
        if self._renewed and bytes.fromhex(request.fingerprint) in self._renewed:
            return True
        return is_refreshed or request.policy.is_doubted

    async def _stored(
        self, request: ModelRequest, sent: FreshAnswer, answered_by: str | None
    ) -> Answer:
        """Store a completion, even if the run is cancelled, record it, and return the answer."""
        fingerprint, answers = request.fingerprint, self._context.answers
        completion, record, stored = sent.completion, sent.record, None
        try:
            await answers.store(
                fingerprint, completion.raw, answered_by=answered_by, request=request.identity
            )
            record, stored = msgspec.structs.replace(record, answer=None), fingerprint
        finally:
            self._context.recorder.answered(sent.number, record, stored=stored)
        if self._replaces(request) or self._context.selection.failed:
            self._replaced.add(bytes.fromhex(fingerprint))
        if request.policy.is_doubted:
            await answers.store_end(fingerprint, fingerprint)
        return Answer(
            completion=completion,
            source="asked",
            fingerprint=fingerprint,
            request=request.identity,
            answered_by=answered_by,
        )

    def _report_fallback(self, candidate: ModelRequest, error: errors.APIError) -> None:
        self._context.listen(
            FellBack(
                at=self._elapsed(),
                step=candidate.instance,
                model=candidate.settings.named,
                reason=error.message,
            )
        )


def _may_take(request: ModelRequest, answered_by: str | None) -> bool:
    """Whether a stored answer is one to a request: not another model's if its step has no fallback.

    It is if the lock says that the request was answered.
    """
    is_locked = request.policy.answered == short_hash(request.fingerprint)
    is_proven = request.policy.is_proven or is_locked
    return answered_by is None or bool(request.settings.fallback) or is_proven


def _may_fall_back(error: errors.APIError) -> bool:
    """Whether a fallback model is asked after this error."""
    if isinstance(error, STAYS):
        return False
    is_refused = isinstance(error, errors.APIStatusError) and wants_other_model(error)
    return is_refused or isinstance(error, FALLS_BACK)


def is_accepted(completion: Completion, output: Output, *, has_tools: bool) -> bool:
    """Whether an answer is complete, or flagged only in ways the step accepts."""
    return _unaccepted(completion, output, has_tools=has_tools) is None


def refuse_flagged(completion: Completion, output: Output, *, has_tools: bool) -> None:
    """Raise `StepError` if an answer has a flag that the step does not accept."""
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
    """Return the first flag that a step does not accept: a flag's name or a finish reason."""
    flags = completion.flags
    if not has_tools and not completion.text.strip() and completion.tool_calls:
        flags = (*flags, "only_calls")
    if not flags:
        return None
    accepted = {name for one in output.accept for name in (doubt_in(one), plain_name(one))}
    return next((flag for flag in flags if flag not in accepted), None)
