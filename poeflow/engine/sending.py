"""One request, sent to one model: within the budget, told to listeners and kept in the history."""

from collections.abc import Callable
from typing import NamedTuple, cast

import msgspec

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.messages import ChatRequest
from poeflow.client.progress import Progress, Retrying
from poeflow.digest import Json, canonical, encode_json, sha256_of
from poeflow.engine.fingerprint import identity
from poeflow.engine.means import Means, no_key
from poeflow.engine.recording import answered, refused
from poeflow.engine.telling import told
from poeflow.events import RequestSent, Warned
from poeflow.records import RequestRecord
from poeflow.redact import masked
from poeflow.spec.model import Output
from poeflow.spec.resolve import Settings


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request with what decides how it is answered.

    `step` is the instance it is for, `sample` counts the answers to one request from 0. `known` is
    the fingerprint of a request that the lock has as answered: it is not asked again. One that is
    not to be asked has a stored answer or none. `target` is the file its answer goes to: nothing is
    sent while one stands there that is not poeflow's own.
    """

    step: str
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

    def __init__(self, means: Means, *, elapsed: Callable[[], float]) -> None:
        self._means = means
        self._elapsed = elapsed

    def whole(self, asked: Asked) -> dict[str, Json]:
        """Return what makes a request the one it is, attachments as hashes."""
        return self.identified(asked).whole

    def identified(self, asked: Asked) -> Identified:
        """Return a request with its fingerprint. Raises `StepError` where it holds a key.

        Every request passes here before anything is made of it: a step's own, repairs, the results
        of tools, judges, and what is asked of models that stand in.
        """
        provider = self._means.provider(asked.settings.provider)
        whole = identity(asked.request, provider=provider.origin, sample=asked.sample)
        data = canonical(whole)
        self._means.refuse_keys(data, "the request")
        return Identified(whole, sha256_of(data))

    async def send(self, asked: Asked, known: Identified | None = None) -> Completion:
        """Return the answer of the model asked, `known` where it was identified before.

        Raises any `PoeflowError`.
        """
        identified = known or self.identified(asked)
        settings = asked.settings
        provider = self._means.provider(settings.provider)
        if provider.client is None:
            raise no_key("this step was never answered before", settings.provider, provider)
        self._means.answers.check_space()
        retries: list[str] = []
        number = await self._record(asked, identified)
        sent = RequestSent(at=self._elapsed(), step=asked.step, model=asked.request.model)
        self._means.listen(sent)
        try:
            completion = await provider.client.ask(
                asked.request,
                on_progress=lambda progress: self._tell(asked.step, progress, retries),
                attempts=settings.attempts,
                timeout=settings.timeout,
                media=asked.output.media is not None,
                permit=self._means.budget.permit,
            )
        except errors.PoeflowError as error:
            ended = refused(error, ended=self._elapsed(), retries=retries)
            self._means.recorder.answered(number, ended)
            raise
        completion = self._without_keys(asked, completion)
        ended = answered(completion, ended=self._elapsed(), retries=retries)
        self._means.recorder.answered(number, ended)
        usage = completion.usage
        self._means.budget.spent(
            asked.request.model,
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
        )
        return completion

    def _without_keys(self, asked: Asked, completion: Completion) -> Completion:
        """Return an answer that holds no key: one that a server repeats is masked, and told of."""
        raw = completion.raw
        if not self._means.keys.is_in(encode_json(raw)):
            return completion
        message = "the answer held an API key; it is kept with [key] in its place"
        self._means.listen(Warned(at=self._elapsed(), step=asked.step, message=message))
        safe = cast("dict[str, Json]", masked(raw, self._means.keys.scrubber))
        self._means.refuse_keys(encode_json(safe), "the answer")
        return Completion(safe)

    async def _record(self, asked: Asked, identified: Identified) -> int:
        """Keep a request in the history before it is sent: it may be billed from now on."""
        record = RequestRecord(
            instance=asked.step,
            fingerprint=identified.fingerprint,
            provider=asked.settings.provider,
            model=asked.request.model,
            began=self._elapsed(),
            request=identified.whole,
        )
        return await self._means.recorder.requested(record)

    def _tell(self, step: str, progress: Progress, retries: list[str]) -> None:
        if isinstance(progress, Retrying):
            retries.append(progress.error.message)
        for event in told(progress, step, self._elapsed()):
            self._means.listen(event)
