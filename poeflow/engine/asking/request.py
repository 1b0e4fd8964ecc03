"""A request to a model with its identity, made once, for asking, recording and freshness.

Also what asking it gives: an answer, or why there is none. And which of the answers to the requests
of an instance make it fail, and which requests are equal.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.messages import ChatRequest, DataUrl, Message, in_pieces
from poeflow.digest import Json, canonical, hash_half, sha256_of
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.message_parts import HashedUrl
from poeflow.events import Purpose, Source
from poeflow.flowfile.model import Judge, Output
from poeflow.flowfile.step_settings import Settings
from poeflow.records import InstanceStatus
from poeflow.store.answer_lines import CacheEntry

VERSION: Final = 1
SECONDS: Final = "poeflow_seconds"
"""The key of an answer for how long it took, from its first send to its end, with retries."""
_NOT_IDENTITY: Final = ("stream", "stream_options")


class OlderAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of an earlier run, at the end of a conversation that the request `first` began."""

    first: str
    entry: CacheEntry


class TakenAnswers:
    """The answers that an attempt at an instance takes, by the fingerprints of their requests.

    An answer fails until it `passed`: it cannot be read, or not be used, or is not as expected.
    If it `is_second`, the stored answers that made the first attempt fail are asked again.
    """

    def __init__(self, *, is_second: bool = False) -> None:
        self.is_second = is_second
        self._own: dict[str, bool] = {}
        """Whether each answer of the instance failed."""
        self._judging: dict[str, bool] = {}
        """Whether each answer of a judge had no verdict."""
        self._is_any_asked = False

    def take(self, fingerprint: str, *, is_judge: bool, is_asked: bool) -> None:
        """Add an answer, which may just have been asked for."""
        (self._judging if is_judge else self._own)[fingerprint] = True
        self._is_any_asked |= is_asked

    def judges_passed(self) -> None:
        """Note that the answers of judges so far had verdicts."""
        self._judging = dict.fromkeys(self._judging, False)

    def passed(self) -> None:
        """Note that nothing so far makes the instance fail."""
        self._own = dict.fromkeys(self._own, False)
        self.judges_passed()

    def blamed(self, *, is_repeat: bool) -> tuple[str, ...]:
        """Return the fingerprints of those that made an instance fail, none if any was asked for.

        If it `is_repeat`, no turn was good enough, and each of them failed. Where no answer failed
        but what was made of it did, that is the last one, or the judges of a text without any.
        """
        if self._is_any_asked:
            return ()
        if is_repeat:
            return tuple(self._own)
        for answers in (self._judging, self._own):
            if failed := tuple(name for name, is_failing in answers.items() if is_failing):
                return failed
        return tuple(self._own)[-1:] or tuple(self._judging)


class AskPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a request without a stored answer may be sent.

    `answered` is the fingerprint of a request that the lock proves answered: it is not sent again.
    If it `is_proven`, the lock proves it by other means, and it is not sent, either.
    `target` is the file for its answer: nothing is sent if that file was edited.
    `is_doubted` is whether the lock has another answer than the stored one, which is not used then;
    `older` is the answer that the lock has, if the history has it, too.
    `taken` collects the answers, if what fails is asked again.
    """

    may_send: bool = True
    answered: str | None = None
    is_proven: bool = False
    target: str | None = None
    is_doubted: bool = False
    older: OlderAnswer | None = None
    taken: TakenAnswers | None = None


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a model, with all that decides how it is answered.

    `chat` is what is sent, `identity` its deciding parts with attachments as hashes, `fingerprint`
    the sha256 of those. `instance` names its instance, `purpose` its role there; `sample` counts
    the answers to one request from 0. `output` says which answers are accepted. `secrets` are the
    values of the secret inputs that it is made with: what stands for those is revealed when sent.
    """

    instance: str
    purpose: Purpose
    chat: ChatRequest
    settings: Settings
    identity: dict[str, Json]
    fingerprint: str
    output: Output = Output()
    sample: int = 0
    policy: AskPolicy = AskPolicy()
    secrets: frozenset[str] = frozenset()

    @property
    def has_tools(self) -> bool:
        """Whether it offers tools, so that calls may be its answer."""
        return bool(self.chat.params.get("tools"))

    def passed(self) -> None:
        """Note that its answer, and those before it, do not make its instance fail."""
        if self.policy.taken is not None:
            self.policy.taken.passed()


