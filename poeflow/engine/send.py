"""One request, sent to one model: within the budget, told to listeners and kept in the history.

Every request of a run comes through here, whatever it is for: it asks for its usage, and what it
used is counted, for the run and for its instance.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, cast

import msgspec

from poeflow import errors
from poeflow.client.aio import AsyncPoeClient
from poeflow.client.answers import Completion
from poeflow.client.commands import Progress, Retrying
from poeflow.client.messages import ChatRequest
from poeflow.costs import CHARACTERS, limit_of, tokens_of
from poeflow.digest import Json, canonical, encode_json, sha256_of
from poeflow.engine.budget import Sending, Usage
from poeflow.engine.context import RunContext, no_key
from poeflow.engine.fingerprint import identity
from poeflow.engine.record import ended_request, told
from poeflow.events import Purpose, RequestSent, Warned
from poeflow.flowfile.model import Output
from poeflow.flowfile.step_settings import Settings
from poeflow.records import RequestRecord, whole_instance
from poeflow.redact import masked

_WITH_USAGE: Final[dict[str, Json]] = {"include_usage": True}
"""A streamed answer tells what it used only where it is asked to."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request with what decides how it is answered.

    `step` is the instance it is for, `purpose` what it is to it; `sample` counts the answers to
    one request from 0. `known` is the fingerprint of a request that the lock has as answered: it is
    not asked again. One that is not to be asked has a stored answer or none. `target` is the file
    its answer goes to: nothing is sent while one stands there that is not poeflow's own.
    """

    step: str
    purpose: Purpose
    request: ChatRequest
    settings: Settings
    output: Output = Output()
    sample: int = 0
    known: str | None = None
    is_asked: bool = True
    target: str | None = None


class Identified(NamedTuple):
    """A request with attachments as hashes, and the hash of all of it."""

    whole: dict[str, Json]
    fingerprint: str


class Sender:
    """Sends the requests of one run. `elapsed` gives the seconds since it began."""

    def __init__(self, context: RunContext, *, elapsed: Callable[[], float]) -> None:
        self._context = context
        self._elapsed = elapsed
        self._used: dict[str, list[Usage]] = {}
        """What the answers to each instance used, as reported. It has all that were answered."""

    def whole(self, asked: Asked) -> dict[str, Json]:
        """Return what makes a request the one it is, attachments as hashes."""
        return self.identified(asked).whole

    def identified(self, asked: Asked) -> Identified:
        """Return a request with its fingerprint. Raises `StepError` where it holds a key.

        Every request passes here before anything is made of it: a step's own, repairs, the results
        of tools, judges, and what is asked of models that stand in.
        """
        provider = self._context.provider(asked.settings.provider)
        whole = identity(asked.request, provider=provider.origin, sample=asked.sample)
        data = canonical(whole)
        self._context.refuse_keys(data, "the request")
        return Identified(whole, sha256_of(data))

    def used(self, instance: str) -> list[Usage] | None:
        """Return what all answers to an instance used, as reported; None where none came."""
        return self._used.get(instance)

    async def send(self, asked: Asked, known: Identified | None = None) -> Completion:
        """Return the answer of the model asked, `known` where it was identified before.

        Raises any `PoeflowError`.
        """
        identified = known or self.identified(asked)
        named = asked.settings.provider
        provider = self._context.provider(named)
        if provider.client is None:
            raise no_key("this step was never answered before", named, provider)
        self._context.answers.check_place(identified.fingerprint)
        whole = identified.whole
        async with self._context.budget.sending(
            asked.request.model, prompt_tokens=tokens_of(whole), most=limit_of(whole)
        ) as sending:
            number = await self._record(asked, identified)
            self._context.listen(
                RequestSent(
                    at=self._elapsed(),
                    step=asked.step,
                    model=asked.request.model,
                    purpose=asked.purpose,
                )
            )
            attempts = Attempts(sending)
            outcome = await self._asked(provider.client, asked, attempts)
            if isinstance(outcome, Completion):
                outcome = self._without_keys(asked, outcome)
            attempts.end(outcome)
            if sending.answers:
                self._used.setdefault(whole_instance(asked.step), []).extend(sending.used)
            ended = ended_request(
                outcome,
                sending,
                ended=self._elapsed(),
                retries=tuple(attempts.reasons),
                is_free=self._context.simulated,
            )
            self._context.recorder.answered(number, ended)
        if isinstance(outcome, errors.PoeflowError):
            raise outcome
        return outcome

    async def _asked(
        self, client: AsyncPoeClient, asked: Asked, attempts: "Attempts"
    ) -> Completion | errors.PoeflowError:
        """Return the answer, or the error that the last attempt ended with."""

        def hear(progress: Progress) -> None:
            if isinstance(progress, Retrying):
                attempts.failed(progress.error)
            for event in told(progress, asked.step, self._elapsed()):
                self._context.listen(event)

        try:
            return await client.ask(
                with_usage(asked.request),
                on_progress=hear,
                attempts=asked.settings.attempts,
                timeout=asked.settings.timeout,
                media=asked.output.media is not None,
                permit=attempts.sending.permit,
            )
        except errors.PoeflowError as error:
            return error

    def _without_keys(self, asked: Asked, completion: Completion) -> Completion:
        """Return an answer that holds no key: one that a server repeats is masked, and told of."""
        raw = completion.raw
        if not self._context.keys.is_in(encode_json(raw)):
            return completion
        message = "the answer held an API key; it is kept with [key] in its place"
        self._context.listen(Warned(at=self._elapsed(), step=asked.step, message=message))
        safe = cast("dict[str, Json]", masked(raw, self._context.keys.scrubber))
        self._context.refuse_keys(encode_json(safe), "the answer")
        return Completion(safe)

    async def _record(self, asked: Asked, identified: Identified) -> int:
        """Keep a request in the history before it is sent: it may be billed from now on."""
        record = RequestRecord(
            instance=asked.step,
            purpose=asked.purpose,
            fingerprint=identified.fingerprint,
            provider=asked.settings.provider,
            model=asked.request.model,
            began=self._elapsed(),
            request=identified.whole,
        )
        return await self._context.recorder.requested(record)


class Attempts:
    """The attempts at one request: what became of each is counted, why it failed is kept."""

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
            length = len(outcome.text) + len(outcome.reasoning)
            self.sending.answered(reported(outcome), completion_tokens=length // CHARACTERS)
        else:
            self._settle(outcome)

    def _settle(self, error: errors.PoeflowError) -> None:
        """Count an attempt that failed: it may have been billed all the same."""
        usage = usage_in(error)
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


def with_usage(request: ChatRequest) -> ChatRequest:
    """Return a request that asks for what its answer used, where it streams."""
    if not request.stream:
        return request
    given = request.params.get("stream_options")
    options = {**(given if isinstance(given, dict) else {}), **_WITH_USAGE}
    params = {**request.params, "stream_options": options}
    changed: ChatRequest = msgspec.structs.replace(request, params=params)
    return changed


def reported(completion: Completion) -> Usage | None:
    """Return what an answer used, None where it does not tell."""
    usage = completion.usage
    if usage is None:
        return None
    return Usage(prompt=usage.prompt_tokens, completion=usage.completion_tokens)


def usage_in(error: errors.PoeflowError) -> Usage | None:
    """Return what an attempt used that failed: told with what had arrived, or with the error."""
    if isinstance(error, errors.TruncatedStreamError):
        found = error.completion
        return reported(found) if isinstance(found, Completion) else None
    body = error.body if isinstance(error, errors.APIStatusError) else None
    if not isinstance(body, dict):
        return None
    inner = body.get("error")
    return reported(Completion(body)) or (
        reported(Completion(inner)) if isinstance(inner, dict) else None
    )
