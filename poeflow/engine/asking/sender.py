"""A request, sent: within the budget, recorded before it is sent, and reported.

Its usage is counted for the run and for its instance.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.calls import Delta, Progress, Retrying
from poeflow.client.messages import ChatRequest, Part, TextPart
from poeflow.client.retry import Pace, RateLimiter
from poeflow.costs import size_of
from poeflow.digest import LONG, Json, encode_json
from poeflow.engine.asking.context import Provider, RunContext, no_key
from poeflow.engine.asking.request import SECONDS, ModelRequest
from poeflow.engine.asking.spending import Attempts, Guess, Sending, TokenUsage
from poeflow.events import Event, RequestSent, RetryPlanned, TextArrived, Warned
from poeflow.records import AnswerRecord, RequestRecord, whole_instance
from poeflow.redact import Secret, masked

_WITH_USAGE: Final[dict[str, Json]] = {"include_usage": True}
"""Without this option a streamed answer reports no usage."""
_NO_GUESS: Final = Guess(prompt=0, completion=0)
"""For a request where nothing limits what is used."""

_WITH_SECRETS: Final = ("system", "user")
"""The roles whose messages may hold stand-ins of secret inputs."""
_Written = str | tuple[Part, ...] | None
"""The content of a message."""
Pause = Callable[[], Callable[[], None]]
"""Stops the time limit of a step until what it returns is called."""


class FreshAnswer(msgspec.Struct, frozen=True):
    """The answer to a request, the number of the request in the history, and what goes there."""

    completion: Completion
    number: int
    record: AnswerRecord


class Sender:
    """Sends the requests of one run. `elapsed` gives the seconds since it began.

    `pause` stops the time limit of a step until what it returns is called.
    """

    def __init__(self, context: RunContext, *, elapsed: Callable[[], float], pause: Pause) -> None:
        self._context = context
        self._elapsed = elapsed
        self._pause = pause
        self._has_checked_lock = False
        self._limiters: dict[tuple[str, int | None, int | None], RateLimiter] = {}
        """Those of aliases with limits of their own."""
        self._used: dict[str, list[TokenUsage]] = {}
        """The reported usage of each instance that was answered."""

    def take_used(self, instance: str) -> list[TokenUsage] | None:
        """Return the reported usage of an ended instance, None without an answer."""
        return self._used.pop(instance, None)

    async def send(self, request: ModelRequest) -> FreshAnswer:
        """Return the answer of the model. Raises any `PoeflowError`."""
        named = request.settings.provider
        provider = self._context.providers[named]
        if provider.client is None:
            raise no_key("this step was never answered before", named, provider)
        self._check_disk(request.fingerprint)
        budget, model, guess = self._context.budget, request.chat.model, _NO_GUESS
        limiters = self._limiters_of(request, provider)
        if limiters or budget.limited:
            size, most = size_of(request.identity)
            guess = await budget.room(model, prompt_tokens=size, most=most)
        pace = Pace(limiters, guess.tokens, self._context.clock.monotonic) if limiters else None
        with budget.sending(model, guess) as sending:
            number = await self._begin(request)
            departure = Departure(sending, self._elapsed, self._pause())
            attempts = Attempts(sending)
            outcome: Completion | errors.PoeflowError
            try:
                completion = await provider.client.ask(
                    _with_secrets(_with_usage(request.chat), self._secrets(request)),
                    on_progress=partial(self._report, request.instance, attempts),
                    hears_text=self._context.hears_text,
                    attempts=request.settings.attempts,
                    timeout=request.settings.timeout,
                    media=request.output.media is not None,
                    permit=departure.permit,
                    pace=None if pace is None else pace.wait,
                )
                if pace is not None and (usage := completion.usage) is not None:
                    pace.used(usage.total_tokens)
                outcome = self._timed(completion, departure)
            except errors.PoeflowError as error:
                outcome = error
            finally:
                departure.go_on()
            outcome, record = self._end(request, outcome, attempts)
        if isinstance(outcome, errors.PoeflowError):
            self._context.recorder.answered(number, record)
            raise outcome
        return FreshAnswer(outcome, number, record)

    def _check_disk(self, fingerprint: str) -> None:
        """Raise `DiskError` if the answer could not be stored, or the lock not be written."""
        lock = self._context.lock
        if lock is not None and not self._has_checked_lock:
            lock.check_folder()
            self._has_checked_lock = True
        self._context.answers.check_can_store(fingerprint)

    def _secrets(self, request: ModelRequest) -> dict[str, Secret]:
        """Return the secrets that a request is made with, by their stand-ins.

        A stand-in in it may also come from a file or an answer: others than these stay.
        """
        known, own = self._context.secrets, request.secrets
        if not known:
            return {}
        return {one: known[one] for one in known if any(one in value for value in own)}

    def _limiters_of(self, request: ModelRequest, provider: Provider) -> list[RateLimiter]:
        """Return those that limit when a request is sent: of its provider, and of its alias."""
        settings, found = request.settings, [provider.limiter]
        limits = settings.requests_per_minute, settings.tokens_per_minute
        if limits != (None, None):
            key = (settings.named, *limits)
            if key not in self._limiters:
                self._limiters[key] = self._context.limiters.of(
                    *key, per_minute=limits[0], tokens_per_minute=limits[1]
                )
            found.append(self._limiters[key])
        return [one for one in found if one.is_limited]

    def _timed(self, completion: Completion, departure: "Departure") -> Completion:
        """Return an answer with how long it took, in place of what a server says under that key."""
        took = 0.0 if departure.at is None else self._elapsed() - departure.at
        return Completion({**completion.raw, SECONDS: round(took, 3)})

    async def _begin(self, request: ModelRequest) -> int:
        """Record and report a request before it is sent, as it may be billed from then on."""
        began = self._elapsed()
        number = await self._context.recorder.requested(
            RequestRecord(
                instance=request.instance,
                purpose=request.purpose,
                fingerprint=request.fingerprint,
                provider=request.settings.provider,
                model=request.chat.model,
                began=began,
                request=request.identity,
            )
        )
        self._context.listen(
            RequestSent(
                at=self._elapsed(),
                step=request.instance,
                model=request.chat.model,
                purpose=request.purpose,
            )
        )
        return number

    def _report(self, instance: str, attempts: Attempts, progress: Progress) -> None:
        """Report arriving text, and record failed attempts."""
        if isinstance(progress, Retrying):
            attempts.failed(progress.error)
        for event in _events_of(progress, instance, self._elapsed()):
            self._context.listen(event)

    def _end(
        self,
        request: ModelRequest,
        outcome: Completion | errors.PoeflowError,
        attempts: Attempts,
    ) -> tuple[Completion | errors.PoeflowError, AnswerRecord]:
        """Count how a request ended; return it, an answer without keys in it, and its record."""
        attempts.end(outcome)
        if isinstance(outcome, Completion):
            try:
                outcome = self._without_keys(request.instance, outcome)
            except errors.StepError as error:
                outcome = error
        sending = attempts.sending
        if sending.answers:
            self._used.setdefault(whole_instance(request.instance), []).extend(sending.used)
        is_free = self._context.simulated
        return outcome, attempts.record(outcome, ended=self._elapsed(), is_free=is_free)

    def _without_keys(self, instance: str, completion: Completion) -> Completion:
        """Return an answer without keys: if a server repeats one, mask and report it."""
        raw = completion.raw
        keys, is_long = self._context.keys, len(completion.text) > LONG
        if not (keys.is_in_json(dict(raw)) if is_long else keys.is_in(encode_json(raw))):
            return completion
        message = "the answer held a key or a secret input; it is stored masked"
        self._context.listen(Warned(at=self._elapsed(), step=instance, message=message))
        safe = masked(dict(raw), self._context.keys.scrubber)
        self._context.refuse_keys_in(safe, "the answer")
        return Completion(safe)


class Departure:
    """When a request was first sent, None before: until then it may wait for a rate limit.

    `go_on` is called once, then or when it ends without a send.
    """

    def __init__(
        self, sending: Sending, elapsed: Callable[[], float], go_on: Callable[[], None]
    ) -> None:
        self.at: float | None = None
        self._go_on: Callable[[], None] | None = go_on
        self._sending = sending
        self._elapsed = elapsed

    def permit(self) -> None:
        """Count a send that begins now. Raises `BudgetError`."""
        self._sending.permit()
        if self.at is None:
            self.at = self._elapsed()
            self.go_on()

    def go_on(self) -> None:
        """End the pause of the time limit, if it has not ended."""
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            go_on()


def _events_of(progress: Progress, step: str, at: float) -> tuple[Event, ...]:
    """Return the events of one piece of progress of `step`, `at` seconds into the run."""
    if isinstance(progress, Delta):
        pieces = [
            TextArrived(at=at, step=step, text=progress.reasoning, kind="reasoning"),
            TextArrived(at=at, step=step, text=progress.text),
        ]
        return tuple(piece for piece in pieces if piece.text)
    error = progress.error
    return (
        RetryPlanned(
            at=at,
            step=step,
            attempt=progress.attempt,
            wait=progress.wait,
            reason=error.message,
            status=error.status_code if isinstance(error, errors.APIStatusError) else None,
        ),
    )


def _with_secrets(request: ChatRequest, secrets: Mapping[str, Secret]) -> ChatRequest:
    """Return the request with the values of secret inputs in place of their stand-ins."""
    if not secrets:
        return request
    messages = tuple(
        msgspec.structs.replace(message, content=_revealed(message.content, secrets))
        if message.role in _WITH_SECRETS
        else message
        for message in request.messages
    )
    changed: ChatRequest = msgspec.structs.replace(request, messages=messages)
    return changed


def _revealed(content: _Written, secrets: Mapping[str, Secret]) -> _Written:
    if isinstance(content, str):
        for stand_in, secret in secrets.items():
            content = content.replace(stand_in, secret.reveal())
        return content
    return content and tuple(
        TextPart(text=str(_revealed(part.text, secrets))) if isinstance(part, TextPart) else part
        for part in content
    )


def _with_usage(request: ChatRequest) -> ChatRequest:
    """Return the request with the option to report usage, if its answer is streamed."""
    if not request.stream:
        return request
    given = request.params.get("stream_options")
    options = {**(given if isinstance(given, dict) else {}), **_WITH_USAGE}
    params = {**request.params, "stream_options": options}
    changed: ChatRequest = msgspec.structs.replace(request, params=params)
    return changed