class NotHere(msgspec.Struct, frozen=True, kw_only=True):
    """The lock says that the last run had an answer, but it is not stored here."""

    fingerprint: str


class ToBeAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that would have to be sent, but this run sends nothing; None for a command.

    Of the samples of its instance, `stored` counts those that need no request, and `judged` those
    that need only requests to judges: `judgements` that differ, as equal ones are sent once. Unless
    it `is_sure`, functions must run to know.
    """

    request: ModelRequest | None = None
    stored: int = 0
    judged: int = 0
    judgements: int = 0
    is_sure: bool = True

    @property
    def is_to_judge(self) -> bool:
        """Whether the answer is stored, and is judged."""
        return self.request is not None and self.request.purpose == "judge"

    @property
    def fingerprint(self) -> str | None:
        return None if self.request is None else self.request.fingerprint


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer on disk. `answered_by` names the fallback model that gave it, if any."""

    completion: Completion
    source: Source
    fingerprint: str
    request: dict[str, Json]
    answered_by: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, None if that is not stored with it."""
        found = self.completion.raw.get(SECONDS)
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None


class UnusableAnswerError(errors.StepError):
    """A stored answer cannot be used: the same run takes it again, and does not ask."""


class EqualRequests:
    """The first requests of the instances of a survey: equal ones are sent once in a run."""

    def __init__(self) -> None:
        self._names: list[str] = []
        """The instances, as often as they were noted."""
        self._halves = array("Q")
        """Half of the hash of the request of each: a table has many."""
        self._sharing: dict[str, tuple[str, ...]] = {}
        """What those have in common that share answers, for instances where it is anything."""
        self._judged: set[int] = set()
        """The hashes of questions, each with how answers to it are judged."""

    def note(self, name: str, request: str, settings: Settings) -> None:
        """Note the `request` of an instance, by its fingerprint or the hash in the lock.

        With other fallback models an instance may ask those, if the model that was asked first
        fails. Without a cache it takes the answer to an equal request only while that is sent.
        """
        self._names.append(name)
        self._halves.append(hash_half(request))
        sharing = settings.fallback if settings.cache else (name,)
        if sharing:
            self._sharing[name] = sharing

    def is_unjudged(self, question: str, judges: Sequence[Judge]) -> bool:
        """Whether these judges are asked about an answer to a question for the first time.

        Another answer to it may be equal, and then its judges are asked once for both.
        """
        found = {hash((question, repr((one.rubric, one.rubrics)))) for one in judges}
        is_first = self._judged.isdisjoint(found)
        self._judged |= found
        return is_first

    def counted_once(self, statuses: Iterable[InstanceStatus]) -> Iterable[InstanceStatus]:
        """Return statuses of which each has only what the ones before it do not send."""
        equal = self._equal()
        return self._counted_once(statuses, equal) if equal else statuses

    def _equal(self) -> dict[str, int]:
        """Return the requests of the instances that are not alone with them."""
        several = {one for one, other in pairwise(sorted(self._halves)) if one == other}
        if not several:
            return {}
        pairs = zip(self._names, self._halves, strict=True)
        found = dict.fromkeys(pair for pair in pairs if pair[1] in several)
        counts = Counter([half for _, half in found])
        return {name: half for name, half in found if counts[half] > 1}

    def _counted_once(
        self, statuses: Iterable[InstanceStatus], equal: Mapping[str, int]
    ) -> Iterator[InstanceStatus]:
        sent: dict[int, _Sent] = {}
        for status in statuses:
            request = equal.get(status.id)
            if request is not None and status.kinds:
                sharing = self._sharing.get(status.id, ())
                yield sent.setdefault(request, _Sent()).counted(status, sharing)
            else:
                yield status


class _Sent:
    """What is sent for one request, and after it, by the instances that are counted so far."""

    def __init__(self) -> None:
        self._sure: Counter[str] = Counter()
        self._answers: Counter[tuple[str, ...]] = Counter()

    def counted(self, status: InstanceStatus, sharing: tuple[str, ...]) -> InstanceStatus:
        """Return a status without what the others send, and count it.

        What follows an equal answer may be equal, too, so no more of it is sure than of theirs.
        """
        sure, answers = Counter(self._sure), Counter(self._answers)
        kinds = []
        for one in status.kinds:
            least, most = one.least - min(one.least, sure[one.purpose]), one.most
            sure[one.purpose] -= one.least - least
            if one.purpose == "answer":
                most = max(least, most - min(most, answers[sharing]))
            kinds.append(msgspec.structs.replace(one, least=least, most=most))
        own: Counter[str] = Counter()
        for one in status.kinds:
            own[one.purpose] += one.least
        self._sure |= own
        self._answers |= Counter({sharing: _most_answers(status)})
        found = msgspec.structs.replace(
            status, kinds=tuple(kinds), calls=sum(one.least for one in kinds)
        )
        if status.most_calls is None:
            return found
        return msgspec.structs.replace(found, most_calls=sum(one.most for one in kinds))


def _most_answers(status: InstanceStatus) -> int:
    return sum(one.most for one in status.kinds if one.purpose == "answer")


class Requests:
    """Makes the requests of one run; none of them holds a key."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self.equal = EqualRequests()

    def make(
        self,
        chat: ChatRequest,
        settings: Settings,
        *,
        instance: str,
        purpose: Purpose,
        output: Output | None = None,
        sample: int = 0,
        policy: AskPolicy | None = None,
        secrets: frozenset[str] = frozenset(),
    ) -> ModelRequest:
        """Return a request with its fingerprint. Raises `StepError` if it holds a key.

        Every request is made here: a step's own, repairs, the results of tools, judges, and what
        is sent to fallback models.
        """
        origin = self._context.providers[settings.provider].origin
        whole = identity(chat, provider=origin, sample=sample)
        data = canonical(whole)
        self._context.refuse_keys(data, "the request")
        return ModelRequest(
            instance=instance,
            purpose=purpose,
            chat=chat,
            settings=settings,
            identity=whole,
            fingerprint=sha256_of(data),
            output=output or Output(),
            sample=sample,
            policy=policy or AskPolicy(),
            secrets=secrets,
        )

    def following(
        self, request: ModelRequest, messages: tuple[Message, ...], purpose: Purpose
    ) -> ModelRequest:
        """Return the request that continues `request` with more `messages`.

        If it required a tool call, the new one does not.
        """
        params: dict[str, Json] = dict(request.chat.params)
        if params.get("tool_choice") not in (None, "auto", "none"):
            params["tool_choice"] = "auto"
        chat: ChatRequest = msgspec.structs.replace(
            request.chat, messages=(*request.chat.messages, *messages), params=params
        )
        return self.make(
            chat,
            request.settings,
            instance=request.instance,
            purpose=purpose,
            output=request.output,
            sample=request.sample,
            policy=request.policy,
            secrets=request.secrets,
        )

    def last(self, request: ModelRequest, stored: CacheEntry) -> ModelRequest | None:
        """Return the last request of the conversation that `request` began.

        None if `stored`, its answer, is that of another conversation.
        """
        said = messages_in(stored.request)[len(request.chat.messages) :]
        try:
            more = msgspec.convert(said, tuple[Message, ...])
        except msgspec.ValidationError:
            return None
        last = self.following(request, more, "tools") if more else request
        return last if last.fingerprint == stored.fingerprint else None


def identity(request: ChatRequest, *, provider: str, sample: int = 0) -> dict[str, Json]:
    """Return the parts that decide a request, as plain data.

    `provider` is its name, or its origin if the base URL was overridden. Attachments count by
    media type and bytes; whether the answer streams does not count. The first of several samples
    is the request itself.
    """
    body = request.body(_by_hash)
    for key in _NOT_IDENTITY:
        if key in body:
            del body[key]
    whole: dict[str, object] = {"version": VERSION, "provider": provider, "body": body}
    if sample:
        whole["sample"] = sample
    plain: dict[str, Json] = msgspec.to_builtins(whole)
    return plain


def messages_by_hash(messages: Sequence[Message]) -> list[Json]:
    """Return messages as they are in the identity of a request."""
    body = ChatRequest(model="", messages=tuple(messages)).body(_by_hash)
    plain: list[Json] = msgspec.to_builtins(body["messages"])
    return plain


def messages_in(request: Mapping[str, Json] | None) -> list[Json]:
    """Return the messages in the identity of a request."""
    body = None if request is None else request.get("body")
    found = body.get("messages") if isinstance(body, dict) else None
    return found if isinstance(found, list) else []


def _by_hash(url: DataUrl) -> str:
    digest = url.sha256 if isinstance(url, HashedUrl) else sha256_of(b"".join(in_pieces(url.data)))
    return f"data:{url.media_type};sha256,{digest}"
